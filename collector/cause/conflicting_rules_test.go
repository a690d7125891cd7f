package cause

import "testing"

func TestConflictingRules(t *testing.T) {
	atBoundary(t, conflictingRules, []boundary{
		{"another that does not claim to replace it", func(*Snapshot) {}, Unknown, ""},
		{"another that does, and no pod here", func(s *Snapshot) {
			s.Replaced = ReasonCilium
			s.Pods.List = nil
		}, Unknown, ""},
		{"another that does, and a pod that has ended", func(s *Snapshot) {
			s.Replaced = ReasonCilium
			s.Pods.List[0].Phase = "Failed"
		}, Unknown, ""},
		{"no pods were read", func(s *Snapshot) { s.Pods = nil }, Unknown, ""},
	})
}
