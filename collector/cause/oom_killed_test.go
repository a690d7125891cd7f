package cause

import (
	"testing"
	"time"
)

func TestOOMKilled(t *testing.T) {
	killed := func(reason string, exit int32, ago time.Duration) func(*Snapshot) {
		return func(s *Snapshot) {
			s.Pods.List[0].Container = &Container{Ready: true, Restarts: 1, Started: now.Add(-ago), Last: &Termination{
				ExitCode: exit, Reason: reason, Started: now.Add(-24 * time.Hour), Finished: now.Add(-ago),
			}}
		}
	}
	atBoundary(t, oomKilled, []boundary{
		{"not long ago", killed("OOMKilled", 137, crashRun-time.Second), Active, "container"},
		{"long ago", killed("OOMKilled", 137, crashRun), Inactive, ""},
		{"killed, and nobody says for memory", killed("Error", 137, time.Second), Inactive, ""},
		{"the node's memory, and another victim", func(s *Snapshot) {
			killed("Error", 137, time.Second)(s)
			s.Node.Events = []Event{{Reason: "SystemOOM", Message: "System OOM encountered, victim process: java", Time: now}}
		}, Inactive, ""},
		{"the node's memory, on another day", func(s *Snapshot) {
			killed("Error", 137, time.Second)(s)
			s.Node.Events = []Event{{Reason: "SystemOOM", Message: "victim process: kube-proxy", Time: now.Add(-time.Hour)}}
		}, Inactive, ""},
		{"no pods were read", func(s *Snapshot) { s.Pods = nil }, Unknown, ""},
	})
}
