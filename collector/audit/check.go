package audit

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/collector/rules"
)

// Kind is how the kernel's rules differ from what the API wants.
type Kind string

// Kinds of drift.
const (
	// Missing is what the API wants and the rules do not do.
	Missing Kind = "missing"
	// Stale is what the rules do and the API does not want.
	Stale Kind = "stale"
	// WrongBackend is an address in the place of an endpoint, or an endpoint that
	// gets another share of the traffic than it should.
	WrongBackend Kind = "wrong_backend"
	// Unlinked are rules that are right and that packets do not meet.
	Unlinked Kind = "unlinked"
)

// Kinds are all of them, the gravest first.
var Kinds = []Kind{Unlinked, WrongBackend, Missing, Stale}

// Drift is one thing that differs.
type Drift struct {
	// Service is namespace/name; empty if it is of none that the API knows.
	Service string
	Kind    Kind
	// What says it to a person.
	What string
}

// Result is the outcome of an audit of one IP family.
type Result struct {
	// Services are how many were compared.
	Services int
	Drifts   []Drift
	// Wanted and Sent are how many kinds of packets should be sent to endpoints and
	// how many are: if none is, the rules are gone.
	Wanted, Sent int
}

// destination is an address and port at which something is wanted.
type destination struct {
	proto uint8
	dst   netip.AddrPort // of a node's port without an address
}

// claim is a Service port that wants a destination.
type claim struct {
	by    by
	ports []*port // the answers that are right
}

// checker compares one family's rules.
type checker struct {
	c       *Config
	rs      *rules.Ruleset
	m       *rules.Machine
	sources []source
	claims  map[destination][]claim
	local   map[netip.Addr]bool
	at, not []netip.Addr
	result  Result
	// seen bounds what is said of one Service.
	seen map[string]map[Kind]bool
	// table and root are the first of kube-proxy's own chains.
	table, root string
}

// State is what the API wants: Services by name and their EndpointSlices.
type State struct {
	Services map[string]*Service
	Slices   map[string][]*Slice
}

// Check compares the rules of a mode and a family with what the API wants. Only
// Services of which only is true are compared, all if it is nil.
func Check(rs *rules.Ruleset, state *State, c *Config, only func(service string) bool) (Result, error) {
	k := newChecker(rs, c)
	order := k.claim(state)
	if err := k.checkClaims(order, only); err != nil {
		return Result{}, err
	}
	if only == nil {
		if err := k.unclaimed(); err != nil {
			return Result{}, err
		}
		if err := k.forwarding(); err != nil {
			return Result{}, err
		}
	}
	return k.result, nil
}

// Packets are those that Check runs over the rules of a family, to what Services
// have.
func Packets(state *State, c *Config) (out []rules.Packet) {
	k := newChecker(nil, c)
	for _, s := range k.claim(state) {
		for _, d := range k.destinations(s) {
			for _, from := range k.sourcesFor(k.claims[d.destination]) {
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

func newChecker(rs *rules.Ruleset, c *Config) *checker {
	k := &checker{c: c, rs: rs, claims: map[destination][]claim{}, local: map[netip.Addr]bool{}, seen: map[string]map[Kind]bool{}, sources: c.sources()}
	for _, a := range c.Addresses {
		k.local[a] = true
	}
	k.m = rules.NewMachine(rs, rules.Host{Local: func(a netip.Addr) bool { return k.local[a] || a.IsLoopback() }})
	k.at, k.not = c.nodePorts()
	k.table, k.root = "kube-proxy", "services"
	if c.Mode == ModeIPTables {
		k.table, k.root = "nat", "KUBE-SERVICES"
	}
	return k
}

// claim notes what every Service wants; it returns the Services that are compared.
func (k *checker) claim(state *State) (order []*Service) {
	f := k.c.Family
	for name, s := range state.Services {
		ips := ofFamily(s.ClusterIPs, f)
		if len(ips) == 0 {
			continue
		}
		order = append(order, s)
		for i := range s.Ports {
			p := &s.Ports[i]
			answers := wanted(s, p, state.Slices[name], f, k.c.Node, k.c.Zone, k.c.ZoneKnown)
			add := func(b by, a netip.Addr, port uint16) {
				d := destination{p.Protocol, netip.AddrPortFrom(a, port)}
				k.claims[d] = append(k.claims[d], claim{b, answers})
			}
			for _, a := range ips {
				add(byClusterIP, a, p.Port)
			}
			for _, a := range ofFamily(s.ExternalIPs, f) {
				add(byExternalIP, a, p.Port)
			}
			for _, a := range ofFamily(s.LoadBalancerIPs, f) {
				add(byLoadBalancer, a, p.Port)
			}
			if p.NodePort != 0 {
				add(byNodePort, netip.Addr{}, p.NodePort)
			}
		}
	}
	slices.SortFunc(order, func(a, b *Service) int { return strings.Compare(a.Name, b.Name) })
	return order
}

// together is how many Services' chains are read in one go.
const together = 64

// checkClaims compares Service by Service, and lets go of the rules behind it.
func (k *checker) checkClaims(order []*Service, only func(string) bool) error {
	if only != nil {
		order = slices.DeleteFunc(order, func(s *Service) bool { return !only(s.Name) })
	}
	for part := range slices.Chunk(order, together) {
		chains, err := k.load(part)
		if err != nil {
			return err
		}
		for _, s := range part {
			k.result.Services++
			if err := k.checkService(s); err != nil {
				return err
			}
		}
		k.rs.Forget(k.table, chains...)
	}
	return nil
}

// load reads what is behind Services: their chains and those of their endpoints.
func (k *checker) load(part []*Service) (chains []string, err error) {
	for _, s := range part {
		for i := range s.Ports {
			chains = append(chains, chainsOf(k.c.Mode, s, &s.Ports[i])...)
		}
	}
	if k.c.Mode != ModeIPTables {
		var sets []string
		for _, name := range chains {
			if c, err := k.rs.Chain(k.table, name); err != nil {
				return nil, err
			} else if c != nil {
				sets = append(sets, c.Lookups()...)
			}
		}
		return nil, k.rs.LoadSets(k.table, sets...)
	}
	if err := k.rs.Load(k.table, chains...); err != nil {
		return nil, err
	}
	var more []string
	for _, name := range chains {
		if c, err := k.rs.Chain(k.table, name); err != nil {
			return nil, err
		} else if c != nil {
			for _, j := range c.Jumps() {
				if strings.HasPrefix(j, "KUBE-SEP-") {
					more = append(more, j)
				}
			}
		}
	}
	return append(chains, more...), k.rs.Load(k.table, more...)
}

func (k *checker) checkService(s *Service) error {
	for _, d := range k.destinations(s) {
		if err := k.checkDestination(s, d); err != nil {
			return err
		}
	}
	for _, d := range k.nobodys(s) {
		if err := k.checkNobody(s, d); err != nil {
			return err
		}
	}
	return nil
}

// nobodys are destinations near those of a Service that are no Service's.
func (k *checker) nobodys(s *Service) (out []destination) {
	add := func(proto uint8, to netip.AddrPort) {
		if d := (destination{proto, to}); len(k.claims[d]) == 0 {
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
		for i, r := range c.ports[0].service.ranges(k.c.Family) {
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

// checkDestination runs packets to a destination from everywhere.
func (k *checker) checkDestination(s *Service, d reached) error {
	claims := k.claims[d.destination]
	for _, from := range k.sourcesFor(claims) {
		p := from.Packet
		p.Proto, p.Dst = d.proto, d.to
		ways, err := k.m.Run(p)
		if err != nil {
			return err
		}
		var worst *difference
		right, accepts := false, false
		for _, c := range claims {
			for _, w := range c.ports {
				e := w.expect(c.by, &from, d.to.Addr(), k.c)
				accepts = accepts || e.kind == rules.Accept
				diff := k.compare(e, ways, w.service, &from)
				if diff == nil {
					right = true
				} else if worst == nil || w.service == s {
					diff.by, worst = c.by, diff
				}
			}
		}
		if accepts {
			k.result.Wanted++
		}
		switch {
		case right && accepts:
			k.result.Sent++
			continue
		case right, worst == nil:
			continue
		}
		if worst.kind == Missing {
			if unlinked, err := k.unlinked(p, claims, &from); err != nil {
				return err
			} else if unlinked != "" {
				worst.kind, worst.what = Unlinked, unlinked
			}
		}
		k.note(s.Name, worst.kind, fmt.Sprintf("%s %s/%s from %s: %s", worst.by, d.to, protocolName(d.proto), from.name, worst.what))
	}
	return nil
}

// note keeps one difference of each kind of a Service.
func (k *checker) note(service string, kind Kind, what string) {
	if k.seen[service] == nil {
		k.seen[service] = map[Kind]bool{}
	}
	if service != "" && k.seen[service][kind] {
		return
	}
	k.seen[service][kind] = true
	k.result.Drifts = append(k.result.Drifts, Drift{service, kind, what})
}

// difference is how the ways of a packet differ from what is wanted.
type difference struct {
	kind Kind
	what string
	by   by
}

// share is how much of the traffic an endpoint may get more or less than its
// part, of that part.
const share = 0.05

// compare is nil if all the ways are right.
func (k *checker) compare(e expectation, ways []rules.Outcome, s *Service, from *source) *difference {
	got, other := map[netip.AddrPort]float64{}, 0.0
	kind := rules.Accept
	for i := range ways {
		o := &ways[i]
		switch {
		case o.From.IsValid() || o.Known != "":
		case o.To.IsValid() && o.Kind == rules.Accept:
			got[o.To] += o.Weight
		default:
			other += o.Weight
			kind = o.Kind
		}
	}
	if e.kind != rules.Accept || len(e.endpoints) == 0 {
		return compareRefusal(e, kind, got)
	}
	var lacks, extra []string
	for _, w := range e.endpoints {
		if got[w.to] == 0 {
			lacks = append(lacks, w.to.String())
		}
	}
	for to := range got {
		if !slices.ContainsFunc(e.endpoints, func(w endpoint) bool { return w.to == to }) {
			extra = append(extra, to.String())
		}
	}
	slices.Sort(extra)
	switch {
	case len(got) == 0:
		return &difference{kind: Missing, what: "it is not sent to an endpoint" + becomes(kind)}
	case len(lacks) > 0 && len(extra) > 0:
		return &difference{kind: WrongBackend, what: "it may be sent to " + some(extra) + " and never to " + some(lacks)}
	case len(lacks) > 0:
		return &difference{kind: Missing, what: "it is never sent to " + some(lacks)}
	case len(extra) > 0:
		return &difference{kind: Stale, what: "it may be sent to " + some(extra)}
	case other > 0.001:
		return &difference{kind: Missing, what: fmt.Sprintf("of %.0f %% of the packets none is sent to an endpoint%s", 100*other, becomes(kind))}
	}
	for _, w := range e.endpoints {
		if want := 1 / float64(len(e.endpoints)); math.Abs(got[w.to]-want) > share*want {
			return &difference{kind: WrongBackend, what: fmt.Sprintf("%.1f %% of it is sent to %s, of which its part is %.1f %%", 100*got[w.to], w.to, 100*want)}
		}
	}
	if d := k.compareMasquerade(e, ways, from); d != nil {
		return d
	}
	return compareAffinity(e, ways, s)
}

// compareRefusal is of a packet that should go to no endpoint.
func compareRefusal(e expectation, kind rules.VerdictKind, got map[netip.AddrPort]float64) *difference {
	switch {
	case len(got) > 0:
		var to []string
		for a := range got {
			to = append(to, a.String())
		}
		slices.Sort(to)
		return &difference{kind: Stale, what: "it may be sent to " + some(to) + " and should be" + becomes(e.kind)}
	case kind == e.kind:
		return nil
	case kind == rules.Accept:
		return &difference{kind: Missing, what: "it should be" + becomes(e.kind) + " and is let through"}
	case e.kind == rules.Accept:
		return &difference{kind: Stale, what: "no rule should be for it, and it is" + becomes(kind)}
	}
	return &difference{kind: Missing, what: "it should be" + becomes(e.kind) + " and is" + becomes(kind)}
}

func becomes(k rules.VerdictKind) string {
	return map[rules.VerdictKind]string{rules.Drop: " dropped", rules.Reject: " refused"}[k]
}

// some shortens a list for a person.
func some(list []string) string {
	const most = 3
	if len(list) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
	}
	return strings.Join(list, ", ")
}

// compareMasquerade is of whether the source is replaced, as it must be where
// the answer would not come back otherwise; from is nil if that was not seen.
func (k *checker) compareMasquerade(e expectation, ways []rules.Outcome, from *source) *difference {
	if from == nil {
		return nil
	}
	hairpin := map[netip.AddrPort]bool{}
	for i := range ways {
		o := &ways[i]
		if o.From.IsValid() {
			if o.From == o.To.Addr() && o.Masqueraded {
				hairpin[o.To] = true
			}
			continue
		}
		if o.Hairpin || o.Masqueraded {
			hairpin[o.To] = true
		}
		if e.masquerade == nil || k.local[o.To.Addr()] || o.Masqueraded == *e.masquerade || !o.To.IsValid() {
			continue
		}
		if *e.masquerade {
			return &difference{kind: Missing, what: "its source should be replaced (masquerade) and is not"}
		}
		return &difference{kind: Stale, what: "its source is replaced (masquerade) and should not be"}
	}
	if !from.AnyPod {
		return nil
	}
	for _, w := range e.endpoints {
		if w.local && !k.local[w.to.Addr()] && !hairpin[w.to] {
			return &difference{kind: Missing, what: fmt.Sprintf("the source should be replaced (masquerade) if it is %s itself and is not", w.to.Addr())}
		}
	}
	return nil
}

// compareAffinity is of whether a client stays with an endpoint.
func compareAffinity(e expectation, ways []rules.Outcome, s *Service) *difference {
	records := map[string]netip.AddrPort{}
	for i := range ways {
		switch o := &ways[i]; {
		case o.From.IsValid() || o.Known != "":
		case s.Sticky == 0 && o.Records != "":
			return &difference{kind: Stale, what: "a client should not stay with an endpoint and does"}
		case s.Sticky != 0 && o.Records == "":
			return &difference{kind: Missing, what: fmt.Sprintf("a client should stay with %s and is not remembered", o.To)}
		case s.Sticky != 0:
			records[o.Records] = o.To
		}
	}
	stays := map[string]bool{}
	for i := range ways {
		o := &ways[i]
		if o.Known == "" || o.From.IsValid() {
			continue
		}
		if s.Sticky == 0 || o.KnownFor != uint64(s.Sticky/time.Millisecond) {
			return &difference{kind: Stale, what: fmt.Sprintf("a client stays with %s for %s and should for %s", o.To, time.Duration(o.KnownFor)*time.Millisecond, s.Sticky)}
		}
		if to, known := records[o.Known]; known {
			if o.To != to {
				return &difference{kind: WrongBackend, what: fmt.Sprintf("a client that should stay with %s may be sent to %s", to, o.To)}
			}
			stays[o.Known] = true
		}
	}
	if s.Sticky != 0 && len(e.endpoints) > 1 {
		for list, to := range records {
			if !stays[list] {
				return &difference{kind: Missing, what: fmt.Sprintf("a client should stay with %s and does not", to)}
			}
		}
	}
	return nil
}
