// Package audit compares what the API wants of kube-proxy on a node with what
// the kernel's rules do with packets. It is given both: it watches nothing and
// reads no rules itself. What is wanted follows pkg/proxy of Kubernetes 1.37.
package audit

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Service is what is kept of a Service.
type Service struct {
	Name                         string // namespace/name
	ClusterIPs                   []netip.Addr
	ExternalIPs, LoadBalancerIPs []netip.Addr
	SourceRanges                 []netip.Prefix
	Ports                        []Port
	InternalLocal, ExternalLocal bool
	// Sticky is for how long a client stays with an endpoint; 0 if it does not.
	Sticky time.Duration
	// Written is when the API server last wrote the object, by its own clock, in
	// seconds since the epoch; 0 if the object does not say.
	Written int64
}

// Same is whether two want the same.
func (s *Service) Same(o *Service) bool {
	if s == nil || o == nil {
		return s == o
	}
	a, b := *s, *o
	a.Written, b.Written = 0, 0
	return reflect.DeepEqual(&a, &b)
}

// Port is one of a Service, or of an EndpointSlice.
type Port struct {
	Name     string
	Protocol uint8
	Port     uint16
	NodePort uint16
}

// Slice is what is kept of an EndpointSlice.
type Slice struct {
	Service   string // namespace/name
	Ports     []Port
	Endpoints []Endpoint
	Written   int64 // as of a Service
}

// Same is whether two want the same.
func (s *Slice) Same(o *Slice) bool {
	if s == nil || o == nil {
		return s == o
	}
	a, b := *s, *o
	a.Written, b.Written = 0, 0
	return reflect.DeepEqual(&a, &b)
}

// written is when an object was last changed, by what the API server notes of who
// changed it; 0 if it notes nothing.
func written(m *metav1.ObjectMeta) (seconds int64) {
	for i := range m.ManagedFields {
		if t := m.ManagedFields[i].Time; t != nil {
			seconds = max(seconds, t.Unix())
		}
	}
	return seconds
}

// Endpoint is an address behind a Service.
type Endpoint struct {
	Address netip.Addr
	Local   bool
	Ready   bool
	Serving bool
	// Terminating ones get traffic only if there are no ready ones.
	Terminating bool
	// Hints are the zones and nodes that it is for; nil if it is for all.
	Hints *Hints

	port uint16 // where it is one of a port
}

// Hints are whom an endpoint is for.
type Hints struct{ Zones, Nodes []string }

// Protocols by their number.
const (
	TCP  = 6
	UDP  = 17
	SCTP = 132
)

func protocolOf(p corev1.Protocol) uint8 {
	switch p {
	case corev1.ProtocolUDP:
		return UDP
	case corev1.ProtocolSCTP:
		return SCTP
	}
	return TCP
}

func protocolName(p uint8) string {
	return map[uint8]string{TCP: "tcp", UDP: "udp", SCTP: "sctp"}[p]
}

// What kube-proxy does not look at (cmd/kube-proxy/app/server.go): Services that
// are for another proxy or headless, and EndpointSlices of headless ones.
const (
	labelProxyName = "service.kubernetes.io/service-proxy-name"
	labelHeadless  = corev1.IsHeadlessService
)

// ServiceOf keeps what matters of a Service; nil if kube-proxy does nothing for it.
func ServiceOf(s *corev1.Service) *Service {
	if _, foreign := s.Labels[labelProxyName]; foreign || s.Spec.Type == corev1.ServiceTypeExternalName || s.Spec.ClusterIP == "" || s.Spec.ClusterIP == corev1.ClusterIPNone {
		return nil
	}
	w := &Service{
		Name: s.Namespace + "/" + s.Name, Written: written(&s.ObjectMeta), ExternalIPs: addresses(s.Spec.ExternalIPs),
		InternalLocal: s.Spec.InternalTrafficPolicy != nil && *s.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal,
		ExternalLocal: s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal && externallyAccessible(s),
	}
	w.ClusterIPs = addresses(append([]string{s.Spec.ClusterIP}, s.Spec.ClusterIPs...))
	if s.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		w.Sticky = 3 * time.Hour
		if c := s.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
			w.Sticky = time.Duration(*c.ClientIP.TimeoutSeconds) * time.Second
		}
	}
	for _, i := range s.Status.LoadBalancer.Ingress {
		if i.IPMode == nil || *i.IPMode == corev1.LoadBalancerIPModeVIP {
			w.LoadBalancerIPs = append(w.LoadBalancerIPs, addresses([]string{i.IP})...)
		}
	}
	for _, text := range s.Spec.LoadBalancerSourceRanges {
		if p, err := netip.ParsePrefix(strings.TrimSpace(text)); err == nil {
			w.SourceRanges = append(w.SourceRanges, p.Masked())
		}
	}
	for _, p := range s.Spec.Ports {
		w.Ports = append(w.Ports, Port{p.Name, protocolOf(p.Protocol), uint16(p.Port), uint16(p.NodePort)})
	}
	return w
}

// externallyAccessible is whether a traffic policy for what comes from outside
// means anything.
func externallyAccessible(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer || s.Spec.Type == corev1.ServiceTypeNodePort || s.Spec.Type == corev1.ServiceTypeClusterIP && len(s.Spec.ExternalIPs) > 0
}

// addresses are those that can be read, each once.
func addresses(texts []string) (out []netip.Addr) {
	for _, t := range texts {
		if a, err := netip.ParseAddr(t); err == nil && !slices.Contains(out, a.Unmap()) {
			out = append(out, a.Unmap())
		}
	}
	return out
}

// Keeper makes Slices, and holds what many of them say once.
type Keeper struct {
	Node  string
	hints map[string]*Hints
}

// SliceOf keeps what matters of an EndpointSlice; nil if kube-proxy does not look
// at it. zone is the node's own, if one of its endpoints is there and says so.
func (k *Keeper) SliceOf(s *discoveryv1.EndpointSlice) (w *Slice, zone string) {
	service := s.Labels[discoveryv1.LabelServiceName]
	if _, headless := s.Labels[labelHeadless]; headless || service == "" || s.AddressType == discoveryv1.AddressTypeFQDN {
		return nil, ""
	}
	w = &Slice{Service: s.Namespace + "/" + service, Written: written(&s.ObjectMeta), Ports: make([]Port, 0, len(s.Ports)), Endpoints: make([]Endpoint, 0, len(s.Endpoints))}
	for _, p := range s.Ports {
		if p.Name != nil && p.Port != nil && *p.Port != 0 && p.Protocol != nil {
			w.Ports = append(w.Ports, Port{Name: *p.Name, Protocol: protocolOf(*p.Protocol), Port: uint16(*p.Port)})
		}
	}
	is := func(b *bool, otherwise bool) bool {
		if b == nil {
			return otherwise
		}
		return *b
	}
	for _, e := range s.Endpoints {
		if len(e.Addresses) == 0 {
			continue
		}
		a, err := netip.ParseAddr(e.Addresses[0]) // the only one that kube-proxy looks at
		if err != nil {
			continue
		}
		c := e.Conditions
		one := Endpoint{Address: a.Unmap(), Ready: is(c.Ready, true), Serving: is(c.Serving, true), Terminating: is(c.Terminating, false), Hints: k.hintsOf(e.Hints)}
		if one.Local = e.NodeName != nil && *e.NodeName == k.Node; one.Local && e.Zone != nil {
			zone = *e.Zone
		}
		w.Endpoints = append(w.Endpoints, one)
	}
	return w, zone
}

func (k *Keeper) hintsOf(h *discoveryv1.EndpointHints) *Hints {
	if h == nil || len(h.ForZones) == 0 && len(h.ForNodes) == 0 {
		return nil
	}
	w := &Hints{}
	for _, z := range h.ForZones {
		w.Zones = append(w.Zones, z.Name)
	}
	for _, n := range h.ForNodes {
		w.Nodes = append(w.Nodes, n.Name)
	}
	text := strings.Join(w.Zones, ",") + ";" + strings.Join(w.Nodes, ",")
	if known := k.hints[text]; known != nil {
		return known
	}
	if k.hints == nil || len(k.hints) > maxHints {
		k.hints = map[string]*Hints{}
	}
	k.hints[text] = w
	return w
}

// maxHints bounds what a Keeper holds; with more it begins anew.
const maxHints = 10_000
