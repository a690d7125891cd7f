package cause

// The kubelet reports pressure when one of its eviction thresholds is crossed
// and then evicts pods; see the kubelet's node-pressure eviction. kube-proxy
// with its critical priority goes last, but a node under pressure starts no
// new pod without the toleration, and starves the old one.
var nodePressure = Cause{
	Name:    "node_pressure",
	Meaning: "The node is short of memory, disk or process ids.",
	Details: []Detail{
		{"memory", "Find what uses the memory (kubectl top pod -A, or 'ps' on the node) and move or limit it."},
		{"disk", "Free space or inodes on the kubelet's and the runtime's file systems: logs, images, emptyDir volumes."},
		{"pid", "Find the process that forks without end (ps -eLf on the node) and limit its pod's pids."},
	},
	Eval: func(s *Snapshot) Verdict {
		if s.Node == nil {
			return unknown("the Node object")
		}
		if len(s.Node.Pressure) == 0 {
			return unknown("pressure conditions: no kubelet reported any")
		}
		// Conditions are the kubelet's word; it no longer stands when the
		// kubelet stopped reporting.
		if s.Node.Ready != nil && s.Node.Ready.Status == "Unknown" {
			return unknown("a kubelet that reports")
		}
		v := inactive()
		for _, detail := range []struct{ condition, name string }{
			{"MemoryPressure", "memory"}, {"DiskPressure", "disk"}, {"PIDPressure", "pid"},
		} {
			for _, c := range s.Node.Pressure {
				if c.Type != detail.condition || c.Status != "True" {
					continue
				}
				v.State = Active
				v.Findings = append(v.Findings, Finding{detail.name, []string{describeCondition(&c)}})
				if v.Since.IsZero() || c.Since.Before(v.Since) {
					v.Since = c.Since
				}
			}
		}
		return v
	},
}
