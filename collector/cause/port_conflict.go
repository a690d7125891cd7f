package cause

var portConflict = Cause{
	Name:    "port_conflict",
	Meaning: "Another process holds one of kube-proxy's ports.",
	Details: []Detail{
		{"metrics", "Find who listens on 10249 on the node (ss -ltnp sport = :10249) and move it, or change metricsBindAddress."},
		{"healthz", "Find who listens on 10256 on the node (ss -ltnp sport = :10256) and move it, or change healthzBindAddress."},
	},
	Eval: func(s *Snapshot) Verdict {
		v := fromLogs(s, "port_conflict")
		if p := s.runningPod(); v.State != Active && p != nil && s.Running != nil && s.Running.Foreign && s.Ports != nil && s.Ports.Metrics.says(PortAnswered, p.Container.Started) {
			return foreign(&s.Ports.Metrics)
		}
		return v
	},
	Node: func(s *Snapshot) Verdict {
		p := s.Local.Proxy
		if p == nil || !p.Seen || s.Running == nil {
			return unknown("an answer on kube-proxy's ports")
		}
		if h := &p.Ports.Healthz; p.HealthzForeign && p.says(*h, PortAnswered) {
			return active(h.Since, Finding{"healthz", []string{h.String(), "its answer is not kube-proxy's: somebody else answers there"}})
		}
		if s.Running.Foreign && p.says(p.Ports.Metrics, PortAnswered) {
			return foreign(&p.Ports.Metrics)
		}
		return inactive()
	},
}

// foreign is the verdict on a metrics port on which kube-proxy's pages are not.
func foreign(metrics *Port) Verdict {
	return active(metrics.Since, Finding{"metrics", []string{
		metrics.String(), "it has no /proxyMode, which every kube-proxy has: somebody else answers there"}})
}
