package cause

import (
	"fmt"
	"time"
)

var conflictingRules = Cause{
	Name:    "conflicting_rules",
	Meaning: "Two owners write Service rules on the node.",
	Details: []Detail{
		{"legacy_and_nft", "kube-proxy's rules are in both worlds of iptables: use one backend in host and image, flush the other (iptables-legacy -F, -t nat -F), or reboot."},
		{"other_mode", "Restart the node's kube-proxy pod, which removes the rules of other modes at its start. If it runs in mode iptables or ipvs and the table stays: 'nft delete table ip kube-proxy' (and ip6). If it runs in mode nftables and chains stay: drain and reboot the node. Never run kube-proxy with its option cleanup there: it removes the live rules too."},
		{"other_proxy", "Remove one of the two: delete the kube-proxy DaemonSet, or switch the other's replacement off."},
	},
	Eval: func(s *Snapshot) Verdict {
		if s.Pods == nil || s.Placement == nil {
			return unknown("the kube-proxy DaemonSet and pods")
		}
		if s.Replaced != "" && s.Pods.live() {
			return active(s.Placement.Created, Finding{"other_proxy", []string{
				fmt.Sprintf("%s says that it replaces kube-proxy, and DaemonSet %s runs it here", s.Replaced, s.Placement.DaemonSet),
			}})
		}
		return unknown(onlyTheNode)
	},
	Node: func(s *Snapshot) Verdict {
		w := s.Local.Rules
		if w == nil {
			return unknown("the rules in the kernel")
		}
		if s.Now.Sub(w.Since) < settling {
			return inactive() // a change of mode cleans up as it starts
		}
		if w.Legacy && (w.IPTables || w.NFTables) {
			return active(w.Since, Finding{"legacy_and_nft", []string{"kube-proxy's chains are in the legacy tables of iptables and in nf_tables"}})
		}
		if s.Running == nil || s.Running.Mode == "" {
			return unknown("the mode that runs")
		}
		left := ""
		switch {
		case w.NFTables && s.Running.Mode != "nftables":
			left = "table kube-proxy of mode nftables"
		case (w.IPTables || w.Legacy) && s.Running.Mode == "nftables":
			left = "chains KUBE-SERVICES of mode iptables or ipvs"
		default:
			return inactive()
		}
		since := w.Since
		if p := s.Local.Proxy; p != nil && p.began().After(since) {
			since = p.began() // of another mode, and it cleans up as it starts
		}
		if s.Now.Sub(since) < settling {
			return inactive()
		}
		return active(since, Finding{"other_mode", []string{fmt.Sprintf("kube-proxy runs in mode %s, and %s take effect in the kernel", s.Running.Mode, left)}})
	},
}

// settling is how long two rule worlds may stand side by side: kube-proxy
// removes the rules of another mode after it has written its own.
const settling = 30 * time.Second
