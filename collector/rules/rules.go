// Package rules reads what the kernel's packet filter has for kube-proxy, of
// nf_tables (whoever wrote it: kube-proxy's mode nftables or iptables) and of
// the old iptables, and says what it does with a packet by running it over one.
// It asks by netlink and getsockopt only: it never writes, takes no lock and
// starts no program. It does not know what the rules should be.
package rules

import (
	"errors"
	"fmt"
	"slices"
)

// Family is an IP family by its number in netfilter (NFPROTO_IPV4, NFPROTO_IPV6).
type Family uint8

// The families that kube-proxy serves.
const (
	IPv4 Family = 2
	IPv6 Family = 10
)

func (f Family) String() string {
	if f == IPv6 {
		return "IPv6"
	}
	return "IPv4"
}

// AddrLen is how many bytes an address has.
func (f Family) AddrLen() int {
	if f == IPv6 {
		return 16
	}
	return 4
}

// Hook is where packets meet a base chain (NF_INET_*).
type Hook uint8

// The hooks in the order of the kernel's numbers.
const (
	Prerouting Hook = iota
	Input
	Forward
	Output
	Postrouting
	noHook
)

// Chain is a list of rules.
type Chain struct {
	Table, Name string
	// Hook and Priority are of a base chain; Hook is noHook of another.
	Hook     Hook
	Priority int32
	NAT      bool
	// Drops is whether a base chain's policy is to drop.
	Drops bool
	Rules []Rule

	index *index
}

// Base is whether packets meet the chain at a hook.
func (c *Chain) Base() bool { return c.Hook != noHook }

// Rule is what is asked of a packet and done with it, in order.
type Rule struct {
	Handle  uint64
	Ops     []op
	Comment string
}

// Set is a set or a map of nf_tables.
type Set struct {
	Table, Name string
	KeyLen      int
	Intervals   bool
	// Dynamic is of a set that packets add to; Timeout is then for how long, in ms.
	Dynamic   bool
	Timeout   uint64
	Anonymous bool
	Elements  map[string]Element
	// sorted are the elements of one with intervals.
	sorted []Element
	// single asks for elements one by one, where it is not nil: Elements are those
	// that there are of those that were asked for.
	single *partSource
	absent map[string]bool
	opaque bool // it has elements that are not understood
}

// Element is one of a Set.
type Element struct {
	Key []byte
	// End is of an interval: it is the first key after it.
	End     bool
	Value   []byte
	Verdict *Verdict
}

// VerdictKind is what becomes of a packet.
type VerdictKind uint8

// Kinds of verdicts.
const (
	None VerdictKind = iota
	Accept
	Drop
	Reject
	Jump
	Goto
	Return
	Continue
)

// Verdict is what a rule or an element of a verdict map says.
type Verdict struct {
	Kind  VerdictKind
	Chain string
}

// Ruleset is what the kernel has in the tables of an IP family that kube-proxy
// uses. Chains whose rules were not read are read when a packet comes to them.
type Ruleset struct {
	Family Family
	chains map[named]*Chain
	sets   map[named]*Set
	source source
	part   *partSource // asks for chains and sets by name; nil if all are known
	loaded []*Chain    // those of which the rules were asked for
	// bases are the base chains of each hook, in the order of priority.
	bases [noHook][]*Chain
}

// source reads what a Ruleset lacks.
type source interface {
	rulesOf(table string, chains []string) ([][]Rule, error)
	elementsOf(table string, sets []*Set) error
}

// Errors of what cannot be read.
var (
	// ErrChanged is for rules that changed while they were read.
	ErrChanged = errors.New("the rules changed while they were read")
	// ErrUnsupported is for a kernel without nf_tables, or without that table.
	ErrUnsupported = errors.New("the kernel has no such rules")
	// ErrMalformed is for an answer of the kernel that cannot be understood.
	ErrMalformed = errors.New("malformed")
)

func malformed(what string) error { return fmt.Errorf("%w: %s", ErrMalformed, what) }

// named is a chain or a set.
type named struct{ table, name string }

func key(table, name string) named { return named{table, name} }

func newRuleset(f Family, s source) *Ruleset {
	return &Ruleset{Family: f, source: s, chains: map[named]*Chain{}, sets: map[named]*Set{}}
}

func (r *Ruleset) add(c *Chain) {
	r.chains[key(c.Table, c.Name)] = c
	if c.Base() {
		r.bases[c.Hook] = append(r.bases[c.Hook], c)
		slices.SortStableFunc(r.bases[c.Hook], func(a, b *Chain) int { return int(a.Priority) - int(b.Priority) })
	}
}

// Has is whether there is such a chain; in a reading in part, one that has rules.
func (r *Ruleset) Has(table, name string) (bool, error) {
	c, err := r.Chain(table, name)
	return c != nil && (r.part == nil || len(c.Rules) > 0), err
}

// chain is a chain, maybe without its rules; nil if there is none.
func (r *Ruleset) chain(table, name string) *Chain {
	c := r.chains[key(table, name)]
	if c == nil && r.part != nil {
		c = &Chain{Table: table, Name: name, Hook: noHook}
		r.chains[key(table, name)] = c
	}
	return c
}

// Chain is a chain with its rules; nil if there is none.
func (r *Ruleset) Chain(table, name string) (*Chain, error) {
	c := r.chain(table, name)
	if c == nil || c.Rules != nil {
		return c, nil
	}
	return c, r.Load(table, name)
}

// Load reads the rules of chains that were not read yet.
func (r *Ruleset) Load(table string, names ...string) error {
	var wanted []string
	for _, n := range names {
		if c := r.chain(table, n); c != nil && c.Rules == nil && !slices.Contains(wanted, n) {
			wanted = append(wanted, n)
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	if r.source == nil {
		for _, n := range wanted {
			r.chains[key(table, n)].Rules = []Rule{}
		}
		return nil
	}
	read, err := r.source.rulesOf(table, wanted)
	if err != nil {
		return err
	}
	for i, n := range wanted {
		c := r.chains[key(table, n)]
		if c.Rules = read[i]; c.Rules == nil {
			c.Rules = []Rule{}
		}
		r.loaded = append(r.loaded, c)
	}
	return nil
}

// Forget lets go of the rules of chains by their names, and of the elements of sets
// without a name; they are read again when they are needed.
func (r *Ruleset) Forget(of func(chain string) bool, table string, sets ...string) {
	r.loaded = slices.DeleteFunc(r.loaded, func(c *Chain) bool {
		if !of(c.Name) {
			return false
		}
		c.Rules, c.index = nil, nil
		if r.part != nil {
			delete(r.chains, key(c.Table, c.Name))
		}
		return true
	})
	for _, n := range sets {
		if s := r.sets[key(table, n)]; s != nil && s.Anonymous && r.source != nil {
			s.Elements, s.sorted = nil, nil
		}
	}
}

// set is a set, maybe without its elements; nil if there is none.
func (r *Ruleset) set(table, name string) (*Set, error) {
	s, known := r.sets[key(table, name)]
	if known || r.part == nil {
		return s, nil
	}
	s, err := r.part.set(table, name)
	if err == nil {
		r.sets[key(table, name)] = s
	}
	return s, err
}

// Set is a set with its elements; nil if there is none.
func (r *Ruleset) Set(table, name string) (*Set, error) {
	s, err := r.set(table, name)
	if s == nil || s.Elements != nil || s.Dynamic || err != nil {
		return s, err
	}
	return s, r.LoadSets(table, name)
}

// LoadSets reads the elements of sets that were not read yet.
func (r *Ruleset) LoadSets(table string, names ...string) error {
	var wanted []*Set
	for _, n := range names {
		if s, err := r.set(table, n); err != nil {
			return err
		} else if s != nil && s.Elements == nil && !s.Dynamic && !slices.Contains(wanted, s) {
			wanted = append(wanted, s)
		}
	}
	if len(wanted) == 0 || r.source == nil {
		return nil
	}
	return r.source.elementsOf(table, wanted)
}

// Jumps are the chains that a chain's rules jump or go to, in their order.
func (c *Chain) Jumps() (out []string) {
	for i := range c.Rules {
		for j := range c.Rules[i].Ops {
			if o := &c.Rules[i].Ops[j]; o.kind == opVerdict && (o.verdict.Kind == Jump || o.verdict.Kind == Goto) {
				out = append(out, o.verdict.Chain)
			}
		}
	}
	return out
}

// Lookups are the sets that a chain's rules look into, by name.
func (c *Chain) Lookups() (out []string) {
	for i := range c.Rules {
		out = append(out, c.Rules[i].lookups()...)
	}
	return out
}

func (r *Rule) lookups() (out []string) {
	for i := range r.Ops {
		if o := &r.Ops[i]; o.kind == opLookup {
			out = append(out, o.name)
		}
	}
	return out
}

// Addressee is whom a rule is for, as far as it names one: Dst is empty if it
// is for any address, in network order.
type Addressee struct {
	Dst   string
	Proto uint8
	Port  uint16
}

// Addressee is what a rule asks for exactly; ok if it names a protocol and a port.
func (r *Rule) Addressee() (a Addressee, ok bool) {
	for i := range r.Ops {
		switch o := &r.Ops[i]; {
		case o.negated:
		case o.kind == opDst && (len(o.data) == 16 || len(o.data) == 4 && o.whole):
			a.Dst = string(o.data)
		case o.kind == opProto:
			a.Proto = uint8(o.x)
		case o.kind == opDport && o.x == o.y:
			a.Port = uint16(o.x)
		}
	}
	return a, a.Proto != 0 && a.Port != 0
}

// Target is the chain that a rule jumps or goes to; empty if it does not.
func (r *Rule) Target() string {
	for i := range r.Ops {
		if o := &r.Ops[i]; o.kind == opVerdict && o.verdict.Chain != "" {
			return o.verdict.Chain
		}
	}
	return ""
}

// Linked is whether a packet at a hook may come to a chain of that table: a rule
// of a base chain there jumps to it.
func (r *Ruleset) Linked(h Hook, table, chain string) (bool, error) {
	for _, c := range r.bases[h] {
		if c.Table != table {
			continue
		}
		if _, err := r.Chain(table, c.Name); err != nil {
			return false, err
		}
		for i := range c.Rules {
			if c.Rules[i].Target() == chain {
				return true, nil
			}
		}
	}
	return false, nil
}

// Targets are the addresses, protocols and ports that a set or map of nf_tables
// has elements for, and the chain that each leads to. A field that a set does not
// have is empty.
func (s *Set) Targets(f Family) map[Addressee]string {
	out := map[Addressee]string{}
	for k, e := range s.Elements {
		if a, ok := AddresseeOf(f, k); ok {
			out[a] = e.target()
		}
	}
	return out
}

func (e *Element) target() string {
	if e.Verdict == nil {
		return ""
	}
	return e.Verdict.Chain
}

// AddresseeOf is what the key of an element says; ok if it is one of an address, of a
// protocol and a port, or of all three.
func AddresseeOf(f Family, k string) (a Addressee, ok bool) {
	switch n := f.AddrLen(); len(k) {
	case n:
		return Addressee{Dst: k}, true
	case n + 8: // each in words of 4 bytes
		return Addressee{k[:n], k[n], uint16(k[n+4])<<8 | uint16(k[n+5])}, true
	case 8:
		return Addressee{"", k[0], uint16(k[4])<<8 | uint16(k[5])}, true
	}
	return a, false
}

// key is AddresseeOf the other way around.
func (a Addressee) key() string {
	if a.Proto == 0 {
		return a.Dst
	}
	return a.Dst + string([]byte{a.Proto, 0, 0, 0, byte(a.Port >> 8), byte(a.Port), 0, 0})
}

// Target is the chain to which a set or map of nf_tables leads what is for an
// addressee; empty if to none. ok says whether there is an element for it.
func (r *Ruleset) Target(table, set string, a Addressee) (chain string, ok bool, err error) {
	s, err := r.Set(table, set)
	k := a.key()
	if s == nil || err != nil || len(k) != s.KeyLen {
		return "", false, err
	}
	e, ok, err := s.find([]byte(k))
	return e.target(), ok, err
}

func (h Hook) String() string {
	return [...]string{"prerouting", "input", "forward", "output", "postrouting", "none"}[min(h, noHook)]
}
