package audit

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kproxy-exporter/kproxy-exporter/collector/rules"
)

// Wire is a namespace with a copy of a node's rules and one interface through
// which everything comes and goes: packets are put there and those that the
// kernel makes of them are read there.
type Wire struct {
	*Namespace
	tun    *os.File
	raw    map[rules.Family]int
	number uint32
}

// device is the interface's name.
const device = "wire"

// NewWire makes one whose host has these addresses.
func NewWire(addresses ...netip.Addr) (w *Wire, err error) {
	w = &Wire{raw: map[rules.Family]int{}}
	if w.Namespace, err = NewNamespace(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			w.Close()
		}
	}()
	err = w.Do(func() error {
		if err := w.open(); err != nil {
			return err
		}
		script := []string{"link set lo up", "link set " + device + " up", "route add default dev " + device, "-6 route add default dev " + device}
		for _, a := range addresses {
			script = append(script, fmt.Sprintf("addr add %s/%d dev lo", a, a.BitLen()))
		}
		for _, line := range script {
			if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
				return fmt.Errorf("ip %s: %w: %s", line, err, out)
			}
		}
		for _, name := range []string{"ipv4/ip_forward=1", "ipv6/conf/all/forwarding=1", "ipv4/conf/all/rp_filter=0", "ipv4/conf/default/rp_filter=0", "ipv4/conf/" + device + "/rp_filter=0",
			"ipv4/conf/all/send_redirects=0", "ipv4/conf/" + device + "/send_redirects=0", "ipv4/icmp_ratelimit=0", "ipv6/icmp/ratelimit=0", "ipv4/icmp_msgs_per_sec=1000000", "ipv4/icmp_msgs_burst=1000000"} {
			file, value, _ := strings.Cut(name, "=")
			if err := os.WriteFile("/proc/sys/net/"+file, []byte(value), 0o600); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		return ready(addresses)
	})
	return w, err
}

// ready waits until the kernel knows the addresses, of which it takes those of IPv6 in
// its own time: until then they are not the host's.
func ready(addresses []netip.Addr) error {
	const tentative, local = 0x40, 1 << 31
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		left := map[string]bool{device: true}
		for _, a := range addresses {
			if a.Is6() {
				left[fmt.Sprintf("%x", a.As16())], left[fmt.Sprintf("a route to %x", a.As16())] = true, true
			}
		}
		if err := columns("if_inet6", func(word []string) {
			if flags, err := strconv.ParseUint(word[4], 16, 8); err == nil && flags&tentative == 0 {
				delete(left, word[0])
				delete(left, word[5])
			}
		}); err != nil {
			return err
		}
		if err := columns("ipv6_route", func(word []string) {
			if flags, err := strconv.ParseUint(word[8], 16, 32); err == nil && flags&local != 0 {
				delete(left, "a route to "+word[0])
			}
		}); err != nil {
			return err
		}
		switch {
		case len(left) == 0:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("the kernel does not take %v", slices.Collect(maps.Keys(left)))
		}
	}
}

// columns reads a table of the thread's network namespace.
func columns(name string, do func(word []string)) error {
	text, err := os.ReadFile("/proc/thread-self/net/" + name)
	for line := range strings.Lines(string(text)) {
		do(strings.Fields(line))
	}
	return err
}

func (w *Wire) open() (err error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("open a tunnel: %w", err)
	}
	ifr, err := unix.NewIfreq(device)
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return fmt.Errorf("make a tunnel: %w", err)
	}
	w.tun = os.NewFile(uintptr(fd), "/dev/net/tun")
	for f, domain := range map[rules.Family]int{rules.IPv4: unix.AF_INET, rules.IPv6: unix.AF_INET6} {
		if w.raw[f], err = unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW); err != nil {
			return fmt.Errorf("open a raw socket: %w", err)
		}
	}
	return nil
}

// Close ends it.
func (w *Wire) Close() {
	if w.tun != nil {
		_ = w.tun.Close()
	}
	for _, fd := range w.raw {
		_ = unix.Close(fd)
	}
	w.Namespace.Close()
}

// Load writes rules, as a program prints them, into it.
func (w *Wire) Load(ctx context.Context, program []string, text string) error {
	return w.Do(func() error {
		c := exec.CommandContext(ctx, program[0], program[1:]...)
		c.Stdin = strings.NewReader(text)
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(program, " "), err, out)
		}
		return nil
	})
}

// Fate is what became of a packet.
type Fate struct {
	// Kind is Accept, Drop (nothing came out) or Reject (an answer came).
	Kind rules.VerdictKind
	To   netip.AddrPort
	// Masqueraded says that its source was another then.
	Masqueraded bool
}

// Send sends a packet so many times, each as a connection of its own, and counts
// what becomes of them; all says that something should come of each.
func (w *Wire) Send(p rules.Packet, times int, all bool) (map[Fate]int, error) {
	first := w.number + 1
	for range times {
		w.number++
		b := packet(p, w.number)
		var err error
		if p.FromHost {
			err = w.sendRaw(p, b)
		} else {
			_, err = w.tun.Write(b)
		}
		if err != nil && !refused(err) {
			return nil, fmt.Errorf("send to %s: %w", p.Dst, err)
		}
	}
	fates := make([]Fate, times)
	for i := range fates {
		fates[i].Kind = rules.Drop
	}
	if err := w.read(p, first, fates, all); err != nil {
		return nil, err
	}
	out := map[Fate]int{}
	for _, f := range fates {
		out[f]++
	}
	return out, nil
}

// refused is of what the kernel tells the sender at once.
func refused(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EACCES)
}

func (w *Wire) sendRaw(p rules.Packet, b []byte) error {
	if p.Dst.Addr().Is4() {
		return unix.Sendto(w.raw[rules.IPv4], b, 0, &unix.SockaddrInet4{Addr: p.Dst.Addr().As4()})
	}
	return unix.Sendto(w.raw[rules.IPv6], b, 0, &unix.SockaddrInet6{Addr: p.Dst.Addr().As16()})
}

// read reads what comes out, until nothing more does for a while.
func (w *Wire) read(p rules.Packet, first uint32, fates []Fate, all bool) error {
	const quiet, lost = 5 * time.Millisecond, time.Second
	b := make([]byte, 2048)
	for left := len(fates); left > 0 || !all; {
		wait := quiet
		if all {
			wait = lost
		}
		if err := w.tun.SetReadDeadline(time.Now().Add(wait)); err != nil {
			return err
		}
		n, err := w.tun.Read(b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
		f, number, ok := parse(b[:n], p)
		if i := number - first; ok && i < uint32(len(fates)) {
			fates[i] = f
			left--
		}
	}
	return nil
}

// mark begins what a packet carries, its number follows.
const mark = "kproxy-audit"

// packet makes one: a connection's first packet with a number that survives all
// that rules may do to it.
func packet(p rules.Packet, number uint32) []byte {
	payload := binary.BigEndian.AppendUint32([]byte(mark), number)
	sport := sourcePort(number)
	var t []byte
	switch p.Proto {
	case unix.IPPROTO_TCP:
		t = make([]byte, 20, 64)
		t[12], t[13] = 5<<4, 2 // SYN
		t[14] = 0xff
		binary.BigEndian.PutUint32(t[4:], number)
	case unix.IPPROTO_UDP:
		t = make([]byte, 8, 64)
		binary.BigEndian.PutUint16(t[4:], uint16(8+len(payload)))
	default: // SCTP: INIT, and a parameter that carries the number
		t = make([]byte, 12+20, 64)
		t[12], t[15] = 1, byte(20+4+len(payload))
		binary.BigEndian.PutUint32(t[16:], 1)
		binary.BigEndian.PutUint32(t[20:], 1500)
		binary.BigEndian.PutUint16(t[24:], 1)
		binary.BigEndian.PutUint16(t[26:], 1)
		t = append(t, 0x80, 0x08, 0, byte(4+len(payload)))
	}
	binary.BigEndian.PutUint16(t, sport)
	binary.BigEndian.PutUint16(t[2:], p.Dst.Port())
	t = append(t, payload...)
	if p.Proto == unix.IPPROTO_SCTP {
		binary.LittleEndian.PutUint32(t[8:], crc32c(t))
	} else {
		at := map[uint8]int{unix.IPPROTO_TCP: 16, unix.IPPROTO_UDP: 6}[p.Proto]
		binary.BigEndian.PutUint16(t[at:], checksum(pseudo(p, len(t)), t))
	}
	var h []byte
	if p.Dst.Addr().Is4() {
		h = make([]byte, 20)
		h[0], h[8], h[9] = 0x45, 64, p.Proto
		binary.BigEndian.PutUint16(h[2:], uint16(20+len(t)))
		copy(h[12:], p.Src.AsSlice())
		copy(h[16:], p.Dst.Addr().AsSlice())
		binary.BigEndian.PutUint16(h[10:], checksum(nil, h))
	} else {
		h = make([]byte, 40)
		h[0], h[6], h[7] = 0x60, p.Proto, 64
		binary.BigEndian.PutUint16(h[4:], uint16(len(t)))
		copy(h[8:], p.Src.AsSlice())
		copy(h[24:], p.Dst.Addr().AsSlice())
	}
	return append(h, t...)
}

// sourcePort is another for each packet.
func sourcePort(number uint32) uint16 { return uint16(1024 + number%60000) }

func pseudo(p rules.Packet, n int) []byte {
	b := append(p.Src.AsSlice(), p.Dst.Addr().AsSlice()...)
	return append(b, 0, p.Proto, byte(n>>8), byte(n))
}

func checksum(parts ...[]byte) uint16 {
	var sum uint32
	for _, b := range parts {
		for i := 0; i < len(b); i += 2 {
			sum += uint32(b[i]) << 8
			if i+1 < len(b) {
				sum += uint32(b[i+1])
			}
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func crc32c(b []byte) uint32 {
	crc := ^uint32(0)
	for _, c := range b {
		crc ^= uint32(c)
		for range 8 {
			crc = crc>>1 ^ 0x82f63b78&-(crc&1)
		}
	}
	return ^crc
}

// parse reads a packet that came out: one that was sent, or an answer to one.
func parse(b []byte, sent rules.Packet) (f Fate, number uint32, ok bool) {
	_, carried, found := strings.Cut(string(b), mark)
	proto, header := b[9], int(b[0]&15)*4
	var src, dst netip.Addr
	if b[0]>>4 == 6 {
		proto, header = b[6], 40
		src, dst = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
	} else {
		src, dst = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
	}
	t := b[header:]
	switch {
	case proto == unix.IPPROTO_TCP && len(t) >= 20 && t[13]&4 != 0: // a reset
		return Fate{Kind: rules.Reject}, binary.BigEndian.Uint32(t[8:]) - 1 - uint32(len(mark)+4), true
	case !found || len(carried) < 4:
		return f, 0, false
	case proto != sent.Proto: // ICMP, with what it is about
		const redirect4, redirect6 = 5, 137
		if t[0] == redirect4 || t[0] == redirect6 { // it was forwarded, and might have gone a shorter way
			return f, 0, false
		}
		return Fate{Kind: rules.Reject}, binary.BigEndian.Uint32([]byte(carried)), true
	}
	number = binary.BigEndian.Uint32([]byte(carried))
	// Where it gets the address that it had it gets another port (--random-fully).
	masqueraded := src != sent.Src || binary.BigEndian.Uint16(t) != sourcePort(number)
	return Fate{Kind: rules.Accept, To: netip.AddrPortFrom(dst, binary.BigEndian.Uint16(t[2:])), Masqueraded: masqueraded}, number, true
}

// describe is what a person needs to see why packets fare otherwise than predicted.
func (w *Wire) describe() string {
	var out strings.Builder
	_ = w.Do(func() error {
		for _, command := range []string{"ip addr", "ip route show table all", "ip -6 route show table all", "nft list table ip kube-proxy", "nft list table ip6 kube-proxy"} {
			words := strings.Fields(command)
			text, err := exec.Command(words[0], words[1:]...).CombinedOutput()
			fmt.Fprintf(&out, "# %s: %v\n%s\n", command, err, text)
		}
		return nil
	})
	return out.String()
}
