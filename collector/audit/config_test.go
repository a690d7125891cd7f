package audit

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/kproxy-exporter/kproxy-exporter/collector/rules"
)

func addrs(texts ...string) (out []netip.Addr) {
	for _, t := range texts {
		out = append(out, netip.MustParseAddr(t))
	}
	return out
}

// TestNodePorts is at which of the node's addresses its ports lead to Services.
func TestNodePorts(t *testing.T) {
	own := addrs("127.0.0.1", "::1", "169.254.1.1", "10.0.0.1", "10.1.0.1", "fd00::1", "fd01::1", "fe80::1")
	primary := addrs("10.0.0.1", "fd00::1")
	for name, tc := range map[string]struct {
		words   []string
		primary []netip.Addr
		family  rules.Family
		at, not []netip.Addr
	}{
		"all by default":                    {nil, primary, rules.IPv4, addrs("10.0.0.1", "10.1.0.1"), nil},
		"all by a word":                     {[]string{"all"}, primary, rules.IPv6, addrs("fd00::1", "fd01::1"), nil},
		"the primary":                       {[]string{"primary"}, primary, rules.IPv4, addrs("10.0.0.1"), addrs("10.1.0.1")},
		"the primary of IPv6":               {[]string{"primary"}, primary, rules.IPv6, addrs("fd00::1"), addrs("fd01::1")},
		"the primary, which nobody knows":   {[]string{"primary"}, nil, rules.IPv4, nil, nil},
		"a prefix":                          {[]string{"10.1.0.0/16"}, primary, rules.IPv4, addrs("10.1.0.1"), addrs("10.0.0.1")},
		"a prefix of the other family only": {[]string{"10.1.0.0/16"}, primary, rules.IPv6, addrs("fd00::1", "fd01::1"), nil},
		"a prefix in which there is none":   {[]string{"203.0.113.0/24"}, primary, rules.IPv4, nil, addrs("10.0.0.1")},
		"the loopback only":                 {[]string{"localhost"}, primary, rules.IPv4, nil, addrs("10.0.0.1")},
		"a word of a newer kube-proxy":      {[]string{"some"}, primary, rules.IPv4, nil, nil},
		"a prefix and the primary":          {[]string{"primary", "10.1.0.1/32"}, primary, rules.IPv4, addrs("10.0.0.1", "10.1.0.1"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			c := &Config{Family: tc.family, Addresses: own, Primary: tc.primary, NodePortAddresses: tc.words}
			if at, not := c.nodePorts(); !slices.Equal(at, tc.at) || !slices.Equal(not, tc.not) {
				t.Errorf("at %v, not at %v; want %v and %v", at, not, tc.at, tc.not)
			}
		})
	}
}

// TestSources is from where packets come, and whose source is replaced on the way to a
// ClusterIP.
func TestSources(t *testing.T) {
	is := func(b *bool) string {
		switch {
		case b == nil:
			return "may be"
		case *b:
			return "is"
		}
		return "is not"
	}
	prefix := netip.MustParsePrefix
	for name, tc := range map[string]struct {
		all      bool
		detector Detector
		// pod, host, out: whether its source is replaced
		pod, host, out string
		iif            string // of a pod
	}{
		"nobody knows how pods are told": {false, Detector{}, "may be", "may be", "may be", "kproxy-pod"},
		"pods are not told from others":  {false, Detector{Known: true}, "is not", "is not", "is not", "kproxy-pod"},
		"by their prefix":                {false, Detector{Known: true, CIDR: prefix("10.244.0.0/16")}, "is not", "is", "is", "kproxy-pod"},
		"by a prefix with the node":      {false, Detector{Known: true, CIDR: prefix("10.0.0.0/8")}, "is not", "is not", "is", "kproxy-pod"},
		"by a prefix with everybody":     {false, Detector{Known: true, CIDR: prefix("0.0.0.0/0")}, "is not", "is not", "is not", "kproxy-pod"},
		"by their bridge":                {false, Detector{Known: true, Interface: "cni0"}, "is not", "is", "is", "cni0"},
		"by how their interface begins":  {false, Detector{Known: true, Interface: "veth+"}, "is not", "is", "is", "veth0"},
		"everything is masqueraded":      {true, Detector{Known: true, CIDR: prefix("10.244.0.0/16")}, "is", "is", "is", "kproxy-pod"},
	} {
		t.Run(name, func(t *testing.T) {
			c := &Config{Family: rules.IPv4, Addresses: addrs("127.0.0.1", "10.0.0.1"), MasqueradeAll: tc.all, Detector: tc.detector}
			all := c.sources()
			if all[1].Src != netip.MustParseAddr("10.0.0.1") || !all[1].FromHost || all[0].Iif != tc.iif {
				t.Errorf("sources %+v", all)
			}
			if d := tc.detector; d.CIDR.IsValid() && !d.CIDR.Contains(all[0].Src) {
				t.Errorf("a pod at %s", all[0].Src)
			}
			for i, want := range []string{tc.pod, tc.host, tc.out} {
				if got := is(c.masqueradesClusterIP(&all[i])); got != want {
					t.Errorf("the source of %s %s replaced, want that it %s", all[i].name, got, want)
				}
			}
		})
	}
}
