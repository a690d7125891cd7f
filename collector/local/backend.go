package local

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/ti-mo/conntrack"
	"golang.org/x/sys/unix"
)

// Backends asks the kernel's table of connections where it sends what goes to a
// Service. It needs CAP_NET_ADMIN.
type Backends struct {
	mu sync.Mutex
	// mu protects following.
	conn    *conntrack.Conn
	sources map[netip.Addr]source // by destination
}

type source struct {
	address netip.Addr
	at      time.Time
}

// NewBackends opens a connection to the kernel.
func NewBackends() (*Backends, error) {
	c, err := conntrack.Dial(nil)
	if err != nil {
		return nil, err
	}
	return &Backends{conn: c, sources: map[netip.Addr]source{}}, nil
}

// sourceFor is how long the way to an address is believed.
const sourceFor = time.Minute

// Source is the own address from which packets go to another.
func (b *Backends) Source(to netip.Addr) netip.Addr {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.source(to)
}

// source asks the kernel's routes, by a socket that sends nothing; the caller
// holds mu.
func (b *Backends) source(to netip.Addr) netip.Addr {
	if s, ok := b.sources[to]; ok && time.Since(s.at) < sourceFor {
		return s.address
	}
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, 9)))
	if err != nil {
		return netip.Addr{}
	}
	defer func() { _ = conn.Close() }()
	s := source{conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), time.Now()}
	b.sources[to] = s
	return s.address
}

// Of is where the kernel sends what goes from our port own to an address; ok if
// it knows the connection.
func (b *Backends) Of(own, to netip.AddrPort, udp bool) (_ netip.AddrPort, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	from := own.Addr()
	if from.IsUnspecified() {
		if from = b.source(to.Addr()); !from.IsValid() {
			return netip.AddrPort{}, false
		}
	}
	protocol := uint8(unix.IPPROTO_TCP)
	if udp {
		protocol = unix.IPPROTO_UDP
	}
	f, err := b.conn.Get(conntrack.NewFlow(protocol, 0, from, to.Addr(), own.Port(), to.Port(), 0, 0))
	if err != nil || f.TupleReply.Proto.SourcePort == 0 {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(f.TupleReply.IP.SourceAddress.Unmap(), f.TupleReply.Proto.SourcePort), true
}
