package local

import (
	"testing"

	"github.com/kproxy-exporter/kproxy-exporter/collector/rules/rulestest"
)

// TestReadRuleWorlds writes rules by several programs into the real kernel, each time
// into a network namespace that is new.
func TestReadRuleWorlds(t *testing.T) {
	const linked = "*nat\n:KUBE-SERVICES - [0:0]\n-A PREROUTING -j KUBE-SERVICES\nCOMMIT\n"
	nft, iptables, legacy := []string{"nft", "-f", "-"}, []string{"iptables-nft-restore"}, []string{"iptables-legacy-restore"}
	for name, tc := range map[string]struct {
		program []string
		text    string
		want    RuleWorlds
	}{
		"no rules":                       {nft, "", RuleWorlds{}},
		"mode nftables":                  {nft, "add table ip kube-proxy; add chain ip kube-proxy nat-prerouting { type nat hook prerouting priority dstnat; }", RuleWorlds{NFTables: true}},
		"mode nftables, IPv6":            {nft, "add table ip6 kube-proxy; add chain ip6 kube-proxy nat-prerouting { type nat hook prerouting priority dstnat; }", RuleWorlds{NFTables: true}},
		"base chains of other names":     {nft, "add table ip kube-proxy; add chain ip kube-proxy first { type nat hook prerouting priority dstnat; }", RuleWorlds{NFTables: true}},
		"nothing hooked in":              {nft, "add table ip kube-proxy; add chain ip kube-proxy nat-prerouting", RuleWorlds{}},
		"a table of its own that is off": {nft, "add table ip kube-proxy { flags dormant; }; add chain ip kube-proxy nat-prerouting { type nat hook prerouting priority dstnat; }", RuleWorlds{}},
		"another's table":                {nft, "add table ip other; add chain ip other nat-prerouting { type nat hook prerouting priority dstnat; }", RuleWorlds{}},
		"mode iptables":                  {iptables, linked, RuleWorlds{IPTables: true}},
		"mode iptables, IPv6":            {[]string{"ip6tables-nft-restore"}, linked, RuleWorlds{IPTables: true}},
		"mode iptables, from OUTPUT":     {iptables, "*nat\n:KUBE-SERVICES - [0:0]\n-A OUTPUT -j KUBE-SERVICES\nCOMMIT\n", RuleWorlds{IPTables: true}},
		"no jump to its chain":           {iptables, "*nat\n:KUBE-SERVICES - [0:0]\n-A PREROUTING -j RETURN\nCOMMIT\n", RuleWorlds{}},
		"in another table":               {iptables, "*filter\n:KUBE-SERVICES - [0:0]\n-A FORWARD -j KUBE-SERVICES\nCOMMIT\n", RuleWorlds{}},
		"a table that is off":            {nft, "add table ip nat { flags dormant; }; add chain ip nat KUBE-SERVICES; add chain ip nat PREROUTING { type nat hook prerouting priority dstnat; }; add rule ip nat PREROUTING jump KUBE-SERVICES", RuleWorlds{}},
		"the old iptables":               {legacy, linked, RuleWorlds{Legacy: true}},
	} {
		t.Run(name, func(t *testing.T) {
			rulestest.InNamespace(t, func() {
				if !rulestest.Load(t, tc.text, tc.program...) {
					return
				}
				first, err := ReadRuleWorlds(RuleWorlds{})
				again, err2 := ReadRuleWorlds(first)
				if first.generation = 0; err != nil || first != tc.want {
					t.Errorf("got %+v, %v, want %+v", first, err, tc.want)
				}
				if again.generation = 0; err2 != nil || again != tc.want {
					t.Errorf("got %+v, %v where nothing changed, want %+v", again, err2, tc.want)
				}
			})
		})
	}
}
