package audit

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/kproxy-exporter/kproxy-exporter/collector/rules"
)

// CheckIPVS compares the virtual servers of ip_vs with what the API wants. What
// mode ipvs does by iptables and ipset beside them (masquerading, source ranges)
// is not compared. Real servers of weight 0 are ending and get nothing new.
// only are the Services that are compared; all if it is nil.
func CheckIPVS(v *rules.IPVS, state *State, c *Config, only map[string]bool) Result {
	k := newChecker(nil, state, c, nil)
	servers := map[destination]*rules.VirtualServer{}
	for i := range v.Servers {
		s := &v.Servers[i]
		servers[destination{s.Proto, s.Dst}] = s
	}
	bound := map[netip.Addr]bool{}
	for _, a := range slices.Concat(v.Bound, c.Addresses) {
		bound[a] = true
	}
	for _, s := range state.inOrder(c.Family, only) {
		k.result.Services++
		for _, d := range k.destinations(s) {
			k.result.Wanted++
			diff := k.compareServer(servers[destination{d.proto, d.to}], k.claims.of[d.destination])
			if diff == nil && !bound[d.to.Addr()] {
				diff = &difference{kind: Unlinked, what: "the address is on no interface of the node: packets to it do not come to ip_vs"}
			}
			if diff == nil {
				k.result.Sent++
				continue
			}
			k.note(s.Name, diff.kind, fmt.Sprintf("virtual server %s/%s: %s", d.to, protocolName(d.proto), diff.what))
		}
	}
	if only == nil {
		k.unclaimedServers(v, bound)
	}
	return k.result
}

// compareServer is nil if a virtual server is what one of the claims wants.
func (k *checker) compareServer(s *rules.VirtualServer, claims []claim) (worst *difference) {
	for _, c := range claims {
		for _, w := range k.right(c) {
			d := compareRealServers(s, w.forIPVS(c.by), w.service)
			if d == nil {
				return nil
			}
			worst = d
		}
	}
	return worst
}

// forIPVS are the endpoints that a virtual server should have: where there are no
// local ones for a policy Local, all of them.
func (w *port) forIPVS(b by) []endpoint {
	local := w.service.ExternalLocal
	if b == byClusterIP {
		local = w.service.InternalLocal
	}
	if local && len(w.local) > 0 {
		return w.local
	}
	return w.cluster
}

func compareRealServers(s *rules.VirtualServer, want []endpoint, service *Service) *difference {
	if s == nil {
		return &difference{kind: Missing, what: "it is not there"}
	}
	var lacks, extra []string
	for _, e := range want {
		if s.Servers[e.to] == 0 {
			lacks = append(lacks, e.to.String())
		}
	}
	for to, weight := range s.Servers {
		if weight > 0 && !slices.ContainsFunc(want, func(e endpoint) bool { return e.to == to }) {
			extra = append(extra, to.String())
		}
	}
	slices.Sort(extra)
	switch sticky := uint32(service.Sticky.Seconds()); {
	case len(lacks) > 0 && len(extra) > 0:
		return &difference{kind: WrongBackend, what: "it has the real servers " + some(extra) + " and lacks " + some(lacks)}
	case len(lacks) > 0:
		return &difference{kind: Missing, what: "it lacks the real servers " + some(lacks)}
	case len(extra) > 0:
		return &difference{kind: Stale, what: "it has the real servers " + some(extra)}
	case s.Persistent != sticky && sticky == 0:
		return &difference{kind: Stale, what: fmt.Sprintf("a client should not stay with an endpoint and does for %d s", s.Persistent)}
	case s.Persistent != sticky:
		return &difference{kind: Missing, what: fmt.Sprintf("a client should stay with an endpoint for %d s and does for %d", sticky, s.Persistent)}
	}
	for _, e := range want[:max(len(want)-1, 0)] {
		if s.Servers[e.to] != s.Servers[want[len(want)-1].to] {
			return &difference{kind: WrongBackend, what: fmt.Sprintf("its real servers have different weights: %v", s.Servers)}
		}
	}
	return nil
}

// unclaimedServers are those that no Service wants, at kube-proxy's addresses.
func (k *checker) unclaimedServers(v *rules.IPVS, bound map[netip.Addr]bool) {
	for _, s := range v.Servers {
		port := destination{s.Proto, netip.AddrPortFrom(netip.Addr{}, s.Dst.Port())}
		if len(k.claims.of[destination{s.Proto, s.Dst}]) == 0 && bound[s.Dst.Addr()] && (!k.local[s.Dst.Addr()] || len(k.claims.of[port]) == 0) {
			k.note("", Stale, fmt.Sprintf("virtual server %s/%s is of no Service", s.Dst, protocolName(s.Proto)))
		}
	}
}
