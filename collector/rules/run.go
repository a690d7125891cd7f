package rules

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Machine runs packets over a Ruleset.
type Machine struct {
	r    *Ruleset
	host Host
	// states wait to be gone on with.
	states  []*state
	free    []*state
	steps   int
	out     []Outcome
	watched named
	met     bool
	// OwnOnly lets a packet go on that others than kube-proxy would drop or refuse.
	OwnOnly bool
}

// NewMachine makes one.
func NewMachine(r *Ruleset, host Host) *Machine { return &Machine{r: r, host: host} }

// Watch is of the chain of which Met speaks.
func (m *Machine) Watch(table, chain string) { m.watched = key(table, chain) }

// Met is whether the last packet came to the watched chain in all of its ways, or to an
// end that kube-proxy's own rules made for it before any NAT.
func (m *Machine) Met() bool { return m.met }

// What bounds a walk: rules that were read while they changed may have loops.
const (
	maxDepth = 20
	maxSteps = 1 << 20
)

// ErrEndless is for rules over which a packet never comes to an end.
var ErrEndless = errors.New("the rules have no end")

type frame struct {
	chain *Chain
	some  []int32
	all   bool
	next  int
}

// state is a packet on its way.
type state struct {
	m      *Machine
	p      Packet
	net    [40]byte
	trans  [4]byte
	regs   [registers]byte
	frames [maxDepth]frame
	depth  int
	rule   *Rule
	op     int
	// hooks are those that it still has to pass; base is the next chain of the first.
	hooks []Hook
	base  int
	// srcReg is where in the registers the source stands, -1 if nowhere.
	srcReg int
	// unknown are lists in which the source is not.
	unknown []string
	// met is whether it came to the watched chain, natted whether to any of NAT.
	met, natted bool
	out         Outcome
}

// Paths of a packet over the hooks.
var (
	fromOutside = []Hook{Prerouting}
	fromHost    = []Hook{Output}
	toHost      = []Hook{Input}
	through     = []Hook{Forward, Postrouting}
	leaving     = []Hook{Postrouting}
)

// Run says all the ways that a packet may go, until it is called again.
func (m *Machine) Run(p Packet) ([]Outcome, error) { return m.run(p, nil) }

// RunFrom runs a packet from the beginning of a chain instead of from a hook.
func (m *Machine) RunFrom(p Packet, table, chain string) ([]Outcome, error) {
	c, err := m.r.Chain(table, chain)
	if err != nil || c == nil {
		return nil, err
	}
	return m.run(p, c)
}

func (m *Machine) run(p Packet, first *Chain) ([]Outcome, error) {
	if p.State == 0 {
		p.State = StateNew
	}
	s := m.newState()
	*s = state{m: m, p: p, hooks: fromOutside, srcReg: -1}
	if p.FromHost {
		s.hooks = fromHost
	}
	s.out = Outcome{Kind: Accept, Weight: 1}
	s.header()
	if first != nil {
		s.hooks = nil
		if err := s.enter(first); err != nil {
			return nil, err
		}
	}
	m.steps, m.out, m.met = 0, m.out[:0], true
	m.states = append(m.states[:0], s)
	for len(m.states) > 0 {
		s := m.states[len(m.states)-1]
		m.states = m.states[:len(m.states)-1]
		if err := s.walk(); err != nil {
			return nil, err
		}
		if s.out.Weight > 0 {
			m.out = append(m.out, s.out)
			m.met = m.met && (s.met || s.out.From.IsValid()) // what only one source meets is another question
		}
		m.free = append(m.free, s)
	}
	return m.out, nil
}

func (m *Machine) newState() *state {
	if n := len(m.free); n > 0 {
		s := m.free[n-1]
		m.free = m.free[:n-1]
		return s
	}
	return &state{}
}

// fork is a second packet that goes on from here.
func (s *state) fork() *state {
	o := s.m.newState()
	*o = *s
	s.m.states = append(s.m.states, o)
	return o
}

func (s *state) enter(c *Chain) error {
	if c.Name == s.m.watched.name && c.Table == s.m.watched.table {
		s.met = true
	}
	if c.Rules == nil {
		if err := s.m.r.Load(c.Table, c.Name); err != nil {
			return err
		}
	}
	if s.depth == maxDepth {
		return fmt.Errorf("%w: chain %s", ErrEndless, c.Name)
	}
	f := frame{chain: c}
	f.some, f.all = c.candidates(Addressee{Dst: string(s.net[s.m.r.Family.dstOffset():][:s.m.r.Family.AddrLen()]), Proto: s.p.Proto, Port: s.p.Dst.Port()})
	s.frames[s.depth] = f
	s.depth++
	s.rule = nil
	return nil
}

// walk goes on until the packet has come to its end.
func (s *state) walk() error {
	for {
		if s.m.steps++; s.m.steps > maxSteps {
			return ErrEndless
		}
		if s.rule == nil {
			done, err := s.nextRule()
			if err != nil || done {
				return err
			}
			continue
		}
		if s.op == len(s.rule.Ops) {
			s.rule = nil
			continue
		}
		o := &s.rule.Ops[s.op]
		s.op++
		matched, v, err := s.step(o)
		switch {
		case err != nil:
			return err
		case v != nil:
			if done, err := s.verdict(v); err != nil || done {
				return err
			}
		case !matched:
			s.rule = nil
		}
	}
}

// nextRule finds what comes next: a rule, the chain that jumped here, the next
// base chain; done if there is none.
func (s *state) nextRule() (done bool, err error) {
	for s.depth > 0 {
		f := &s.frames[s.depth-1]
		switch {
		case f.all && f.next < len(f.chain.Rules):
			s.rule = &f.chain.Rules[f.next]
		case !f.all && f.next < len(f.some):
			s.rule = &f.chain.Rules[f.some[f.next]]
		default:
			if s.depth--; s.depth == 0 && s.drops(f.chain) {
				s.out.Kind = Drop
				return true, nil
			}
			continue
		}
		f.next++
		s.op = 0
		return false, nil
	}
	return s.nextBase()
}

func (s *state) nextBase() (done bool, err error) {
	for len(s.hooks) > 0 {
		bases := s.m.r.bases[s.hooks[0]]
		if s.base < len(bases) {
			c := bases[s.base]
			s.base++
			if c.NAT && s.hooks[0] != Postrouting && s.out.To.IsValid() {
				continue
			}
			s.natted = s.natted || c.NAT
			return false, s.enter(c)
		}
		s.route()
	}
	return true, nil
}

// route is what follows a hook.
func (s *state) route() {
	local := s.m.host.Local != nil && s.m.host.Local(s.p.Dst.Addr())
	passed := s.hooks[0]
	s.hooks, s.base = s.hooks[1:], 0
	switch {
	case passed == Prerouting && local:
		s.hooks = toHost
	case passed == Prerouting:
		s.hooks = through
	case passed == Output && local:
		s.hooks = toHost
	case passed == Output:
		s.hooks = leaving
	}
}

// verdict follows one; done if it is the packet's end.
func (s *state) verdict(v *Verdict) (done bool, err error) {
	s.rule = nil
	switch v.Kind {
	case Continue:
	case Return:
		c := s.frames[s.depth-1].chain
		if s.depth--; s.depth == 0 && s.drops(c) {
			s.out.Kind = Drop
			return true, nil
		}
	case Jump, Goto:
		table := s.frames[s.depth-1].chain.Table
		c := s.m.r.chain(table, v.Chain)
		if c == nil {
			return false, fmt.Errorf("%w: chain %s is not there", ErrChanged, v.Chain)
		}
		if v.Kind == Goto {
			// What follows the jump to this chain comes next: nothing does here.
			f := &s.frames[s.depth-1]
			f.some, f.all, f.next = nil, false, 0
		}
		return false, s.enter(c)
	case Accept: // ends the walk over this base chain
		s.depth = 0
	case Drop, Reject, None:
		if s.m.OwnOnly && !s.own() {
			return false, nil
		}
		s.met = s.met || !s.natted && s.own()
		s.out.Kind = v.Kind
		if v.Kind == None {
			s.out.Kind = Drop
			s.obscure()
		}
		return true, nil
	}
	return false, nil
}

// own is whether the packet is in a chain of kube-proxy's.
func (s *state) own() bool {
	for i := range s.frames[:s.depth] {
		if c := s.frames[i].chain; c.Table == ownTable || strings.HasPrefix(c.Name, "KUBE-") {
			return true
		}
	}
	return false
}

// drops is whether a packet that comes to a base chain's end is dropped.
func (s *state) drops(c *Chain) bool { return c.Drops && (c.Table == ownTable || !s.m.OwnOnly) }

// obscure notes that a rule is not understood, and is taken not to match.
func (s *state) obscure() {
	s.out.Opaque = true
	s.out.OwnOpaque = s.out.OwnOpaque || s.own()
}

// masquerade replaces the source.
func (s *state) masquerade() *Verdict {
	s.out.Masqueraded, s.out.ByOther = true, !s.own()
	return accept
}

var (
	accept = &Verdict{Kind: Accept}
	reject = &Verdict{Kind: Reject}
)

// dnat sends the packet elsewhere.
func (s *state) dnat(to netip.Addr, port uint16) *Verdict {
	if !to.IsValid() {
		to = s.p.Dst.Addr()
	}
	if port == 0 {
		port = s.p.Dst.Port()
	}
	s.p.Dst = netip.AddrPortFrom(to, port)
	s.out.To, s.out.SentByOther = s.p.Dst, !s.own()
	s.header()
	return accept
}

// step does one op.
func (s *state) step(o *op) (matched bool, v *Verdict, err error) {
	if o.kind > opOpaque {
		return s.xstep(o)
	}
	host := binary.NativeEndian
	switch o.kind {
	case opPayload:
		return s.load(o), nil, nil
	case opMeta:
		return s.meta(o), nil, nil
	case opSetMeta:
		if o.x == unix.NFT_META_MARK {
			s.p.Mark = host.Uint32(s.regs[o.sreg:])
		}
		return true, nil, nil
	case opCmp, opRange, opBitwise:
		return s.compute(o), nil, nil
	case opData:
		copy(s.regs[o.dreg:], o.data)
		return true, nil, nil
	case opVerdict:
		return true, &o.verdict, nil
	case opLookup:
		return s.lookup(o)
	case opCt:
		return s.ct(o), nil, nil
	case opFib:
		return s.fib(o), nil, nil
	case opNumgen:
		s.numgen(o)
		return true, nil, nil
	case opNat:
		if o.x != unix.NFT_NAT_DNAT {
			return true, s.masquerade(), nil
		}
		a, _ := netip.AddrFromSlice(s.regs[o.sreg:][:s.m.r.Family.AddrLen()])
		return true, s.dnat(a, binary.BigEndian.Uint16(s.regs[o.dreg:])), nil
	case opMasquerade:
		return true, s.masquerade(), nil
	case opReject:
		return true, reject, nil
	case opDynset:
		s.out.Records = o.name
		return true, nil, nil
	}
	s.obscure()
	return false, nil, nil
}

// compute compares what is in a register, or changes it.
func (s *state) compute(o *op) bool {
	b := s.regs[o.sreg:][:o.n]
	switch o.kind {
	case opCmp:
		return compares(o.x, bytes.Compare(b, o.data))
	case opRange:
		return (bytes.Compare(b, o.data) >= 0 && bytes.Compare(b, o.mask) <= 0) != o.negated
	}
	for i := range b {
		s.regs[int(o.dreg)+i] = b[i]&o.mask[i] ^ o.data[i]
	}
	return true
}

// compares is whether a comparison holds, by how what is compared stands to it.
func compares(operator uint32, c int) bool {
	switch operator {
	case unix.NFT_CMP_EQ:
		return c == 0
	case unix.NFT_CMP_NEQ:
		return c != 0
	case unix.NFT_CMP_LT:
		return c < 0
	case unix.NFT_CMP_LTE:
		return c <= 0
	case unix.NFT_CMP_GT:
		return c > 0
	}
	return c >= 0
}

// load loads a part of the packet into a register.
func (s *state) load(o *op) bool {
	from := s.net[:]
	if o.x == unix.NFT_PAYLOAD_TRANSPORT_HEADER {
		from = s.trans[:]
	} else if o.x != unix.NFT_PAYLOAD_NETWORK_HEADER {
		from = nil
	}
	if uint64(o.y)+uint64(o.n) > uint64(len(from)) {
		s.obscure()
		return false
	}
	copy(s.regs[o.dreg:], from[o.y:][:o.n])
	if f := s.m.r.Family; o.x == unix.NFT_PAYLOAD_NETWORK_HEADER && int(o.y) == f.srcOffset() && int(o.n) == f.AddrLen() {
		s.srcReg = int(o.dreg)
	}
	return true
}

// store puts a number of the host's order into a register.
func (s *state) store(o *op, n uint32) bool {
	binary.NativeEndian.PutUint32(s.regs[o.dreg:], n)
	return true
}

func (s *state) meta(o *op) bool {
	switch o.x {
	case unix.NFT_META_MARK:
		return s.store(o, s.p.Mark)
	case unix.NFT_META_L4PROTO:
		s.store(o, 0)
		s.regs[o.dreg] = s.p.Proto
		return true
	case unix.NFT_META_NFPROTO:
		s.store(o, 0)
		s.regs[o.dreg] = byte(s.m.r.Family)
		return true
	case unix.NFT_META_IIFNAME:
		clear(s.regs[o.dreg:][:unix.IFNAMSIZ])
		copy(s.regs[o.dreg:][:unix.IFNAMSIZ], s.p.Iif)
		return s.p.Iif != ""
	}
	s.obscure()
	return false
}

func (s *state) ct(o *op) bool {
	const status, statusDNAT = 2, 1 << 5
	switch o.x {
	case unix.NFT_CT_STATE:
		return s.store(o, s.p.State)
	case status:
		n := uint32(0)
		if s.out.To.IsValid() {
			n = statusDNAT
		}
		return s.store(o, n)
	}
	s.obscure()
	return false
}

func (s *state) local(a netip.Addr) bool { return s.m.host.Local != nil && s.m.host.Local(a) }

func (s *state) fib(o *op) bool {
	const saddr, daddr, addrType = 1, 2, 3
	a := s.p.Dst.Addr()
	if o.x&saddr != 0 {
		a = s.p.Src
	}
	if o.y != addrType || o.x&^(saddr|daddr) != 0 {
		s.obscure()
		return false
	}
	if s.local(a) {
		return s.store(o, rtnLocal)
	}
	return s.store(o, unix.RTN_UNICAST)
}

// numgen goes every way that a random number may lead.
func (s *state) numgen(o *op) {
	const most = 1 << 16
	n := max(min(o.x, most), 1)
	s.out.Weight /= float64(n)
	for i := range n - 1 {
		s.fork().store(o, o.y+i)
	}
	s.store(o, o.y+n-1)
}

// lookup asks a set or a map.
func (s *state) lookup(o *op) (matched bool, v *Verdict, err error) {
	set, err := s.m.r.Set(s.frames[s.depth-1].chain.Table, o.name)
	switch {
	case err != nil:
		return false, nil, err
	case set == nil:
		return false, nil, fmt.Errorf("%w: set %s is not there", ErrChanged, o.name)
	case int(o.sreg)+set.KeyLen > registers:
		return false, nil, malformed("set " + o.name + " has a key longer than the registers")
	case set.opaque:
		s.obscure()
		return false, nil, nil
	case set.Dynamic:
		return s.remembers(o.name, set.Timeout) != o.negated, nil, nil
	}
	k := s.regs[o.sreg:][:set.KeyLen]
	if s.anyPod() && s.srcReg == int(o.sreg) && s.out.To.IsValid() && set.KeyLen > 2*s.m.r.Family.AddrLen() {
		// Of a pod that asks itself.
		alone := slices.Clone(k)
		copy(alone, s.net[s.m.r.Family.dstOffset():][:s.m.r.Family.AddrLen()])
		_, ok, err := set.find(alone)
		if err != nil {
			return false, nil, err
		}
		if ok != o.negated {
			s.out.Hairpin = true
		}
	}
	e, ok, err := set.find(k)
	switch {
	case err != nil:
		return false, nil, err
	case ok == o.negated:
		return false, nil, nil
	case !ok || !o.mapped:
		return true, nil, nil
	case e.Verdict != nil:
		return true, e.Verdict, nil
	}
	if int(o.dreg)+len(e.Value) > registers {
		return false, nil, malformed("map " + o.name + " has a value longer than the registers")
	}
	copy(s.regs[o.dreg:], e.Value)
	return true, nil, nil
}

func (s *Set) find(k []byte) (Element, bool, error) {
	if !s.Intervals {
		e, ok := s.Elements[string(k)]
		if ok || s.single == nil || s.absent[string(k)] {
			return e, ok, nil
		}
		return s.single.element(s, string(k))
	}
	i, _ := slices.BinarySearchFunc(s.sorted, k, func(e Element, k []byte) int {
		if bytes.Compare(e.Key, k) <= 0 {
			return -1
		}
		return 1
	})
	if i == 0 || s.sorted[i-1].End {
		return Element{}, false, nil
	}
	return s.sorted[i-1], true, nil
}

// anyPod is whether the source still stands for any pod.
func (s *state) anyPod() bool { return s.p.AnyPod && !s.out.From.IsValid() }

// remembers goes both ways: the source is known by that list, and it is not. It
// is known by one at the most.
func (s *state) remembers(list string, ms uint64) bool {
	switch {
	case s.out.Known != "":
		return s.out.Known == list
	case slices.Contains(s.unknown, list):
		return false
	}
	known := s.fork()
	known.out.Known, known.out.KnownFor = list, ms
	known.op-- // it is asked again, and knows
	s.unknown = append(slices.Clip(s.unknown), list)
	return false
}
