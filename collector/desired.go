package collector

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kproxy-exporter/kproxy-exporter/collector/audit"
	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
	"github.com/kproxy-exporter/kproxy-exporter/collector/kubeapi"
	"github.com/kproxy-exporter/kproxy-exporter/collector/local"
	"github.com/kproxy-exporter/kproxy-exporter/prober"
)

// desired follows what the API wants of every kube-proxy: the same Services and
// EndpointSlices, by the same watches.
type desired struct {
	sources sources
	roots   *x509.CertPool
	vip     string // of the Service kubernetes, as this node was told; may be empty
	canary  string // namespace/name of the Service that is moved
	// responders is the Service, namespace/name, over the node role's responders;
	// probed are those that the flags name.
	responders string
	probed     map[string]string
	seed       maphash.Seed
	// nodes are the names of nodes: each is held once. One goroutine converts.
	nodes map[string]string

	mu sync.Mutex
	// mu protects following.
	unheard  map[string]unheard       // by IP family
	servers  map[string][]APIEndpoint // the API servers, by EndpointSlice
	version  int                      // counts what is kept of those that are probed
	services map[string]*wantedService
	// slices are those of a Service; changedAt is when one of them last changed while
	// it was watched.
	slices    map[string][]*wantedSlice
	changedAt map[string]time.Time
	audit     *auditWants   // nil if nothing is audited
	turn      turn          // of the canary
	turned    chan struct{} // says that turn is another
}

// unheard are changes of which kube-proxy has not shown that it heard: the first
// and the newest.
type unheard struct{ first, last change }

// change is one that kube-proxy must hear of.
type change struct {
	what string // "Service namespace/name"
	at   time.Time
	// from is since when kube-proxy may have heard of it: it may be faster than we.
	from time.Time
}

// late is how long our own watch may be behind kube-proxy's on a connection
// that stands.
const late = time.Minute

// wish is what is kept of a Service or an EndpointSlice.
type wish struct {
	what string
	// content is a hash of what kube-proxy cannot overlook.
	content byFamily
	servers []APIEndpoint
	// service or slice is what it wants.
	service *wantedService
	slice   *wantedSlice
	// auditService or auditSlice is what the audit keeps, zone the node's own.
	auditService *audit.Service
	auditSlice   *audit.Slice
	zone         string
}

// byFamily is a number for each IP family, IPv4 first; 0 if there is none.
type byFamily [2]uint64

func (b *byFamily) of(family string) *uint64 {
	if family == familyIPv6 {
		return &b[1]
	}
	return &b[0]
}

// What kube-proxy watches (cmd/kube-proxy/app/server.go): not Services that are
// for another proxy or have no address, nor EndpointSlices of headless ones.
var (
	proxiedServices = metav1.ListOptions{LabelSelector: "!" + labelProxyName, FieldSelector: "spec.clusterIP!=" + corev1.ClusterIPNone}
	proxiedSlices   = metav1.ListOptions{LabelSelector: "!" + corev1.IsHeadlessService}
)

const labelProxyName = "service.kubernetes.io/service-proxy-name"

// newDesired reads nothing if api is nil.
func newDesired(cfg *NodeConfig) *desired {
	d := &desired{
		sources: sources{api: cfg.API, logger: cfg.Logger, klog: cfg.Klog}, roots: cfg.Roots, vip: cfg.VIPHost, canary: cfg.Canary, responders: cfg.Responders, probed: cfg.Probe.Services, seed: maphash.MakeSeed(),
		unheard: map[string]unheard{}, servers: map[string][]APIEndpoint{},
		services: map[string]*wantedService{}, slices: map[string][]*wantedSlice{}, nodes: map[string]string{}, changedAt: map[string]time.Time{}, turned: make(chan struct{}, 1),
	}
	if cfg.Audit.audits() {
		d.audit = newAuditWants(cfg.Name)
	}
	if cfg.API != nil {
		follow(d, source{kubeapi.Services, "services", "", proxiedServices}, d.convertService)
		follow(d, source{kubeapi.EndpointSlices, "endpointslices", "", proxiedSlices}, d.convertSlice)
	}
	return d
}

func follow(d *desired, s source, convert func(any) (wish, bool)) {
	var from *contact
	var t *table[wish]
	t = add(&d.sources, s, servicePart, convert, func(previous, current *wish) { d.changed(from, t.listing, previous, current, time.Now()) })
	from = d.sources.readers[len(d.sources.readers)-1].contact
}

// hash is one of texts in any order.
func (d *desired) hash(texts []string) uint64 {
	slices.Sort(texts)
	return maphash.String(d.seed, strings.Join(texts, "\n"))
}

// IP families, as kube-proxy's metrics name them.
const (
	familyIPv4 = string(corev1.IPv4Protocol)
	familyIPv6 = string(corev1.IPv6Protocol)
)

func familyOf(ip string) string {
	if strings.Contains(ip, ":") {
		return familyIPv6
	}
	return familyIPv4
}

func (d *desired) convertService(object any) (wish, bool) {
	s, ok := object.(*corev1.Service)
	if !ok || s.Spec.Type == corev1.ServiceTypeExternalName {
		return wish{}, false
	}
	w := wish{what: "Service " + s.Namespace + "/" + s.Name, service: wantedServiceOf(s)}
	if d.audit != nil {
		w.auditService = audit.ServiceOf(s)
	}
	for _, ip := range slices.Concat([]string{s.Spec.ClusterIP}, s.Spec.ClusterIPs) {
		if ip == "" || ip == corev1.ClusterIPNone {
			continue
		}
		// Where a port leads lies in the EndpointSlices; their order means nothing.
		ports := []string{ip, string(s.Spec.SessionAffinity)}
		for _, p := range s.Spec.Ports {
			ports = append(ports, fmt.Sprint(p.Name, " ", p.Protocol, " ", p.Port, " ", p.NodePort))
		}
		*w.content.of(familyOf(ip)) = d.hash(ports)
	}
	return w, w.content != byFamily{}
}

func (d *desired) convertSlice(object any) (wish, bool) {
	s, ok := object.(*discoveryv1.EndpointSlice)
	service := ""
	if ok {
		service = s.Labels[discoveryv1.LabelServiceName]
	}
	if service == "" || s.AddressType == discoveryv1.AddressTypeFQDN {
		return wish{}, false
	}
	w := wish{what: "EndpointSlice " + s.Namespace + "/" + s.Name, slice: d.wantedSliceOf(s, service)}
	if d.audit != nil {
		if w.auditSlice, w.zone = d.audit.keeper.SliceOf(s); w.auditSlice != nil {
			w.auditSlice.Service = w.slice.service // the same text is held once
		}
	}
	if s.Namespace == metav1.NamespaceDefault && service == "kubernetes" {
		w.servers = apiEndpoints(s, d.roots, d.vip)
	}
	var parts []string // in no order, as kube-proxy compares them
	for _, e := range s.Endpoints {
		parts = append(parts, fmt.Sprint(e.Conditions.Ready == nil || *e.Conditions.Ready, " ", slices.Sorted(slices.Values(e.Addresses))))
	}
	for _, p := range w.slice.ports {
		parts = append(parts, fmt.Sprint("port ", p.name, " ", p.udp, " ", p.other, " ", p.port))
	}
	*w.content.of(string(s.AddressType)) = d.hash(parts)
	return w, true
}

// justOpened is how soon after it begins a watch may tell what is old.
const justOpened = 5 * time.Second

// changed notes a change that kube-proxy must hear of, from a list or a watch.
func (d *desired) changed(from *contact, listed bool, previous, current *wish, now time.Time) {
	opened, before, synced := from.opening()
	live := synced && !listed && now.Sub(opened) > justOpened
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case current != nil && len(current.servers) > 0:
		d.servers[current.what] = current.servers
	case current == nil && len(d.servers) > 1: // the last ones are kept: where else to ask
		delete(d.servers, previous.what)
	}
	d.keep(previous, current, synced, now)
	if d.audit != nil {
		// Not when it came, but when it counts: a look that began before may have missed it.
		d.audit.keep(previous, current, !synced, time.Now())
	}
	d.noteTurn(previous, current, live, now)
	if !synced {
		return // nobody knows since when it has been so
	}
	var is, was wish
	if current != nil {
		is = *current
	}
	if previous != nil {
		was = *previous
	}
	c := change{what: cmp.Or(is.what, was.what), at: now, from: now.Add(-late)}
	if !live && before.Before(c.from) {
		c.from = before // it happened while we heard nothing
	}
	for _, family := range []string{familyIPv4, familyIPv6} {
		if *is.content.of(family) == *was.content.of(family) {
			continue
		}
		u := d.unheard[family]
		if u.last = c; u.first.at.IsZero() {
			u.first = c
		}
		d.unheard[family] = u
	}
}

// heard notes that kube-proxy last heard of a change at that time.
func (d *desired) heard(family string, at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range familiesOf(family) {
		u := d.unheard[f]
		switch {
		case !at.Before(u.last.from):
			delete(d.unheard, f)
		case !at.Before(u.first.from):
			d.unheard[f] = unheard{u.last, u.last}
		}
	}
}

// forget forgets what was not heard: a kube-proxy that starts asks for everything.
func (d *desired) forget(family string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range familiesOf(family) {
		delete(d.unheard, f)
	}
}

// waits is the first change of which a family has not heard, if there is one.
func (d *desired) waits(family string) change {
	d.mu.Lock()
	defer d.mu.Unlock()
	if family == local.NoFamily { // it may serve one only
		family = familyOf(d.vip)
	}
	var first change
	for _, f := range familiesOf(family) {
		if c := d.unheard[f].first; !c.at.IsZero() && (first.at.IsZero() || c.at.Before(first.at)) {
			first = c
		}
	}
	return first
}

// heardSince is since when the API server has answered all readers without a break.
func (d *desired) heardSince(now time.Time) (since time.Time) {
	for _, r := range d.sources.readers {
		if t := r.contact.answersSince(now); t.After(since) {
			since = t
		}
	}
	return since
}

// familiesOf are the families of which a kube-proxy's metrics speak together.
func familiesOf(label string) []string {
	if label == local.NoFamily {
		return []string{familyIPv4, familyIPv6}
	}
	return []string{label}
}

// livezPath is what an API server answers to anybody.
const livezPath = "/livez"

// apiEndpoints are the addresses of the Service kubernetes in an EndpointSlice.
// Their certificate need not know them: clients come by the Service's address.
func apiEndpoints(s *discoveryv1.EndpointSlice, roots *x509.CertPool, name string) []APIEndpoint {
	port := "443"
	for _, p := range s.Ports {
		if p.Port != nil && (p.Name == nil || *p.Name == "https") {
			port = strconv.Itoa(int(*p.Port))
		}
	}
	var out []APIEndpoint
	for _, e := range s.Endpoints {
		for _, a := range e.Addresses {
			out = append(out, APIEndpoint{cause.KindEndpoint, prober.APITarget{Host: a, Port: port, ServerName: name, Roots: roots, Path: livezPath}})
		}
	}
	return out
}

// apiServers are the addresses of the API servers, as learnt last.
func (d *desired) apiServers() []APIEndpoint {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []APIEndpoint
	for _, k := range slices.Sorted(maps.Keys(d.servers)) {
		out = append(out, d.servers[k]...)
	}
	const most = 16 // no cluster has more API servers; a list that does is wrong
	return out[:min(len(out), most)]
}
