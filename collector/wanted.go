package collector

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// wantedService is what is kept of a Service: what is needed to ask it.
type wantedService struct {
	name  string // namespace/name
	vips  []netip.Addr
	ports []wantedPort
	// localOnly and localNodePort say that only the node's own endpoints get what
	// comes to the VIP, or to the node's port.
	localOnly, localNodePort bool
	// sticky says that a client stays with an endpoint.
	sticky bool
	// probe is how it is asked, by its annotation or label; empty if it has none.
	probe string
	// dns says that it is the cluster's DNS.
	dns bool
}

// wantedPort is a port of a Service, or of an EndpointSlice.
type wantedPort struct {
	name     string
	udp      bool
	other    bool // neither TCP nor UDP
	port     uint16
	nodePort uint16
}

// wantedSlice is what is kept of an EndpointSlice.
type wantedSlice struct {
	service   string // namespace/name
	ports     []wantedPort
	endpoints []wantedEndpoint
	// canary is what its annotations say of the canary.
	canary canaryWord
}

type wantedEndpoint struct {
	address netip.Addr
	node    string
	ready   bool
	// serving says that it may get traffic while it ends, if no other is ready.
	serving bool
}

func portFrom(name string, protocol corev1.Protocol, port, nodePort int32) wantedPort {
	return wantedPort{name, protocol == corev1.ProtocolUDP, protocol != corev1.ProtocolUDP && protocol != corev1.ProtocolTCP && protocol != "", uint16(port), uint16(nodePort)}
}

func wantedServiceOf(s *corev1.Service) *wantedService {
	w := &wantedService{
		name: s.Namespace + "/" + s.Name, sticky: s.Spec.SessionAffinity == corev1.ServiceAffinityClientIP,
		localNodePort: s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
		localOnly:     s.Spec.InternalTrafficPolicy != nil && *s.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal,
		dns:           s.Labels["k8s-app"] == "kube-dns",
	}
	w.probe = boundProbe(cmp.Or(s.Annotations[ProbeAnnotation], s.Labels[ProbeAnnotation]))
	for _, text := range slices.Concat([]string{s.Spec.ClusterIP}, s.Spec.ClusterIPs) {
		if a, err := netip.ParseAddr(text); err == nil && !slices.Contains(w.vips, a) {
			w.vips = append(w.vips, a)
		}
	}
	for _, p := range s.Spec.Ports {
		w.ports = append(w.ports, portFrom(p.Name, p.Protocol, p.Port, p.NodePort))
	}
	return w
}

// nodeName is the same text for the same name.
func (d *desired) nodeName(name string) string {
	const most = 20_000
	known, ok := d.nodes[name]
	if ok {
		return known
	}
	if len(d.nodes) >= most {
		clear(d.nodes)
	}
	d.nodes[name] = name
	return name
}

func (d *desired) wantedSliceOf(s *discoveryv1.EndpointSlice, service string) *wantedSlice {
	w := &wantedSlice{service: s.Namespace + "/" + service, ports: make([]wantedPort, 0, len(s.Ports)), endpoints: make([]wantedEndpoint, 0, len(s.Endpoints))}
	w.canary = canaryOf(s)
	for _, p := range s.Ports {
		if p.Port == nil {
			continue
		}
		var name string
		var protocol corev1.Protocol
		if p.Name != nil {
			name = *p.Name
		}
		if p.Protocol != nil {
			protocol = *p.Protocol
		}
		w.ports = append(w.ports, portFrom(name, protocol, *p.Port, 0))
	}
	for _, e := range s.Endpoints {
		is := func(b *bool) bool { return b == nil || *b }
		one := wantedEndpoint{ready: is(e.Conditions.Ready), serving: is(e.Conditions.Serving)}
		if e.NodeName != nil {
			one.node = d.nodeName(*e.NodeName)
		}
		for _, text := range e.Addresses {
			if a, err := netip.ParseAddr(text); err == nil {
				one.address = a
				w.endpoints = append(w.endpoints, one)
			}
		}
	}
	return w
}

// isProbed is whether what is planned depends on a Service or an EndpointSlice.
func (d *desired) isProbed(w *wish) bool {
	switch {
	case w == nil:
		return false
	case w.service != nil:
		return probesOf(w.service, d.probed) != ""
	case w.slice != nil:
		s := d.services[w.slice.service]
		return w.slice.service == d.responders || s != nil && probesOf(s, d.probed) != ""
	}
	return false
}

// keep keeps what a Service or an EndpointSlice wants now; the caller holds mu.
func (d *desired) keep(previous, current *wish, synced bool, now time.Time) {
	if d.isProbed(previous) || d.isProbed(current) {
		d.version++
	}
	if previous != nil {
		if s := previous.service; s != nil {
			delete(d.services, s.name)
		}
		if s := previous.slice; s != nil {
			rest := slices.DeleteFunc(slices.Clone(d.slices[s.service]), func(o *wantedSlice) bool { return o == s })
			if d.slices[s.service] = rest; len(rest) == 0 {
				delete(d.slices, s.service)
			}
		}
	}
	if current != nil {
		if s := current.service; s != nil {
			d.services[s.name] = s
		}
		if s := current.slice; s != nil {
			d.slices[s.service] = append(slices.Clip(d.slices[s.service]), s)
		}
	}
	if !synced {
		return
	}
	for _, w := range []*wish{previous, current} {
		switch {
		case w == nil:
		case w.slice != nil:
			d.changedAt[w.slice.service] = now
		case w.service != nil && current == nil:
			delete(d.changedAt, w.service.name)
		case w.service != nil:
			d.changedAt[w.service.name] = now
		}
	}
}
