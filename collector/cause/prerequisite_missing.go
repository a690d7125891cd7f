package cause

import "time"

var prerequisiteMissing = Cause{
	Name:    "prerequisite_missing",
	Meaning: "The node's kernel or the image lacks what kube-proxy needs in its mode.",
	Details: []Detail{
		{"iptables", "Load ip_tables (or nf_tables) on the node, or change to mode nftables."},
		{"nft", "nftables mode needs nft >= 1.0.1 in the image and kernel >= 5.13 with its modules: upgrade, or change to mode iptables."},
		{"ip_vs", "Load ip_vs and its schedulers at boot, or move off ipvs: nftables is its successor."},
		{"nf_conntrack", "Load nf_conntrack at boot (/etc/modules-load.d)."},
		{"xt_match", "Install the package with the kernel's other modules (kernel-modules-extra), or change to mode nftables."},
		{"binary", "The image is broken or misses a program: use another tag."},
		{"sysctl", "Set net.ipv4.ip_forward (or net.ipv6.conf.all.forwarding) to 1 in /etc/sysctl.d; find who resets it."},
		{"kernel_bug", "This kernel's ip6tables lacks the MARK target: boot the previous or a fixed kernel."},
	},
	Eval: func(s *Snapshot) Verdict { return fromLogs(s, "prerequisite_missing") },
	Node: func(s *Snapshot) Verdict {
		k := s.Local.Needs
		if k == nil || s.Local.Proxy == nil || !s.Local.Proxy.Seen {
			return unknown("what kube-proxy needs of the node and its image")
		}
		if len(k.Programs) > 0 {
			return active(time.Time{}, Finding{"binary", k.Programs})
		}
		if !k.NoForwarding.IsZero() && s.Now.Sub(k.NoForwarding) >= forwardingLate {
			return active(k.NoForwarding, Finding{"sysctl", []string{k.Forwarding + " is 0: the kernel forwards no packet between a Service's client and a pod"}})
		}
		if localHealth(s) != Inactive {
			return inactive() // it found what it needs
		}
		switch mode := k.Mode; {
		case k.NoConntrack:
			return active(time.Time{}, Finding{"nf_conntrack", []string{"the node has no /proc/sys/net/netfilter/nf_conntrack_max"}})
		case k.NoNFTables && mode == "nftables":
			return active(time.Time{}, Finding{"nft", []string{"mode nftables, and the kernel has no nf_tables"}})
		case k.NoNFTables && k.NoIPTables && (mode == "iptables" || mode == "ipvs"):
			return active(time.Time{}, Finding{"iptables", []string{"mode " + mode + ", and the kernel has neither nf_tables nor ip_tables"}})
		case k.NoIPVS && mode == "ipvs":
			return active(time.Time{}, Finding{"ip_vs", []string{"mode ipvs, and the node has no /proc/net/ip_vs"}})
		}
		return inactive()
	},
}

// forwardingLate is how long a node may run without forwarding: network plugins
// switch it on when they make the first pod.
const forwardingLate = time.Minute
