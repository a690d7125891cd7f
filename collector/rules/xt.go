package rules

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// matchOf reads a match of xtables (include/uapi/linux/netfilter/xt_*.h); skip
// says that it matches every packet. One that is not understood is opaque.
func matchOf(name string, revision uint32, b []byte) (o op, skip bool) {
	host := binary.NativeEndian
	opq := opaque(name)
	switch name {
	case "comment", "nfacct", "": // the last is none
		return op{}, true
	case "tcp", "udp", "sctp":
		return portsOf(name, b)
	case "statistic":
		if revision != 0 || len(b) < 8 || host.Uint16(b) != 0 { // mode random
			return opq, false
		}
		return op{kind: opStatistic, negated: host.Uint16(b[2:])&1 != 0, x: host.Uint32(b[4:])}, false
	case "recent":
		const nameAt, nameLen = 10, 200
		if len(b) < nameAt+nameLen || host.Uint32(b[4:]) != 0 { // hits are not counted
			return opq, false
		}
		return op{kind: opRecent, x: uint32(b[8]), y: host.Uint32(b), negated: b[9] != 0, name: text(b[nameAt : nameAt+nameLen])}, false
	case "addrtype":
		if len(b) < 8 {
			return opq, false
		}
		o = op{kind: opAddrtype, x: uint32(host.Uint16(b)), y: uint32(host.Uint16(b[2:]))}
		flags := host.Uint32(b[4:])
		if revision == 0 {
			if len(b) < 12 || flags != 0 || host.Uint32(b[8:]) != 0 {
				return opq, false
			}
			return o, false
		}
		if flags > 3 { // limited to an interface
			return opq, false
		}
		o.mask = []byte{byte(flags)} // 1 inverts the source, 2 the destination
		return o, false
	case "conntrack":
		return conntrackOf(revision, b)
	case "state":
		if len(b) < 4 {
			return opq, false
		}
		return op{kind: opConntrack, x: host.Uint32(b)}, false
	case "mark":
		if revision != 1 || len(b) < 9 {
			return opq, false
		}
		return op{kind: opMark, x: host.Uint32(b), y: host.Uint32(b[4:]), negated: b[8] != 0}, false
	}
	return opq, false
}

// portsOf reads a range of ports to; those from must be any.
func portsOf(name string, b []byte) (o op, skip bool) {
	host := binary.NativeEndian
	opq := opaque(name)
	if name == "sctp" { // destination first; flags say which ports count
		const flagsAt, invertAt, need, destinations = 284, 288, 292, 2
		if len(b) < need || host.Uint32(b[flagsAt:])&^destinations != 0 {
			return opq, false
		}
		o = op{kind: opDport, x: uint32(host.Uint16(b)), y: uint32(host.Uint16(b[2:])), negated: host.Uint32(b[invertAt:])&destinations != 0}
		return o, host.Uint32(b[flagsAt:]) == 0
	}
	const inverseDst = 2
	invertAt := 8
	if name == "tcp" {
		invertAt = 11
	}
	switch {
	case len(b) <= invertAt, b[invertAt]&^inverseDst != 0, host.Uint16(b) != 0, host.Uint16(b[2:]) != 0xffff:
		return opq, false
	case name == "tcp" && (b[8] != 0 || b[9] != 0): // an option, or flags
		return opq, false
	}
	o = op{kind: opDport, x: uint32(host.Uint16(b[4:])), y: uint32(host.Uint16(b[6:])), negated: b[invertAt]&inverseDst != 0}
	return o, o.x == 0 && o.y == 0xffff && !o.negated
}

// conntrackOf reads what is asked of the state of a connection, or of whether
// it was sent elsewhere.
func conntrackOf(revision uint32, b []byte) (o op, skip bool) {
	const (
		flagsAt, invertAt, stateAt = 146, 148, 150
		state                      = 1
	)
	if revision < 2 || len(b) < 154 {
		return opaque("conntrack"), false
	}
	host := binary.NativeEndian
	if host.Uint16(b[flagsAt:]) != state {
		return opaque("conntrack"), false
	}
	return op{kind: opConntrack, x: uint32(host.Uint16(b[stateAt:])), negated: host.Uint16(b[invertAt:])&state != 0}, false
}

// targetOf reads a target of xtables; skip says that it changes nothing.
func targetOf(f Family, name string, revision uint32, b []byte) (o op, skip bool) {
	host := binary.NativeEndian
	switch name {
	case "DNAT":
		return dnatOf(f, revision, b), false
	case "MARK":
		if revision != 2 || len(b) < 8 {
			return opaque(name), false
		}
		return op{kind: opSetMark, x: host.Uint32(b), y: host.Uint32(b[4:])}, false
	case "MASQUERADE":
		return op{kind: opMasquerade}, false
	case "REJECT":
		return op{kind: opReject}, false
	case "LOG", "NFLOG", "TRACE", "CHECKSUM", "CONNMARK", "TCPMSS", "CT", "SECMARK", "CONNSECMARK":
		return op{}, true // the walk goes on
	}
	return opaque(name), false
}

// dnatOf reads where a packet is sent: one address and one port.
func dnatOf(f Family, revision uint32, b []byte) op {
	host, net := binary.NativeEndian, binary.BigEndian
	if revision == 0 { // of IPv4: how many ranges, and the first
		if len(b) < 20 || host.Uint32(b) != 1 || string(b[8:12]) != string(b[12:16]) || string(b[16:18]) != string(b[18:20]) {
			return opaque("DNAT")
		}
		return dnatTo(host.Uint32(b[4:]), b[8:12], net.Uint16(b[16:]))
	}
	if len(b) < 40 {
		return opaque("DNAT")
	}
	n := f.AddrLen()
	if string(b[4:4+n]) != string(b[20:20+n]) || string(b[36:38]) != string(b[38:40]) {
		return opaque("DNAT")
	}
	return dnatTo(host.Uint32(b), b[4:4+n], net.Uint16(b[36:]))
}

func dnatTo(flags uint32, address []byte, port uint16) op {
	const mapIPs, protoSpecified = 1, 2
	o := op{kind: opDNAT}
	if flags&mapIPs != 0 {
		o.data = address
	}
	if flags&protoSpecified != 0 {
		o.x = uint32(port)
	}
	return o
}

// Bits of a connection's state, of nf_tables and of xtables alike.
const (
	StateInvalid     = 1
	StateEstablished = 2
	StateRelated     = 4
	StateNew         = 8
	xtStateDNAT      = 1 << 7
)

const rtnLocal = unix.RTN_LOCAL
