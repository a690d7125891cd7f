package audit

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/kproxy-exporter/kproxy-exporter/collector/rules"
)

// port is what kube-proxy should do for a port of a Service, in one IP family.
type port struct {
	service *Service
	port    *Port
	// cluster and local are the endpoints for traffic policies Cluster and Local.
	cluster, local []endpoint
	// any says that there are endpoints, here or elsewhere.
	any bool
}

// endpoint is where a packet may be sent.
type endpoint struct {
	to    netip.AddrPort
	local bool
}

// external is whether a Service port is reached by more than its ClusterIP.
func (s *Service) external(p *Port, f rules.Family) bool {
	return p.NodePort != 0 || len(ofFamily(s.ExternalIPs, f)) > 0 || len(ofFamily(s.LoadBalancerIPs, f)) > 0
}

func ofFamily(all []netip.Addr, f rules.Family) (out []netip.Addr) {
	for _, a := range all {
		if a.Is6() == (f == rules.IPv6) {
			out = append(out, a)
		}
	}
	return out
}

// place is where the node is, as far as it is known.
type place struct{ node, zone string }

// wanted is what kube-proxy should do for a port. Where the API leaves it open,
// or the node's zone is not known, there is more than one answer.
func wanted(s *Service, p *Port, slicesOf []*Slice, f rules.Family, node, zone string, zoneKnown bool) (out []*port) {
	all, doubtful := endpointsOf(p, slicesOf, f)
	places := []place{{node, zone}}
	if !zoneKnown {
		for _, z := range zonesOf(all) {
			places = append(places, place{node, z})
		}
	}
	for _, at := range places {
		out = append(out, categorize(s, p, all, at, f))
	}
	if !doubtful {
		return out
	}
	for _, order := range orders(slicesOf) {
		all, _ = endpointsOf(p, order, f)
		for _, at := range places {
			out = append(out, categorize(s, p, all, at, f))
		}
	}
	return out
}

// orders are those in which kube-proxy may read EndpointSlices that contradict
// each other; of many, those in which each is the last and the first.
func orders(all []*Slice) (out [][]*Slice) {
	if len(all) > 4 {
		for i := range all {
			out = append(out, slices.Concat(all[i:], all[:i]))
		}
		return out
	}
	if len(all) < 2 {
		return [][]*Slice{all}
	}
	for i := range all {
		for _, rest := range orders(slices.Concat(all[:i:i], all[i+1:])) {
			out = append(out, append([]*Slice{all[i]}, rest...))
		}
	}
	return out
}

// zonesOf are the zones that hints name, no more than anybody has.
func zonesOf(all []Endpoint) (out []string) {
	const most = 8
	for i := range all {
		if h := all[i].Hints; h != nil {
			for _, z := range h.Zones {
				if !slices.Contains(out, z) && len(out) < most {
					out = append(out, z)
				}
			}
		}
	}
	return out
}

// endpointsOf are those of a port, each once. Of an address in several
// EndpointSlices the last entry counts that does not end, else the first; it is
// doubtful if they differ, as nothing says which comes last.
func endpointsOf(p *Port, slicesOf []*Slice, f rules.Family) (out []Endpoint, doubtful bool) {
	type where struct {
		a    netip.Addr
		port uint16
	}
	var at map[where]int
	for _, s := range slicesOf {
		for i := range s.Ports {
			sp := &s.Ports[i]
			if sp.Name != p.Name || sp.Protocol != p.Protocol {
				continue
			}
			for j := range s.Endpoints {
				e := s.Endpoints[j]
				if e.Address.Is6() != (f == rules.IPv6) {
					continue
				}
				e.port = sp.Port
				if at == nil {
					at = make(map[where]int, len(s.Endpoints))
				}
				k, known := at[where{e.Address, e.port}]
				if !known {
					at[where{e.Address, e.port}] = len(out)
					out = append(out, e)
					continue
				}
				doubtful = doubtful || out[k] != e && out[k].Terminating == e.Terminating
				if !e.Terminating {
					out[k] = e
				}
			}
		}
	}
	return out, doubtful
}

// categorize is CategorizeEndpoints of pkg/proxy/topology.go.
func categorize(s *Service, p *Port, all []Endpoint, at place, f rules.Family) *port {
	w := &port{service: s, port: p}
	external := s.external(p, f)
	usesCluster := !s.InternalLocal || external
	usesLocal := s.InternalLocal || s.ExternalLocal && external
	if usesCluster {
		available := topologyOf(all, at)
		w.cluster = filter(all, func(e *Endpoint) bool { return e.Ready && available(e) })
		if len(w.cluster) == 0 {
			w.cluster = filter(all, ending)
		}
		w.any = len(w.cluster) > 0
	}
	if usesLocal {
		w.any = w.any || slices.ContainsFunc(all, func(e Endpoint) bool { return e.Ready || ending(&e) })
		w.local = filter(all, func(e *Endpoint) bool { return e.Local && e.Ready })
		if len(w.local) == 0 {
			w.local = filter(all, func(e *Endpoint) bool { return e.Local && !e.Ready && ending(e) })
		}
	}
	return w
}

// ending is whether an endpoint still serves while it ends.
func ending(e *Endpoint) bool { return e.Serving && e.Terminating }

func filter(all []Endpoint, keep func(*Endpoint) bool) (out []endpoint) {
	for i := range all {
		if e := &all[i]; keep(e) {
			out = append(out, endpoint{netip.AddrPortFrom(e.Address, e.port), e.Local})
		}
	}
	slices.SortFunc(out, func(a, b endpoint) int {
		return cmp.Or(a.to.Addr().Compare(b.to.Addr()), cmp.Compare(a.to.Port(), b.to.Port()))
	})
	return out
}

// topologyOf tells which ready endpoints are for the node: those with its name
// in their hints, else those with its zone, if all ready ones have such hints.
func topologyOf(all []Endpoint, at place) func(*Endpoint) bool {
	everywhere := func(*Endpoint) bool { return true }
	ready, nodes, zones, here, inZone := false, true, true, false, false
	for i := range all {
		e := &all[i]
		if !e.Ready {
			continue
		}
		ready = true
		if e.Hints == nil || len(e.Hints.Nodes) == 0 {
			nodes = false
		} else if slices.Contains(e.Hints.Nodes, at.node) {
			here = true
		}
		if e.Hints == nil || len(e.Hints.Zones) == 0 {
			zones = false
		} else if slices.Contains(e.Hints.Zones, at.zone) {
			inZone = true
		}
	}
	switch {
	case ready && nodes && here:
		return func(e *Endpoint) bool { return e.Hints != nil && slices.Contains(e.Hints.Nodes, at.node) }
	case ready && zones && inZone:
		return func(e *Endpoint) bool { return e.Hints != nil && slices.Contains(e.Hints.Zones, at.zone) }
	}
	return everywhere
}

// by is how a Service port is reached.
type by uint8

const (
	byClusterIP by = iota
	byExternalIP
	byLoadBalancer
	byNodePort
	byUnusedPort // of a ClusterIP
)

func (b by) String() string {
	return [...]string{"ClusterIP", "externalIP", "load balancer's address", "node's port", "unused port of a ClusterIP"}[b]
}

// source is what a packet comes from.
type source struct {
	name string
	rules.Packet
	// pod says that kube-proxy takes it for a pod of the node; nil if nobody knows.
	pod *bool
	// host says that it is of the node's own addresses.
	host bool
}

// expectation is what should become of a packet.
type expectation struct {
	kind      rules.VerdictKind
	endpoints []endpoint
	// masquerade is whether its source should be replaced; nil if it does not matter.
	masquerade *bool
}

var yes, no = true, false

// expect says what should become of a packet from a source to an address.
func (w *port) expect(b by, s *source, to netip.Addr, c *Config) expectation {
	if b == byClusterIP {
		switch {
		case !w.any:
			return expectation{kind: rules.Reject}
		case w.service.InternalLocal && len(w.local) == 0:
			return expectation{kind: rules.Drop}
		}
		e := expectation{kind: rules.Accept, endpoints: w.cluster, masquerade: c.masqueradesClusterIP(s)}
		if w.service.InternalLocal {
			e.endpoints = w.local
		}
		return e
	}
	if ranges := w.service.ranges(c.Family); b == byLoadBalancer && len(ranges) > 0 && !slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Contains(s.Src) }) {
		if w.any || c.Mode == ModeNFTables {
			return expectation{kind: rules.Drop}
		}
	}
	switch {
	case !w.any && c.Mode == ModeIPTables && s.host && b != byNodePort && !c.local(to):
		return expectation{kind: rules.Accept} // KUBE-EXTERNAL-SERVICES is not for what the node itself sends
	case !w.any:
		return expectation{kind: rules.Reject}
	case !w.service.ExternalLocal:
		return expectation{kind: rules.Accept, endpoints: w.cluster, masquerade: &yes}
	case s.host:
		return expectation{kind: rules.Accept, endpoints: w.cluster, masquerade: &yes}
	case c.detects() && s.pod != nil && *s.pod:
		return expectation{kind: rules.Accept, endpoints: w.cluster, masquerade: &no}
	case len(w.local) == 0:
		return expectation{kind: rules.Drop}
	}
	return expectation{kind: rules.Accept, endpoints: w.local, masquerade: &no}
}

// ranges are those of a family from which a load balancer's address may be
// reached; none if that is everywhere.
func (s *Service) ranges(f rules.Family) (out []netip.Prefix) {
	for _, p := range s.SourceRanges {
		if p.Addr().Is6() != (f == rules.IPv6) {
			continue
		}
		if p.Bits() == 0 {
			return nil
		}
		out = append(out, p)
	}
	return out
}
