package rules

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// How the old iptables is asked (include/uapi/linux/netfilter_ipv4/ip_tables.h
// and netfilter_ipv6/ip6_tables.h).
const (
	getInfo    = 64 // IPT_SO_GET_INFO
	getEntries = 65 // IPT_SO_GET_ENTRIES
	tableName  = 32 // XT_TABLE_MAXNAMELEN
	infoSize   = tableName + 4 + 5*4 + 5*4 + 4 + 4
	hooksAt    = tableName + 4
	policiesAt = hooksAt + 5*4
	sizeAt     = infoSize - 4
	entriesAt  = 40       // the name, the size, and what alignment adds
	maxEntries = 64 << 20 // bytes
)

// layout is where in an entry things are.
type layout struct {
	addr, ifaces, proto, inverse, flags, target, next, size int
}

var layouts = map[Family]layout{
	IPv4: {addr: 4, ifaces: 16, proto: 80, flags: 82, inverse: 83, target: 88, next: 90, size: 112},
	IPv6: {addr: 16, ifaces: 64, proto: 128, flags: 131, inverse: 132, target: 140, next: 142, size: 168},
}

// LegacyTable is a table of the old iptables as the kernel gives it: what is known
// of it, and its entries; nothing if nobody has used it.
func LegacyTable(f Family, table string) (info, entries []byte, err error) {
	names, domain, level := "/proc/thread-self/net/ip_tables_names", unix.AF_INET, unix.IPPROTO_IP
	if f == IPv6 {
		names, domain, level = "/proc/thread-self/net/ip6_tables_names", unix.AF_INET6, unix.IPPROTO_IPV6
	}
	used, err := os.ReadFile(names)
	if errors.Is(err, os.ErrNotExist) || err == nil && !bytes.Contains(used, []byte(table+"\n")) {
		return nil, nil, nil // asking would make the kernel create it
	}
	if err != nil {
		return nil, nil, err
	}
	fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return nil, nil, fmt.Errorf("ask the old iptables (it needs CAP_NET_RAW): %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	info = make([]byte, infoSize)
	copy(info, table)
	if err := getsockopt(fd, level, getInfo, info); err != nil {
		return nil, nil, fmt.Errorf("ask the old iptables: %w", err)
	}
	size := int(binary.NativeEndian.Uint32(info[sizeAt:]))
	if size <= 0 || size > maxEntries {
		return nil, nil, malformed(fmt.Sprintf("the old iptables' table %s has %d bytes", table, size))
	}
	entries = make([]byte, entriesAt+size)
	copy(entries, table)
	binary.NativeEndian.PutUint32(entries[tableName:], uint32(size))
	err = getsockopt(fd, level, getEntries, entries)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINVAL) {
		return nil, nil, fmt.Errorf("the old iptables' table %s: %w", table, ErrChanged)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read the old iptables' table %s: %w", table, err)
	}
	return info, entries[entriesAt:], nil
}

func getsockopt(fd, level, option int, into []byte) error {
	length := uint32(len(into))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(&into[0])), uintptr(unsafe.Pointer(&length)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// ReadLegacy reads the tables of the old iptables, whole: in the caller's network
// namespace. It needs CAP_NET_ADMIN and CAP_NET_RAW.
func ReadLegacy(f Family) (*Ruleset, error) {
	rs := newRuleset(f, nil)
	for _, table := range iptablesTables {
		info, entries, err := LegacyTable(f, table)
		if err != nil {
			return nil, err
		}
		if err := rs.addLegacy(table, info, entries); err != nil {
			return nil, fmt.Errorf("the old iptables' table %s: %w", table, err)
		}
	}
	return rs, nil
}

// priorities of the base chains of tables, and what else their names say.
var (
	legacyHooks      = []string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}
	legacyPriorities = map[string][]int32{"filter": {0, 0, 0, 0, 0}, "nat": {-100, 100, 0, -100, 100}}
	legacyValid      = map[string][]Hook{"filter": {Input, Forward, Output}, "nat": {Prerouting, Input, Output, Postrouting}}
)

// addLegacy adds the chains of a table. Entries follow each other; a chain begins
// where a hook does, or behind an entry that only says its name; rules jump to
// where a chain begins.
func (r *Ruleset) addLegacy(table string, info, entries []byte) error {
	if len(entries) == 0 {
		return nil
	}
	if len(info) < infoSize {
		return malformed("what is known of it is cut off")
	}
	host := binary.NativeEndian
	starts, policies := map[int]*Chain{}, map[int]*Chain{}
	for _, h := range legacyValid[table] {
		c := &Chain{Table: table, Name: legacyHooks[h], Hook: h, Priority: legacyPriorities[table][h], NAT: table == "nat", Rules: []Rule{}}
		starts[int(host.Uint32(info[hooksAt+4*int(h):]))] = c
		policies[int(host.Uint32(info[policiesAt+4*int(h):]))] = c
		r.add(c)
	}
	l := layouts[r.Family]
	// First the chains, then the rules that lead to them.
	err := l.each(entries, func(_, next int, entry []byte) error {
		if name, data := targetName(entry[host.Uint16(entry[l.target:]):]); name == "ERROR" {
			c := &Chain{Table: table, Name: text(data), Hook: noHook, Rules: []Rule{}}
			starts[next] = c
			if next < len(entries) { // the last one is the table's end
				r.add(c)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	var current *Chain
	return l.each(entries, func(at, next int, entry []byte) error {
		if c := starts[at]; c != nil {
			current = c
		}
		target, data := targetName(entry[host.Uint16(entry[l.target:]):])
		if target == "ERROR" || current == nil {
			return nil
		}
		if c := policies[at]; c != nil {
			c.Drops = len(data) >= 4 && int32(host.Uint32(data)) == -1
			return nil
		}
		rule, err := l.rule(r.Family, entry, target, data, next, starts)
		current.Rules = append(current.Rules, rule)
		return err
	})
}

// each calls do for each entry.
func (l *layout) each(entries []byte, do func(at, next int, entry []byte) error) error {
	for at := 0; at < len(entries); {
		if len(entries)-at < l.size {
			return malformed("an entry is cut off")
		}
		next := at + int(binary.NativeEndian.Uint16(entries[at+l.next:]))
		target := int(binary.NativeEndian.Uint16(entries[at+l.target:]))
		if next > len(entries) || next < at+l.size || target < l.size || at+target+extension > next {
			return malformed("an entry has no room for what it says")
		}
		if err := do(at, next, entries[at:next]); err != nil {
			return err
		}
		at = next
	}
	return nil
}

// extension is the head of a match or a target: its size, name and revision.
const extension = 32

func targetName(b []byte) (name string, data []byte) {
	n := min(int(binary.NativeEndian.Uint16(b)), len(b))
	return text(b[2:31]), b[extension:max(n, extension)]
}

// rule reads an entry.
func (l *layout) rule(f Family, entry []byte, target string, data []byte, next int, starts map[int]*Chain) (Rule, error) {
	var r Rule
	host := binary.NativeEndian
	inverse := entry[l.inverse]
	const notIn, notSrc, notDst, notProto, gotoFlag = 0x01, 0x08, 0x10, 0x40, 0x02
	if p := host.Uint16(entry[l.proto:]); p != 0 {
		r.Ops = append(r.Ops, op{kind: opProto, x: uint32(p), negated: inverse&notProto != 0})
	}
	r.Ops = append(r.Ops, l.address(opSrc, entry[:l.addr], entry[2*l.addr:3*l.addr], inverse&notSrc != 0)...)
	r.Ops = append(r.Ops, l.address(opDst, entry[l.addr:2*l.addr], entry[3*l.addr:4*l.addr], inverse&notDst != 0)...)
	in, inMask := entry[l.ifaces:l.ifaces+16], entry[l.ifaces+32:l.ifaces+48]
	if n := bytes.IndexByte(append(inMask[:16:16], 0), 0); n > 0 {
		r.Ops = append(r.Ops, op{kind: opIif, data: in[:n], negated: inverse&notIn != 0})
	}
	if entry[l.ifaces+16] != 0 {
		r.Ops = append(r.Ops, opaque("out interface"))
	}
	end := int(host.Uint16(entry[l.target:]))
	for m := entry[l.size:end]; len(m) > 0; {
		if len(m) < extension {
			return r, malformed("a match is cut off")
		}
		n := int(host.Uint16(m))
		if n < extension || n > len(m) {
			return r, malformed("a match is longer than its entry")
		}
		if o, skip := matchOf(text(m[2:31]), uint32(m[31]), m[extension:n]); !skip {
			r.Ops = append(r.Ops, o)
		}
		m = m[n:]
	}
	if target != "" {
		if o, skip := targetOf(f, target, uint32(entry[end+31]), data); !skip {
			r.Ops = append(r.Ops, o)
		}
		return r, nil
	}
	if len(data) < 4 {
		return r, malformed("a verdict is cut off")
	}
	v := Verdict{Kind: Jump}
	switch n := int32(host.Uint32(data)); {
	case n == -1:
		v.Kind = Drop
	case n == -2:
		v.Kind = Accept
	case n == -5:
		v.Kind = Return
	case n < 0:
		v.Kind = None
	case int(n) == next:
		return r, nil // a rule without a target
	default:
		to := starts[int(n)]
		if to == nil {
			return r, malformed("a rule jumps to where no chain begins")
		}
		if v.Chain = to.Name; entry[l.flags]&gotoFlag != 0 {
			v.Kind = Goto
		}
	}
	r.Ops = append(r.Ops, op{kind: opVerdict, verdict: v})
	return r, nil
}

// address compares one with its bits under a mask.
func (l *layout) address(kind opKind, a, mask []byte, negated bool) []op {
	n := 0
	for n < len(mask) && mask[n] == 0xff {
		n++
	}
	rest := bytes.TrimRight(mask[n:], "\x00")
	switch {
	case len(rest) > 0:
		f := IPv4
		if l.addr == 16 {
			f = IPv6
		}
		at := f.srcOffset()
		if kind == opDst {
			at = f.dstOffset()
		}
		cmp := uint32(unix.NFT_CMP_EQ)
		if negated {
			cmp = unix.NFT_CMP_NEQ
		}
		const reg1 = 16
		size := uint8(l.addr)
		return []op{
			{kind: opPayload, x: unix.NFT_PAYLOAD_NETWORK_HEADER, y: uint32(at), n: size, dreg: reg1},
			{kind: opBitwise, sreg: reg1, dreg: reg1, n: size, mask: mask, data: make([]byte, l.addr)},
			{kind: opCmp, x: cmp, sreg: reg1, n: size, data: a},
		}
	case n == 0 && !negated:
		return nil
	}
	return []op{{kind: kind, data: a[:n], whole: n == l.addr, negated: negated}}
}
