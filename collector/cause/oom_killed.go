package cause

import (
	"fmt"
	"strings"
)

var oomKilled = Cause{
	Name:    "oom_killed",
	Kubelet: true,
	Meaning: "The kernel killed kube-proxy for want of memory.",
	Details: []Detail{
		{"container", "Raise kube-proxy's memory limit: it needs about as much more as there are Services and endpoints; look for a leak of this version."},
		{"node", "The whole node ran out of memory: find what used it, and give kube-proxy priorityClassName system-node-critical."},
	},
	Eval: func(s *Snapshot) Verdict {
		if s.Pods == nil {
			return unknown("the kube-proxy pods")
		}
		for i := range s.Pods.List {
			p := &s.Pods.List[i]
			if p.Deleting || p.Container == nil || p.Container.Last == nil {
				continue
			}
			last := p.Container.Last
			if s.Now.Sub(last.Finished) >= crashRun && !looping(s.Now, p.Container) {
				continue
			}
			if last.Reason == "OOMKilled" {
				return active(last.Finished, Finding{"container", []string{fmt.Sprintf("pod %s: container ended %s with reason OOMKilled, exit code %d", p.Name, stamp(last.Finished), last.ExitCode)}})
			}
			if e := systemOOM(s, last); e != nil && last.ExitCode == 137 {
				return active(last.Finished, Finding{"node", []string{fmt.Sprintf("node: event %s %s: %s", e.Reason, stamp(e.Time), quote(e.Message))}})
			}
		}
		return inactive()
	},
}

// systemOOM is the kubelet's event that the kernel killed kube-proxy on a node
// that had no memory left.
func systemOOM(s *Snapshot, last *Termination) *Event {
	if s.Node == nil {
		return nil
	}
	for i := range s.Node.Events {
		e := &s.Node.Events[i]
		if e.Reason == "SystemOOM" && strings.Contains(e.Message, "kube-proxy") && e.Time.Sub(last.Finished).Abs() < crashRun {
			return e
		}
	}
	return nil
}
