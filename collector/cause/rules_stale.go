package cause

var rulesStale = Cause{
	Name:    "rules_stale",
	Meaning: "The rules on the node are not what the API says.",
	Details: []Detail{
		{"sync_failing", "Each try to write the rules fails: see the line; the same line number each time is one bad Service."},
		{"sync_stuck", "Rules have waited for long to be written: read kube-proxy's log for failed syncs, look for a blocked iptables or nft on the node, restart the pod."},
		{"flushed", "Somebody removes the rules: look for a firewall service that reloads at that time."},
	},
	Eval: func(s *Snapshot) Verdict {
		v := fromLogs(s, "rules_stale")
		c := s.running()
		if v.State == Active || s.Ports == nil || c == nil {
			return v
		}
		// /livez fails when rules have waited for twice the sync period.
		if h := s.Ports.Healthz; h.says(PortAnswered, c.Started) && h.Livez == statusUnavailable {
			return active(h.Since, Finding{"sync_stuck", []string{h.String()}})
		}
		return v
	},
}
