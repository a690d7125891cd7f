package audit

import (
	"fmt"

	"github.com/kproxy-exporter/kproxy-exporter/collector/rules"
)

// link is a jump from a hook to one of kube-proxy's own chains.
type link struct {
	table string
	chain string
	hooks []rules.Hook
}

// links are those that kube-proxy makes (nftablesJumpChains, iptablesJumpChains).
var links = map[string][]link{
	ModeNFTables: {
		{"kube-proxy", "services", []rules.Hook{rules.Prerouting, rules.Output}},
		{"kube-proxy", "firewall-check", []rules.Hook{rules.Prerouting, rules.Output}},
		{"kube-proxy", "nodeport-endpoints-check", []rules.Hook{rules.Input}},
		{"kube-proxy", "service-endpoints-check", []rules.Hook{rules.Input, rules.Forward, rules.Output}},
		{"kube-proxy", "cluster-ips-check", []rules.Hook{rules.Forward, rules.Output}},
		{"kube-proxy", "masquerading", []rules.Hook{rules.Postrouting}},
	},
	ModeIPTables: {
		{"nat", "KUBE-SERVICES", []rules.Hook{rules.Prerouting, rules.Output}},
		{"nat", "KUBE-POSTROUTING", []rules.Hook{rules.Postrouting}},
		{"filter", "KUBE-SERVICES", []rules.Hook{rules.Forward, rules.Output}},
		{"filter", "KUBE-EXTERNAL-SERVICES", []rules.Hook{rules.Input, rules.Forward}},
		{"filter", "KUBE-PROXY-FIREWALL", []rules.Hook{rules.Input, rules.Forward, rules.Output}},
		{"filter", "KUBE-FORWARD", []rules.Hook{rules.Forward}},
	},
}

// passes is whether packets from a source come by a hook.
func (s *source) passes(h rules.Hook) bool {
	switch h {
	case rules.Output:
		return s.FromHost
	case rules.Prerouting, rules.Forward:
		return !s.FromHost
	}
	return true
}

// unlinked says which chain a packet does not meet although it is there and does
// what it should; empty if it is not that. Without claims only that nothing leads to a
// chain counts.
func (k *checker) unlinked(p rules.Packet, claims []claim, from *source) (string, error) {
	for _, l := range links[k.c.Mode] {
		for _, h := range l.hooks {
			if !from.passes(h) {
				continue
			}
			c, err := k.rs.Chain(l.table, l.chain)
			if err != nil {
				return "", err
			}
			if c == nil || len(c.Rules) == 0 {
				continue // it is not there
			}
			linked, err := k.rs.Linked(h, l.table, l.chain)
			if err != nil {
				return "", err
			}
			if !linked {
				return fmt.Sprintf("packets do not meet the chain %s, which has rules: nothing at the hook %s jumps to it", l.chain, h), nil
			}
		}
	}
	fine, err := k.fineBehind(p, claims, from)
	if fine {
		return fmt.Sprintf("packets do not meet the chain %s, which would do what it should", k.root), err
	}
	return "", err
}

// fineBehind is whether the packet would go right if it met the first of
// kube-proxy's own chains.
func (k *checker) fineBehind(p rules.Packet, claims []claim, from *source) (bool, error) {
	ways, err := k.m.RunFrom(p, k.table, k.root)
	if err != nil || len(ways) == 0 {
		return false, err
	}
	for _, c := range claims {
		for _, w := range k.right(c) {
			e := w.expect(c.by, from, p.Dst.Addr(), k.c)
			if e.kind != rules.Accept {
				continue
			}
			e.masquerade = nil // it is done behind another hook
			if k.compare(e, ways, w.service, nil) == nil {
				return true, nil
			}
		}
	}
	return false, nil
}
