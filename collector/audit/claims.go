package audit

import (
	"net/netip"
	"slices"

	"github.com/kproxy-exporter/kproxy-exporter/collector/rules"
)

// destination is an address and port at which something is wanted.
type destination struct {
	proto uint8
	dst   netip.AddrPort // of a node's port without an address
}

// claim is a Service port that wants a destination.
type claim struct {
	by      by
	service *Service
	port    *Port
}

// Claims say who wants which destination of an IP family. They follow from the
// Services alone: as long as those stand, so do they.
type Claims struct {
	family     rules.Family
	of         map[destination][]claim
	clusterIPs map[netip.Addr]bool
	// owners are the Services by their ClusterIP, made when they are asked for.
	owners map[netip.Addr][]string
}

// NewClaims notes what every Service wants.
func NewClaims(services map[string]*Service, f rules.Family) *Claims {
	k := &Claims{family: f, of: make(map[destination][]claim, len(services)), clusterIPs: map[netip.Addr]bool{}}
	for _, s := range services {
		for _, a := range ofFamily(s.ClusterIPs, f) {
			k.clusterIPs[a] = len(s.Ports) > 0
		}
		s.eachDestination(f, func(b by, d destination, p *Port) {
			k.of[d] = append(k.of[d], claim{b, s, p})
		})
	}
	return k
}

// eachDestination says what a Service wants, in the order of its ports.
func (s *Service) eachDestination(f rules.Family, do func(by, destination, *Port)) {
	ips := ofFamily(s.ClusterIPs, f)
	if len(ips) == 0 {
		return
	}
	for i := range s.Ports {
		p := &s.Ports[i]
		at := func(b by, a netip.Addr, port uint16) { do(b, destination{p.Protocol, netip.AddrPortFrom(a, port)}, p) }
		for _, a := range ips {
			at(byClusterIP, a, p.Port)
		}
		for _, a := range ofFamily(s.ExternalIPs, f) {
			at(byExternalIP, a, p.Port)
		}
		for _, a := range ofFamily(s.LoadBalancerIPs, f) {
			at(byLoadBalancer, a, p.Port)
		}
		if p.NodePort != 0 {
			at(byNodePort, netip.Addr{}, p.NodePort)
		}
	}
}

// addressee is a destination as rules name it.
func (d destination) addressee() rules.Addressee {
	return rules.Addressee{Dst: string(d.dst.Addr().AsSlice()), Proto: d.proto, Port: d.dst.Port()}
}

// Addressees are what the rules for a Service in an IP family may be for.
func (s *Service) Addressees(f rules.Family) (out []rules.Addressee) {
	s.eachDestination(f, func(_ by, d destination, _ *Port) { out = append(out, d.addressee()) })
	for _, a := range ofFamily(s.ClusterIPs, f) {
		out = append(out, rules.Addressee{Dst: string(a.AsSlice())})
	}
	return out
}

// External is whether a Service is reached by more than its ClusterIPs: others may be
// at the same addresses and ports.
func (s *Service) External() bool {
	return len(s.ExternalIPs)+len(s.LoadBalancerIPs) > 0 || slices.ContainsFunc(s.Ports, func(p Port) bool { return p.NodePort != 0 })
}

// Serves is whether a Service is of an IP family.
func (s *Service) Serves(f rules.Family) bool { return len(ofFamily(s.ClusterIPs, f)) > 0 }

// Touched are the Services that changes of mode nftables' own table concern, and other
// addressees for which there may be rules now; ok is false if they may concern all.
func (k *Claims) Touched(changes *rules.Changes, state *State) (services []string, nobody []rules.Addressee, ok bool) {
	if changes.All {
		return nil, nil, false
	}
	for chain := range changes.Chains {
		owner, ok := Owner(chain)
		if !ok {
			return nil, nil, false
		}
		services = append(services, owner)
	}
	for set, keys := range changes.Elements {
		for element := range keys {
			owners, of, ok := k.ownersOfElement(state, set, element)
			if !ok {
				return nil, nil, false
			}
			services, nobody = append(services, owners...), append(nobody, of...)
		}
	}
	// Where others want the same address and port, theirs changed too.
	for _, name := range services {
		if s := state.Services[name]; s != nil && s.External() {
			s.eachDestination(k.family, func(_ by, d destination, _ *Port) {
				for _, c := range k.of[d] {
					if c.service.Name != name {
						services = append(services, c.service.Name)
					}
				}
			})
		}
	}
	return services, nobody, true
}

// withClusterIP are the Services that have a ClusterIP: one, but the API may be wrong.
func (k *Claims) withClusterIP(ip netip.Addr) []string {
	if k.owners == nil {
		k.owners = map[netip.Addr][]string{}
		for d, claims := range k.of {
			for _, c := range claims {
				if a := d.dst.Addr(); c.by == byClusterIP && !slices.Contains(k.owners[a], c.service.Name) {
					k.owners[a] = append(k.owners[a], c.service.Name)
				}
			}
		}
	}
	return k.owners[ip]
}

// ownersOfElement are the Services that an element of a set or map concerns, and the
// addressee that it is for.
func (k *Claims) ownersOfElement(state *State, set, element string) (names []string, of []rules.Addressee, ok bool) {
	if set == hairpins {
		n := k.family.AddrLen()
		if len(element) < n {
			return nil, nil, false
		}
		endpoint, _ := netip.AddrFromSlice([]byte(element[:n]))
		return state.with(endpoint), nil, true
	}
	a, ok := rules.AddresseeOf(k.family, element)
	if !ok || !slices.Contains(addressed, set) {
		return nil, nil, false
	}
	ip, _ := netip.AddrFromSlice([]byte(a.Dst))
	if a.Port == 0 { // a ClusterIP
		names = append(names, k.withClusterIP(ip)...)
	}
	for _, c := range k.of[destination{a.Proto, netip.AddrPortFrom(ip, a.Port)}] {
		names = append(names, c.service.Name)
	}
	return names, []rules.Addressee{a}, true
}

// hairpins is the set of mode nftables of endpoints of which the source is replaced
// where they ask themselves.
const hairpins = "hairpin-connections"

// with are the Services that have an endpoint.
func (s *State) with(endpoint netip.Addr) (names []string) {
	for name, all := range s.Slices {
		if slices.ContainsFunc(all, func(one *Slice) bool {
			return slices.ContainsFunc(one.Endpoints, func(e Endpoint) bool { return e.Address == endpoint })
		}) {
			names = append(names, name)
		}
	}
	return names
}
