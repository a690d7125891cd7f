package cause

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
		{"kernel_bug", "This kernel's ip6tables lacks the MARK target: boot the previous or a fixed kernel."},
	},
	Eval: func(s *Snapshot) Verdict { return fromLogs(s, "prerequisite_missing") },
}
