package cause

import (
	"testing"
	"time"
)

func TestNodeNotReady(t *testing.T) {
	ready := func(status string, age time.Duration) func(*Snapshot) {
		return func(s *Snapshot) {
			s.Node.Created = now.Add(-age)
			s.Node.Ready.Since = s.Node.Created.Add(registration - time.Second)
			if s.Node.Ready.Status = status; status == "" {
				s.Node.Ready = nil
			}
		}
	}
	atBoundary(t, nodeNotReady, []boundary{
		{"just young enough to be starting", ready("False", nodeStartup-time.Second), Inactive, ""},
		{"just too old to be starting", ready("False", nodeStartup), Active, "not_ready"},
		{"young, and was Ready once", func(s *Snapshot) {
			s.Node.Created = now.Add(-time.Minute)
			s.Node.Ready.Status, s.Node.Ready.Since = "False", s.Node.Created.Add(registration)
		}, Active, "not_ready"},
		{"no condition yet", ready("", nodeStartup-time.Second), Inactive, ""},
		{"no condition for too long", ready("", nodeStartup), Active, "unknown"},
		{"a young node whose kubelet fell silent", ready("Unknown", time.Second), Active, "unknown"},
		{"a young node that is Ready", ready("True", time.Second), Inactive, ""},
		{"no Node object", func(s *Snapshot) { s.Node = nil }, Unknown, ""},
	})
}
