package rules

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/moby/ipvs"
)

// VirtualServer is one of ip_vs.
type VirtualServer struct {
	Proto uint8
	Dst   netip.AddrPort
	// Persistent is for how many seconds a client stays with a real server; 0 if it
	// does not.
	Persistent uint32
	// Servers are the real servers and their weights.
	Servers map[netip.AddrPort]int
}

// IPVS is what ip_vs has of an IP family.
type IPVS struct {
	Servers []VirtualServer
	// Bound are the addresses of the interface to which kube-proxy gives those of
	// Services: packets to others do not come to ip_vs.
	Bound []netip.Addr
}

// IPVSInterface is kube-proxy's.
const IPVSInterface = "kube-ipvs0"

const flagPersistent = 0x1 // IP_VS_SVC_F_PERSISTENT

// ReadIPVS asks ip_vs in the caller's network namespace. It needs CAP_NET_ADMIN.
func ReadIPVS(f Family) (*IPVS, error) {
	if _, err := os.Stat("/proc/thread-self/net/ip_vs"); errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: ip_vs", ErrUnsupported) // to ask would load the module
	}
	h, err := ipvs.New("")
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket for ip_vs: %w", err)
	}
	defer h.Close()
	services, err := h.GetServices()
	if err != nil {
		return nil, fmt.Errorf("list the virtual servers of ip_vs: %w", err)
	}
	out := &IPVS{}
	for _, s := range services {
		a, ok := netip.AddrFromSlice(s.Address)
		if a = a.Unmap(); !ok || s.FWMark != 0 || a.Is6() != (f == IPv6) {
			continue
		}
		v := VirtualServer{Proto: uint8(s.Protocol), Dst: netip.AddrPortFrom(a, s.Port), Servers: map[netip.AddrPort]int{}}
		if s.Flags&flagPersistent != 0 {
			v.Persistent = s.Timeout
		}
		real, err := h.GetDestinations(s)
		if err != nil {
			return nil, fmt.Errorf("list the real servers of %s: %w", v.Dst, err)
		}
		for _, d := range real {
			if a, ok := netip.AddrFromSlice(d.Address); ok {
				v.Servers[netip.AddrPortFrom(a.Unmap(), d.Port)] = d.Weight
			}
		}
		out.Servers = append(out.Servers, v)
	}
	device, err := net.InterfaceByName(IPVSInterface)
	if err != nil {
		return out, nil //nolint:nilerr // there is none: no address is bound
	}
	all, err := device.Addrs()
	if err != nil {
		return nil, fmt.Errorf("list the addresses of %s: %w", IPVSInterface, err)
	}
	for _, one := range all {
		if p, ok := one.(*net.IPNet); ok {
			if a, ok := netip.AddrFromSlice(p.IP); ok {
				out.Bound = append(out.Bound, a.Unmap())
			}
		}
	}
	return out, nil
}
