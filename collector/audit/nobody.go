package audit

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/kproxy-exporter/kproxy-exporter/collector/rules"
)

// checkNobody runs packets to where no Service should get them: to a node's port
// at an address for which it is not, or to a ClusterIP's port that it has not.
func (k *checker) checkNobody(s *Service, to destination) error {
	b, kind := byNodePort, rules.Accept
	if !k.local[to.dst.Addr()] {
		b, kind = byUnusedPort, rules.Reject
	}
	for _, from := range k.sources {
		p := from.Packet
		p.Proto, p.Dst = to.proto, to.dst
		ways, err := k.m.Run(p)
		if err != nil {
			return err
		}
		d := k.compare(expectation{kind: kind}, ways, s, nil)
		if d == nil || b == byNodePort && k.refusedAnyway(to, ways) {
			continue
		}
		if obscure(ways) {
			return errObscure
		}
		if d.kind == Missing {
			what, err := k.unlinked(p, nil, &from)
			if err != nil {
				return err
			}
			if what != "" {
				d.kind, d.what = Unlinked, what
			}
		}
		k.note(s.Name, d.kind, fmt.Sprintf("%s %s/%s from %s: %s", b, to.dst, protocolName(to.proto), from.name, d.what))
	}
	return nil
}

// refusedAnyway is whether a packet to a node's port, at an address for which it is not,
// is refused as kube-proxy does in mode iptables: what it refuses for lack of endpoints
// it refuses at every address of the node.
func (k *checker) refusedAnyway(to destination, ways []rules.Outcome) bool {
	if k.c.Mode != ModeIPTables {
		return false
	}
	for _, c := range k.claims.of[destination{to.proto, netip.AddrPortFrom(netip.Addr{}, to.dst.Port())}] {
		for _, w := range k.right(c) {
			kind := rules.Accept
			switch {
			case !w.any:
				kind = rules.Reject
			case w.service.ExternalLocal && len(w.local) == 0:
				kind = rules.Drop
			}
			if kind != rules.Accept && k.compare(expectation{kind: kind}, ways, w.service, nil) == nil {
				return true
			}
		}
	}
	return false
}

// addressed are the sets and maps of mode nftables in which Services' addresses and
// ports are.
var addressed = []string{"service-ips", "no-endpoint-services", "firewall-ips", "service-nodeports", "no-endpoint-nodeports", "cluster-ips"}

// nobodysOf looks for rules of mode nftables for some destinations that no Service
// may have.
func (k *checker) nobodysOf(some []rules.Addressee) error {
	looked := map[rules.Addressee]bool{}
	for _, a := range some {
		if looked[a] {
			continue
		}
		looked[a] = true
		for _, name := range addressed {
			chain, ok, err := k.rs.Target(k.table, name, a)
			if err == nil && ok {
				err = k.checkUnclaimed(a, chain)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// unclaimed looks for rules for destinations that no Service has.
func (k *checker) unclaimed() error {
	found := map[rules.Addressee]string{}
	if k.c.Mode == ModeNFTables {
		for _, name := range addressed {
			s, err := k.rs.Set(k.table, name)
			if err != nil {
				return err
			}
			if s == nil {
				continue
			}
			for a, chain := range s.Targets(k.c.Family) {
				found[a] = chain
			}
		}
	} else {
		for _, l := range [][2]string{{"nat", "KUBE-SERVICES"}, {"nat", "KUBE-NODEPORTS"}, {"filter", "KUBE-SERVICES"}, {"filter", "KUBE-EXTERNAL-SERVICES"}, {"filter", "KUBE-PROXY-FIREWALL"}} {
			c, err := k.rs.Chain(l[0], l[1])
			if err != nil {
				return err
			}
			if c == nil {
				continue
			}
			for i := range c.Rules {
				if a, ok := c.Rules[i].Addressee(); ok {
					found[a] = c.Rules[i].Target()
				}
			}
		}
	}
	for a, chain := range found {
		if err := k.checkUnclaimed(a, chain); err != nil {
			return err
		}
	}
	slices.SortStableFunc(k.result.Drifts, func(a, b Drift) int { return slices.Index(Kinds, a.Kind) - slices.Index(Kinds, b.Kind) })
	return nil
}

// checkUnclaimed is of one destination for which there is a rule: what no Service
// has, nothing should happen to.
func (k *checker) checkUnclaimed(a rules.Addressee, chain string) error {
	ip, _ := netip.AddrFromSlice([]byte(a.Dst))
	if len(k.claims.of[destination{a.Proto, netip.AddrPortFrom(ip, a.Port)}]) > 0 {
		return nil
	}
	if a.Port == 0 { // only an address
		if !k.claims.clusterIPs[ip] {
			k.noteNobodys(a, fmt.Sprintf("%s counts as a ClusterIP and is none", ip))
		}
		return nil
	}
	var at []netip.Addr
	kind := rules.Accept
	switch {
	case !ip.IsValid():
		at = k.at
	default:
		at = []netip.Addr{ip}
		if k.claims.clusterIPs[ip] && k.c.Mode == ModeNFTables {
			kind = rules.Reject
		}
	}
	for _, ip := range at {
		for _, from := range k.sources {
			p := from.Packet
			p.Proto, p.Dst = a.Proto, netip.AddrPortFrom(ip, a.Port)
			ways, err := k.m.Run(p)
			if err != nil {
				return err
			}
			// What is dropped or refused anyway, by another, is nobody's.
			if d := k.compare(expectation{kind: kind}, ways, &Service{}, nil); d != nil && d.kind == Stale {
				of := ""
				if chain != "" {
					of = " (chain " + chain + ")"
				}
				k.noteNobodys(a, fmt.Sprintf("%s/%s%s, of no Service, from %s: %s", p.Dst, protocolName(a.Proto), of, from.name, d.what))
				break
			}
		}
	}
	return nil
}

// passing is of packets that are for no Service: kube-proxy's rules leave them alone.
func (k *checker) passing() error {
	for _, p := range k.passers() {
		ways, err := k.m.Run(p.Packet)
		if err != nil {
			return err
		}
		for _, o := range ways {
			does := ""
			switch {
			case o.Opaque || o.OwnOpaque:
			case o.To.IsValid() && !o.SentByOther:
				does = "is sent to " + o.To.String()
			case o.Masqueraded && !o.ByOther:
				does = "gets another source"
			}
			if does != "" {
				k.note("", Stale, fmt.Sprintf("a packet to %s, which is of no Service, from %s %s", p.Dst, p.name, does))
				return nil
			}
		}
	}
	return nil
}

// forwarding is of packets of connections that stand, which mode iptables lets
// through whatever the policy for forwarding is.
func (k *checker) forwarding() error {
	if k.c.Mode != ModeIPTables || k.result.Wanted == 0 {
		return nil
	}
	to := netip.AddrPortFrom(elsewhere[k.c.Family], 80)
	k.m.OwnOnly = false // the policy is another's
	ways, err := k.m.Run(rules.Packet{Proto: TCP, Src: k.sources[0].Src, Iif: k.sources[0].Iif, Dst: to, State: rules.StateEstablished})
	if err != nil {
		return err
	}
	if slices.ContainsFunc(ways, func(w rules.Outcome) bool { return w.Kind != rules.Accept && !w.Opaque }) {
		k.note("", Missing, "a packet of a connection that stands is dropped: nothing in KUBE-FORWARD lets it through")
	}
	return nil
}
