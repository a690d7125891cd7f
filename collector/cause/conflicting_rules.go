package cause

import "fmt"

var conflictingRules = Cause{
	Name:    "conflicting_rules",
	Meaning: "Two owners write Service rules on the node.",
	Details: []Detail{
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
}
