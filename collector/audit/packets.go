package audit

import (
	"net/netip"
	"slices"

	"github.com/kproxy-exporter/kproxy-exporter/collector/rules"
)

// Packets are those that Check runs over the rules of a family.
func Packets(state *State, c *Config) (out []rules.Packet) {
	k := newChecker(nil, state, c, nil)
	for _, s := range state.inOrder(c.Family, nil) {
		for _, d := range k.destinations(s) {
			for _, from := range k.sourcesFor(k.claims.of[d.destination]) {
				p := from.Packet
				p.Proto, p.Dst = d.proto, d.to
				out = append(out, p)
			}
		}
		for _, d := range k.nobodys(s) {
			for _, from := range k.sources {
				p := from.Packet
				p.Proto, p.Dst = d.proto, d.dst
				out = append(out, p)
			}
		}
	}
	for _, p := range k.passers() {
		out = append(out, p.Packet)
	}
	return out
}

// reached is a destination at a certain address.
type reached struct {
	destination
	to netip.AddrPort
}

// destinations are all that a Service should be reached at.
func (k *checker) destinations(s *Service) (out []reached) {
	for i := range s.Ports {
		p := &s.Ports[i]
		for _, a := range slices.Concat(ofFamily(s.ClusterIPs, k.c.Family), ofFamily(s.ExternalIPs, k.c.Family), ofFamily(s.LoadBalancerIPs, k.c.Family)) {
			to := netip.AddrPortFrom(a, p.Port)
			out = append(out, reached{destination{p.Protocol, to}, to})
		}
		if p.NodePort != 0 {
			for _, a := range k.at {
				out = append(out, reached{destination{p.Protocol, netip.AddrPortFrom(netip.Addr{}, p.NodePort)}, netip.AddrPortFrom(a, p.NodePort)})
			}
		}
	}
	return out
}

// nobodys are destinations near those of a Service that are no Service's.
func (k *checker) nobodys(s *Service) (out []destination) {
	add := func(proto uint8, to netip.AddrPort) {
		if d := (destination{proto, to}); len(k.claims.of[d]) == 0 {
			out = append(out, d)
		}
	}
	for i := range s.Ports {
		for _, a := range k.not {
			if p := &s.Ports[i]; p.NodePort != 0 {
				add(p.Protocol, netip.AddrPortFrom(a, p.NodePort))
			}
		}
	}
	if k.c.Mode == ModeNFTables {
		for _, a := range ofFamily(s.ClusterIPs, k.c.Family) {
			add(TCP, netip.AddrPortFrom(a, unusedPort(s)))
		}
	}
	return out
}

// unusedPort is one that a Service does not have.
func unusedPort(s *Service) uint16 {
	n := uint16(65535)
	for slices.ContainsFunc(s.Ports, func(p Port) bool { return p.Port == n }) {
		n--
	}
	return n
}

// more sources are tried for a load balancer's address that not all may reach.
func (k *checker) sourcesFor(claims []claim) []source {
	out := k.sources
	for _, c := range claims {
		if c.by != byLoadBalancer {
			continue
		}
		for i, r := range c.service.ranges(k.c.Family) {
			const most = 16
			if s := (source{name: "a source in " + r.String(), Packet: rules.Packet{Src: inside(r), Iif: "eth-elsewhere"}, pod: &no}); i < most && !k.local[s.Src] {
				if d := k.c.Detector; d.CIDR.IsValid() && d.CIDR.Contains(s.Src) {
					s.pod = &yes
				}
				out = append(slices.Clip(out), s)
			}
		}
	}
	return out
}

// passers are packets that are for no Service.
func (k *checker) passers() (out []source) {
	to := netip.AddrPortFrom(beyond[k.c.Family], 80)
	if len(k.claims.of[destination{TCP, to}]) > 0 {
		return nil
	}
	for _, from := range k.sources {
		from.Proto, from.Dst = TCP, to
		out = append(out, from)
	}
	return out
}

// beyond are Documentation's addresses, other ones than elsewhere.
var beyond = map[rules.Family]netip.Addr{
	rules.IPv4: netip.MustParseAddr("192.0.2.88"),
	rules.IPv6: netip.MustParseAddr("2001:db8:88::88"),
}
