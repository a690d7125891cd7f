package cause

import (
	"testing"
	"time"
)

func TestConntrackFull(t *testing.T) {
	event := func(ago time.Duration) func(*Snapshot) {
		return func(s *Snapshot) {
			s.Node.Events = []Event{{Reason: "ConntrackFull", Message: "kernel: nf_conntrack: nf_conntrack: table full, dropping packet", Time: now.Add(-ago)}}
		}
	}
	atBoundary(t, conntrackFull, []boundary{
		{"just now", event(tableFullAge - time.Second), Active, "full"},
		{"a while ago", event(tableFullAge), Unknown, ""},
		{"another problem", func(s *Snapshot) { s.Node.Problems = []Condition{{Type: "KernelDeadlock", Status: "True"}} }, Unknown, ""},
		{"no Node object", func(s *Snapshot) { s.Node = nil }, Unknown, ""},
	})
}
