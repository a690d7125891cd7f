package rules

import (
	"encoding/binary"
	"strings"

	"golang.org/x/sys/unix"
)

// opKind is what an op does.
type opKind uint8

// The first group are expressions of nf_tables over its registers; the second
// are such expressions put together, and matches and targets of xtables.
const (
	opPayload opKind = iota
	opMeta
	opSetMeta
	opCmp
	opBitwise
	opRange
	opLookup
	opData
	opVerdict
	opCt
	opFib
	opNumgen
	opNat
	opMasquerade
	opReject
	opDynset
	opOpaque

	opSrc
	opDst
	opProto
	opDport
	opSport
	opIif
	opStatistic
	opRecent
	opAddrtype
	opConntrack
	opMark
	opSetMark
	opDNAT
)

// op is one step of a rule.
type op struct {
	kind opKind
	// negated says that it matches what does not fit; whole that an address is
	// compared with all its bits.
	negated, whole bool
	// mapped is of a lookup that has a value.
	mapped bool
	// dreg and sreg are registers by their first byte, n how many bytes.
	dreg, sreg, n uint8
	x, y          uint32
	data, mask    []byte
	name          string
	verdict       Verdict
}

// typeMask takes the flags from an attribute's type (NLA_TYPE_MASK).
const typeMask = 0x3fff

// attrs calls do for each attribute of a netlink message.
func attrs(b []byte, do func(kind uint16, value []byte) error) error {
	for len(b) > 0 {
		if len(b) < 4 {
			return malformed("an attribute is cut off")
		}
		n := int(binary.NativeEndian.Uint16(b))
		if n < 4 || n > len(b) {
			return malformed("an attribute is longer than what holds it")
		}
		if err := do(binary.NativeEndian.Uint16(b[2:])&typeMask, b[4:n]); err != nil {
			return err
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	return nil
}

func u32(v []byte) uint32 {
	if len(v) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(v)
}

func u64(v []byte) uint64 {
	if len(v) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(v)
}

func text(v []byte) string {
	s, _, _ := strings.Cut(string(v), "\x00")
	return s
}

// registers have as many bytes: one of 16 for verdicts, then four of 16, which
// are also sixteen of 4.
const registers = 80

// reg is the first byte of a register; ok if the kernel has such a one.
func reg(v []byte) (at uint8, ok bool) {
	switch n := u32(v); {
	case len(v) < 4:
		return 0, false
	case n <= unix.NFT_REG_4:
		return uint8(n * 16), true
	case n >= unix.NFT_REG32_00 && n <= unix.NFT_REG32_15:
		return uint8((n - unix.NFT_REG32_00 + 4) * 4), true
	}
	return 0, false
}

// fields are the attributes of an expression by their number.
type fields [24][]byte

func fieldsOf(b []byte) (f fields, err error) {
	err = attrs(b, func(kind uint16, value []byte) error {
		if int(kind) < len(f) {
			f[kind] = value
		}
		return nil
	})
	return f, err
}

// dataOf is the value, or the verdict, in a nested attribute.
func dataOf(b []byte) (value []byte, v *Verdict, err error) {
	err = attrs(b, func(kind uint16, d []byte) error {
		switch kind {
		case unix.NFTA_DATA_VALUE:
			value = d
		case unix.NFTA_DATA_VERDICT:
			f, err := fieldsOf(d)
			if err != nil {
				return err
			}
			v = &Verdict{Kind: verdictKind(int32(u32(f[unix.NFTA_VERDICT_CODE]))), Chain: text(f[unix.NFTA_VERDICT_CHAIN])}
		}
		return nil
	})
	return value, v, err
}

func verdictKind(code int32) VerdictKind {
	const (
		nfDrop, nfAccept         = 0, 1
		nftContinue, nftBreak    = -1, -2
		nftJump, nftGoto, nftRet = -3, -4, -5
	)
	switch code {
	case nfDrop:
		return Drop
	case nfAccept:
		return Accept
	case nftContinue, nftBreak:
		return Continue
	case nftJump:
		return Jump
	case nftGoto:
		return Goto
	case nftRet:
		return Return
	}
	return None // to user space, or another that ends the walk
}

// opsOf reads the expressions of a rule.
func opsOf(f Family, list []byte) (ops []op, err error) {
	err = attrs(list, func(_ uint16, expr []byte) error {
		e, err := fieldsOf(expr)
		if err != nil {
			return err
		}
		name := text(e[unix.NFTA_EXPR_NAME])
		d, err := fieldsOf(e[unix.NFTA_EXPR_DATA])
		if err != nil {
			return err
		}
		o, skip, err := opOf(f, name, d)
		if err == nil && !skip {
			ops = merge(f, append(ops, o))
		}
		return err
	})
	return ops, err
}

// opaque is an expression that is not understood: whether it matches is unknown.
func opaque(name string) op { return op{kind: opOpaque, name: name} }

// regs reads the registers of an expression; where they are not those of this
// kernel the expression is opaque.
func regs(o op, name string, dst, src []byte, n int) op {
	var ok1, ok2 = true, true
	if dst != nil {
		o.dreg, ok1 = reg(dst)
	}
	if src != nil {
		o.sreg, ok2 = reg(src)
	}
	if !ok1 || !ok2 || n < 0 || int(o.dreg)+n > registers || int(o.sreg)+n > registers {
		return opaque(name)
	}
	o.n = uint8(n)
	return o
}

// opOf reads one expression; skip says that it changes nothing for a packet.
func opOf(f Family, name string, d fields) (o op, skip bool, err error) {
	switch name {
	case "counter", "log", "objref", "last", "comment":
		return op{}, true, nil
	case "payload":
		if d[unix.NFTA_PAYLOAD_SREG] != nil {
			return opaque(name), false, nil
		}
		o = op{kind: opPayload, x: u32(d[unix.NFTA_PAYLOAD_BASE]), y: u32(d[unix.NFTA_PAYLOAD_OFFSET])}
		return regs(o, name, d[unix.NFTA_PAYLOAD_DREG], nil, int(u32(d[unix.NFTA_PAYLOAD_LEN]))), false, nil
	case "meta":
		o = op{kind: opMeta, x: u32(d[unix.NFTA_META_KEY])}
		n := 4
		if o.x == unix.NFT_META_IIFNAME || o.x == unix.NFT_META_OIFNAME {
			n = unix.IFNAMSIZ
		}
		if s := d[unix.NFTA_META_SREG]; s != nil {
			o.kind = opSetMeta
			return regs(o, name, nil, s, n), false, nil
		}
		return regs(o, name, d[unix.NFTA_META_DREG], nil, n), false, nil
	case "cmp":
		value, _, err := dataOf(d[unix.NFTA_CMP_DATA])
		if err != nil {
			return op{}, false, err
		}
		o = op{kind: opCmp, x: u32(d[unix.NFTA_CMP_OP]), data: value}
		return regs(o, name, nil, d[unix.NFTA_CMP_SREG], len(value)), false, nil
	case "bitwise":
		return bitwiseOf(d)
	case "range":
		from, _, err := dataOf(d[unix.NFTA_RANGE_FROM_DATA])
		if err != nil {
			return op{}, false, err
		}
		to, _, err := dataOf(d[unix.NFTA_RANGE_TO_DATA])
		if err != nil || len(from) != len(to) {
			return opaque(name), false, err
		}
		o = op{kind: opRange, negated: u32(d[unix.NFTA_RANGE_OP]) == unix.NFT_RANGE_NEQ, data: from, mask: to}
		return regs(o, name, nil, d[unix.NFTA_RANGE_SREG], len(from)), false, nil
	case "lookup":
		o = op{kind: opLookup, name: text(d[unix.NFTA_LOOKUP_SET]), negated: u32(d[unix.NFTA_LOOKUP_FLAGS])&unix.NFT_LOOKUP_F_INV != 0, mapped: d[unix.NFTA_LOOKUP_DREG] != nil}
		return regs(o, name, d[unix.NFTA_LOOKUP_DREG], d[unix.NFTA_LOOKUP_SREG], 0), false, nil
	case "immediate":
		value, v, err := dataOf(d[unix.NFTA_IMMEDIATE_DATA])
		switch {
		case err != nil:
			return op{}, false, err
		case v != nil:
			return op{kind: opVerdict, verdict: *v}, false, nil
		}
		return regs(op{kind: opData, data: value}, name, d[unix.NFTA_IMMEDIATE_DREG], nil, len(value)), false, nil
	}
	return statementOf(f, name, d)
}

// statementOf reads an expression that asks for no part of the packet, or does
// something with it.
func statementOf(f Family, name string, d fields) (o op, skip bool, err error) {
	switch name {
	case "ct":
		return regs(op{kind: opCt, x: u32(d[unix.NFTA_CT_KEY])}, name, d[unix.NFTA_CT_DREG], nil, 4), d[unix.NFTA_CT_SREG] != nil, nil
	case "fib":
		return regs(op{kind: opFib, x: u32(d[unix.NFTA_FIB_FLAGS]), y: u32(d[unix.NFTA_FIB_RESULT])}, name, d[unix.NFTA_FIB_DREG], nil, 4), false, nil
	case "numgen":
		return regs(op{kind: opNumgen, x: u32(d[unix.NFTA_NG_MODULUS]), y: u32(d[unix.NFTA_NG_OFFSET])}, name, d[unix.NFTA_NG_DREG], nil, 4), false, nil
	case "nat":
		o = op{kind: opNat, x: u32(d[unix.NFTA_NAT_TYPE])}
		return regs(o, name, d[unix.NFTA_NAT_REG_PROTO_MIN], d[unix.NFTA_NAT_REG_ADDR_MIN], 2), false, nil
	case "masq":
		return op{kind: opMasquerade}, false, nil
	case "reject":
		return op{kind: opReject}, false, nil
	case "dynset":
		return regs(op{kind: opDynset, name: text(d[unix.NFTA_DYNSET_SET_NAME])}, name, nil, d[unix.NFTA_DYNSET_SREG_KEY], 0), false, nil
	case "match":
		o, skip = matchOf(text(d[unix.NFTA_MATCH_NAME]), u32(d[unix.NFTA_MATCH_REV]), d[unix.NFTA_MATCH_INFO])
		return o, skip, nil
	case "target":
		o, skip = targetOf(f, text(d[unix.NFTA_TARGET_NAME]), u32(d[unix.NFTA_TARGET_REV]), d[unix.NFTA_TARGET_INFO])
		return o, skip, nil
	}
	return opaque(name), false, nil
}

func bitwiseOf(d fields) (o op, skip bool, err error) {
	const name, bitwiseOp = "bitwise", 6 // NFTA_BITWISE_OP
	mask, _, err := dataOf(d[unix.NFTA_BITWISE_MASK])
	if err != nil {
		return op{}, false, err
	}
	xor, _, err := dataOf(d[unix.NFTA_BITWISE_XOR])
	n := int(u32(d[unix.NFTA_BITWISE_LEN]))
	if err != nil || len(mask) != n || len(xor) != n || u32(d[bitwiseOp]) != 0 {
		return opaque(name), false, err // a shift, or of a kernel that knows more
	}
	return regs(op{kind: opBitwise, mask: mask, data: xor}, name, d[unix.NFTA_BITWISE_DREG], d[unix.NFTA_BITWISE_SREG], n), false, nil
}

// merge puts a comparison together with what it compares, where that is an
// address, a port or a protocol: rules can then be found by them.
func merge(f Family, ops []op) []op {
	if len(ops) < 2 {
		return ops
	}
	load, cmp := &ops[len(ops)-2], &ops[len(ops)-1]
	if cmp.kind != opCmp || load.dreg != cmp.sreg || cmp.x != unix.NFT_CMP_EQ && cmp.x != unix.NFT_CMP_NEQ {
		return ops
	}
	o := op{negated: cmp.x == unix.NFT_CMP_NEQ, data: cmp.data, whole: len(cmp.data) == f.AddrLen()}
	switch {
	case load.kind == opMeta && load.x == unix.NFT_META_L4PROTO && len(cmp.data) >= 1:
		o.kind, o.x = opProto, uint32(cmp.data[0])
	case load.kind == opMeta && load.x == unix.NFT_META_IIFNAME:
		o.kind = opIif
	case load.kind != opPayload || int(load.n) != len(cmp.data) || len(cmp.data) == 0:
		return ops
	case load.x == unix.NFT_PAYLOAD_NETWORK_HEADER && int(load.y) == f.srcOffset() && len(cmp.data) <= f.AddrLen():
		o.kind = opSrc
	case load.x == unix.NFT_PAYLOAD_NETWORK_HEADER && int(load.y) == f.dstOffset() && len(cmp.data) <= f.AddrLen():
		o.kind = opDst
	case load.x == unix.NFT_PAYLOAD_TRANSPORT_HEADER && load.y == 2 && len(cmp.data) == 2:
		o.kind, o.x = opDport, uint32(binary.BigEndian.Uint16(cmp.data))
		o.y = o.x
	default:
		return ops
	}
	return append(ops[:len(ops)-2], o)
}

func (f Family) srcOffset() int {
	if f == IPv6 {
		return 8
	}
	return 12
}

func (f Family) dstOffset() int { return f.srcOffset() + f.AddrLen() }
