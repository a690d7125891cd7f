package audit

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/kproxy-exporter/kproxy-exporter/collector/rules"
)

// Modes of kube-proxy.
const (
	ModeNFTables = "nftables"
	ModeIPTables = "iptables"
	ModeIPVS     = "ipvs"
)

// Config is how kube-proxy runs on the node, as far as it matters.
type Config struct {
	Mode   string
	Family rules.Family
	Node   string
	// Zone is the node's; ZoneKnown says that it is known.
	Zone      string
	ZoneKnown bool
	// Addresses are the node's own, and Primary those of its Node object; empty if
	// nobody knows.
	Addresses, Primary []netip.Addr
	NodePortAddresses  []string
	MasqueradeAll      bool
	Detector           Detector
}

// Detector is how kube-proxy tells pods of the node from others: by a prefix of
// their addresses or by the name of their interface (with + behind it: how it begins).
type Detector struct {
	// Known says that the rest is.
	Known     bool
	CIDR      netip.Prefix
	Interface string
}

// detects is whether kube-proxy tells pods of the node from others.
func (c *Config) detects() bool {
	return c.Detector.Known && (c.Detector.CIDR.IsValid() || c.Detector.Interface != "")
}

// local is whether an address is one of the node's own.
func (c *Config) local(a netip.Addr) bool { return slices.Contains(c.Addresses, a) }

func (c *Config) masqueradesClusterIP(s *source) *bool {
	switch {
	case c.MasqueradeAll:
		return &yes
	case !c.Detector.Known || c.detects() && s.pod == nil:
		return nil
	case !c.detects() || *s.pod:
		return &no
	}
	return &yes
}

// Documentation's addresses: packets that come from somewhere else.
var elsewhere = map[rules.Family]netip.Addr{
	rules.IPv4: netip.MustParseAddr("192.0.2.77"),
	rules.IPv6: netip.MustParseAddr("2001:db8:77::77"),
}

// sources are what packets may come from.
func (c *Config) sources() []source {
	out := source{name: "somewhere else", Packet: rules.Packet{Src: elsewhere[c.Family], Iif: "eth-elsewhere"}, pod: &no}
	pod := source{name: "a pod of the node", Packet: rules.Packet{Src: elsewhere[c.Family], Iif: "kproxy-pod", AnyPod: true}}
	host := source{name: "the node", Packet: rules.Packet{Src: elsewhere[c.Family], FromHost: true}, pod: &no, host: true}
	for _, a := range slices.Concat(c.Primary, c.Addresses) {
		if a.Is6() == (c.Family == rules.IPv6) && !a.IsLoopback() {
			host.Src = a
			break
		}
	}
	switch d := c.Detector; {
	case d.CIDR.IsValid():
		pod.Src, pod.pod = inside(d.CIDR), &yes
		if inNode := d.CIDR.Contains(host.Src); inNode {
			host.pod = &yes
		}
		if d.CIDR.Contains(out.Src) {
			out.pod = &yes
		}
	case d.Interface != "":
		pod.Iif, pod.pod = strings.TrimSuffix(d.Interface, "+"), &yes
		if pod.Iif != d.Interface {
			pod.Iif += "0"
		}
	}
	return []source{pod, host, out}
}

// inside is an address of a prefix that nobody is likely to have.
func inside(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8-1; i++ { // all ones but the last
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// nodePorts are the node's addresses at which its ports should lead to Services,
// and others at which they should not.
func (c *Config) nodePorts() (at, not []netip.Addr) {
	const most = 4
	var prefixes []netip.Prefix
	for _, text := range c.NodePortAddresses {
		switch text {
		case "primary":
			for _, a := range ofFamily(c.Primary, c.Family) {
				prefixes = append(prefixes, netip.PrefixFrom(a, a.BitLen()))
			}
			if len(c.Primary) == 0 {
				return nil, nil // nobody knows
			}
		case "all":
			prefixes = append(prefixes, netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0))
		case "localhost":
			prefixes = append(prefixes, netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"))
		default:
			p, err := netip.ParsePrefix(text)
			if err != nil {
				return nil, nil // a word of a newer kube-proxy
			}
			prefixes = append(prefixes, p)
		}
	}
	prefixes = slices.DeleteFunc(prefixes, func(p netip.Prefix) bool { return p.Addr().Is6() != (c.Family == rules.IPv6) })
	for _, a := range ofFamily(c.Addresses, c.Family) {
		if a.IsLoopback() || a.IsLinkLocalUnicast() {
			continue
		}
		if len(prefixes) == 0 || slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) }) {
			at = append(at, a)
		} else {
			not = append(not, a)
		}
	}
	return at[:min(len(at), most)], not[:min(len(not), 1)]
}
