package audit

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

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
	// Of is the addressee of a rule that is of no Service, if it has one.
	Of rules.Addressee
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

// checker compares one family's rules.
type checker struct {
	c       *Config
	rs      *rules.Ruleset
	m       *rules.Machine
	sources []source
	claims  *Claims
	slices  map[string][]*Slice
	// answers are the right ones of ports that were asked for.
	answers map[*Port][]*port
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

// Scope is what is compared where it is not everything.
type Scope struct {
	// Services are those that are compared, by name; all if it is nil, and then also
	// that there are no rules for what nobody wants.
	Services map[string]bool
	// Nobody are addressees for which there may be rules although no Service wants
	// them, beside what follows from Services.
	Nobody []rules.Addressee
	// Claims are those of the Services; made anew if it is nil.
	Claims *Claims
}

// Check compares the rules of a mode and a family with what the API wants; scope
// may be nil, for everything.
func Check(rs *rules.Ruleset, state *State, c *Config, scope *Scope) (Result, error) {
	if scope == nil {
		scope = &Scope{}
	}
	k := newChecker(rs, state, c, scope.Claims)
	if err := k.checkClaims(state.inOrder(c.Family, scope.Services)); err != nil {
		return Result{}, err
	}
	if scope.Services != nil {
		err := k.nobodysOf(scope.Nobody)
		return k.result, err
	}
	if err := k.unclaimed(); err != nil {
		return Result{}, err
	}
	if err := k.passing(); err != nil {
		return Result{}, err
	}
	return k.result, k.forwarding()
}

func newChecker(rs *rules.Ruleset, state *State, c *Config, claims *Claims) *checker {
	if claims == nil {
		claims = NewClaims(state.Services, c.Family)
	}
	k := &checker{c: c, rs: rs, claims: claims, slices: state.Slices, answers: map[*Port][]*port{}, local: map[netip.Addr]bool{}, seen: map[string]map[Kind]bool{}, sources: c.sources()}
	for _, a := range c.Addresses {
		k.local[a] = true
	}
	k.m = rules.NewMachine(rs, rules.Host{Local: func(a netip.Addr) bool { return k.local[a] || a.IsLoopback() }})
	k.m.OwnOnly = true // what others drop, or let through, is not kube-proxy's
	k.at, k.not = c.nodePorts()
	k.table, k.root = "kube-proxy", "services"
	if c.Mode == ModeIPTables {
		k.table, k.root = "nat", "KUBE-SERVICES"
	}
	k.m.Watch(k.table, k.root)
	return k
}

// inOrder are the Services of an IP family that are compared; all if names is nil.
func (s *State) inOrder(f rules.Family, names map[string]bool) (order []*Service) {
	add := func(one *Service) {
		if one != nil && len(ofFamily(one.ClusterIPs, f)) > 0 {
			order = append(order, one)
		}
	}
	if names == nil {
		for _, one := range s.Services {
			add(one)
		}
	}
	for name := range names {
		add(s.Services[name])
	}
	slices.SortFunc(order, func(a, b *Service) int { return strings.Compare(a.Name, b.Name) })
	return order
}

// right are the answers that are right for a claim.
func (k *checker) right(c claim) []*port {
	out, known := k.answers[c.port]
	if !known {
		out = wanted(c.service, c.port, k.slices[c.service.Name], k.c.Family, k.c.Node, k.c.Zone, k.c.ZoneKnown)
		k.answers[c.port] = out
	}
	return out
}

// together is how many Services' chains are read in one go.
const together = 64

// checkClaims compares Service by Service, and lets go of the rules behind it.
func (k *checker) checkClaims(order []*Service) error {
	for part := range slices.Chunk(order, together) {
		sets, err := k.load(part)
		if err != nil {
			return err
		}
		for _, s := range part {
			k.result.Services++
			if err := k.checkService(s); err != nil {
				return err
			}
		}
		k.rs.Forget(k.ofService, k.table, sets...)
		clear(k.answers)
	}
	return nil
}

// ofService is whether a chain is of one Service.
func (k *checker) ofService(chain string) bool {
	if k.c.Mode != ModeIPTables {
		_, ok := Owner(chain)
		return ok
	}
	kind, _, _ := strings.Cut(strings.TrimPrefix(chain, "KUBE-"), "-")
	return slices.Contains([]string{"SVC", "SVL", "EXT", "FW", "SEP"}, kind)
}

// load reads what is behind Services: their chains and those of their endpoints, and
// the sets without a name that those look into.
func (k *checker) load(part []*Service) (sets []string, err error) {
	var chains, more []string
	for _, s := range part {
		for i := range s.Ports {
			chains = append(chains, chainsOf(k.c.Mode, s, &s.Ports[i])...)
		}
	}
	if err := k.rs.Load(k.table, chains...); err != nil {
		return nil, err
	}
	for _, name := range chains {
		c, err := k.rs.Chain(k.table, name)
		if err != nil {
			return nil, err
		}
		if c == nil {
			continue
		}
		sets = append(sets, c.Lookups()...)
		for _, j := range c.Jumps() {
			if strings.HasPrefix(j, "KUBE-SEP-") {
				more = append(more, j)
			}
		}
	}
	if k.c.Mode == ModeIPTables {
		return nil, k.rs.Load(k.table, more...)
	}
	return sets, k.rs.LoadSets(k.table, sets...)
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

// checkDestination runs packets to a destination from everywhere.
func (k *checker) checkDestination(s *Service, d reached) error {
	claims := k.claims.of[d.destination]
	for _, from := range k.sourcesFor(claims) {
		p := from.Packet
		p.Proto, p.Dst = d.proto, d.to
		ways, err := k.m.Run(p)
		if err != nil {
			return err
		}
		met := k.m.Met()
		var worst *difference
		right, accepts, worstOwn := false, false, false
		for _, c := range claims {
			for _, w := range k.right(c) {
				e := w.expect(c.by, &from, d.to.Addr(), k.c)
				accepts = accepts || e.kind == rules.Accept
				diff := k.compare(e, ways, w.service, &from)
				own := w.service == s
				switch {
				case diff == nil:
					right = true
				case worst == nil, own && !worstOwn, own == worstOwn && diff.endpoints < worst.endpoints:
					// Of several answers that would be right, what is there is nearest to one.
					diff.by, worst, worstOwn = c.by, diff, own
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
		case obscure(ways):
			return errObscure
		}
		if worst.kind == Stale && !k.seen[s.Name][Stale] && k.zoneless(claims, ways, &from, d.to.Addr()) {
			worst.what += Zoneless
		}
		if worst.kind == Missing {
			behind := claims
			if met { // then they do not do what they should
				behind = nil
			}
			if unlinked, err := k.unlinked(p, behind, &from); err != nil {
				return err
			} else if unlinked != "" {
				worst.kind, worst.what = Unlinked, unlinked
			}
		}
		k.note(s.Name, worst.kind, fmt.Sprintf("%s %s/%s from %s: %s", worst.by, d.to, protocolName(d.proto), from.name, worst.what))
	}
	return nil
}

// Zoneless ends what is said of rules that would be right if the node had no zone, or the
// endpoints no hints. A kube-proxy that misses its node's zone when it begins does not
// hear of it again: NewNodeTopologyConfig of v1.37 is told of the Node before it has a
// handler to tell.
const Zoneless = "; it is as if the node had no zone, or the endpoints no hints"

// zoneless is whether the ways are right for a node without a zone.
func (k *checker) zoneless(claims []claim, ways []rules.Outcome, from *source, to netip.Addr) bool {
	if !k.c.ZoneKnown || k.c.Zone == "" {
		return false
	}
	for _, c := range claims {
		for _, w := range wanted(c.service, c.port, k.slices[c.service.Name], k.c.Family, k.c.Node, "", true) {
			if k.compare(w.expect(c.by, from, to, k.c), ways, w.service, from) == nil {
				return true
			}
		}
	}
	return false
}

// errObscure is for rules of kube-proxy's that are not understood, and that may be why
// something seems to differ.
var errObscure = fmt.Errorf("%w: a rule of kube-proxy's is of a kind that is not known", rules.ErrMalformed)

func obscure(ways []rules.Outcome) bool {
	return slices.ContainsFunc(ways, func(o rules.Outcome) bool { return o.OwnOpaque })
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
	k.result.Drifts = append(k.result.Drifts, Drift{Service: service, Kind: kind, What: what})
}

// noteNobodys is note for a rule that is of no Service.
func (k *checker) noteNobodys(of rules.Addressee, what string) {
	k.note("", Stale, what)
	k.result.Drifts[len(k.result.Drifts)-1].Of = of
}
