package rules

import (
	"bytes"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// xstep does one of the ops that are expressions put together, or of xtables.
func (s *state) xstep(o *op) (matched bool, v *Verdict, err error) {
	f := s.m.r.Family
	switch o.kind {
	case opSrc:
		return s.source(o), nil, nil
	case opDst:
		return bytes.HasPrefix(s.net[f.dstOffset():], o.data) != o.negated, nil, nil
	case opProto:
		return (uint32(s.p.Proto) == o.x) != o.negated, nil, nil
	case opDport:
		p := uint32(s.p.Dst.Port())
		return (p >= o.x && p <= o.y) != o.negated, nil, nil
	case opIif:
		return s.iif(o.data) != o.negated, nil, nil
	case opStatistic:
		s.statistic(o)
		return !o.negated, nil, nil
	case opRecent:
		return s.recent(o), nil, nil
	case opAddrtype:
		return s.addrtype(o), nil, nil
	case opConntrack:
		state := s.p.State
		if s.out.To.IsValid() {
			state |= xtStateDNAT
		}
		return (state&o.x != 0) != o.negated, nil, nil
	case opMark:
		return (s.p.Mark&o.y == o.x) != o.negated, nil, nil
	case opSetMark:
		s.p.Mark = s.p.Mark&^o.y ^ o.x
		return true, nil, nil
	case opDNAT:
		var to netip.Addr
		if len(o.data) == f.AddrLen() {
			to, _ = netip.AddrFromSlice(o.data)
		}
		return true, s.dnat(to, uint16(o.x)), nil
	}
	s.obscure()
	return false, nil, nil
}

// source compares the source. One that stands for any pod may be a certain one.
func (s *state) source(o *op) bool {
	if s.anyPod() && o.whole && !o.negated {
		certain := s.fork()
		certain.out.From, _ = netip.AddrFromSlice(o.data)
		certain.p.Src = certain.out.From
		certain.header()
		return false
	}
	return bytes.HasPrefix(s.net[s.m.r.Family.srcOffset():], o.data) != o.negated
}

// iif compares the name of the interface: with its zero it is the whole name.
func (s *state) iif(name []byte) bool {
	if i := bytes.IndexByte(name, 0); i >= 0 {
		return s.p.Iif == string(name[:i])
	}
	return s.p.Iif != "" && strings.HasPrefix(s.p.Iif, string(name))
}

// statistic goes both ways, by the weight of each.
func (s *state) statistic(o *op) {
	p := float64(o.x) / (1 << 31)
	if p >= 1 {
		p = 1
	}
	other := s.fork()
	other.rule = nil // it does not match
	other.out.Weight *= 1 - p
	s.out.Weight *= p
	if o.negated {
		s.out.Weight, other.out.Weight = other.out.Weight, s.out.Weight
	}
}

// Flags of the match recent (XT_RECENT_*).
const (
	recentCheck  = 1
	recentSet    = 2
	recentUpdate = 4
	recentReap   = 32
)

func (s *state) recent(o *op) bool {
	switch o.x &^ recentReap {
	case recentSet:
		s.out.Records = o.name
		return !o.negated
	case recentCheck, recentUpdate:
		return s.remembers(o.name, uint64(o.y)*1000) != o.negated
	}
	s.obscure()
	return false
}

func (s *state) addrtype(o *op) bool {
	const inverseSrc, inverseDst = 1, 2
	inverse := byte(0)
	if len(o.mask) > 0 {
		inverse = o.mask[0]
	}
	is := func(a netip.Addr, types uint32) bool {
		if s.local(a) {
			return types&(1<<rtnLocal) != 0
		}
		return types&(1<<unix.RTN_UNICAST) != 0
	}
	return (o.x == 0 || is(s.p.Src, o.x) != (inverse&inverseSrc != 0)) && (o.y == 0 || is(s.p.Dst.Addr(), o.y) != (inverse&inverseDst != 0))
}
