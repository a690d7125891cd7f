package rules

import (
	"encoding/binary"
	"net/netip"
)

// Packet is the first one of a connection, or what State says, as it comes to a
// node.
type Packet struct {
	Proto uint8
	Src   netip.Addr
	Dst   netip.AddrPort
	// AnyPod says that Src stands for any pod: a rule for one certain address is
	// then tried both ways.
	AnyPod bool
	// FromHost says that it is sent by the node itself.
	FromHost bool
	// Iif is the name of the interface by which it comes.
	Iif string
	// State is one of StateNew and the others; StateNew if it is 0.
	State uint32
	Mark  uint32
}

// Host is what the rules ask about the node.
type Host struct {
	// Local is whether an address is one of the node's own.
	Local func(netip.Addr) bool
}

// Outcome is one of the ways that a packet may go: rules choose at random, and by
// what they remember of the source.
type Outcome struct {
	// Kind is Accept, Drop or Reject.
	Kind VerdictKind
	// To is where it was sent instead; invalid if nowhere.
	To netip.AddrPort
	// From is the source if this way is only for a certain one.
	From netip.Addr
	// Masqueraded says that its source was replaced, Hairpin that it would be if
	// it came from the endpoint itself; such packets may also be told by From.
	Masqueraded, Hairpin bool
	// ByOther says that it was somebody else's rule that replaced it.
	ByOther bool
	// SentByOther says that it was somebody else's rule that sent it to To.
	SentByOther bool
	// Weight is how much of the packets of that source go this way, 0 to 1.
	Weight float64
	// Known is the list by which the source is remembered, for how long in ms;
	// empty if it is new. Records is the list into which it is put.
	Known    string
	KnownFor uint64
	Records  string
	// Opaque says that a rule was met that is not understood and that might have
	// matched; it was taken not to. OwnOpaque says that it is one of kube-proxy's.
	Opaque, OwnOpaque bool
}

// header makes the parts of a packet that rules load from it.
func (s *state) header() {
	h := &s.net
	f := s.m.r.Family
	src, dst := s.p.Src.AsSlice(), s.p.Dst.Addr().AsSlice()
	copy(h[f.srcOffset():], src)
	copy(h[f.dstOffset():], dst)
	if f == IPv4 {
		h[0], h[9] = 0x45, s.p.Proto
	} else {
		h[0], h[6] = 0x60, s.p.Proto
	}
	binary.BigEndian.PutUint16(s.trans[:], sourcePort)
	binary.BigEndian.PutUint16(s.trans[2:], s.p.Dst.Port())
}

// sourcePort is any that no rule names.
const sourcePort = 54321
