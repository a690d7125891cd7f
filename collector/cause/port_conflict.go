package cause

var portConflict = Cause{
	Name:    "port_conflict",
	Meaning: "Another process holds one of kube-proxy's ports.",
	Details: []Detail{
		{"metrics", "Find who listens on 10249 on the node (ss -ltnp sport = :10249) and move it, or change metricsBindAddress."},
		{"healthz", "Find who listens on 10256 on the node (ss -ltnp sport = :10256) and move it, or change healthzBindAddress."},
	},
	Eval: func(s *Snapshot) Verdict { return fromLogs(s, "port_conflict") },
}
