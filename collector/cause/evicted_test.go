package cause

import "testing"

func TestEvicted(t *testing.T) {
	atBoundary(t, evicted, []boundary{
		{"its successor is here", func(s *Snapshot) {
			gone := s.Pods.List[0]
			gone.Phase, gone.Reason = "Failed", "Evicted"
			s.Pods.List = append(s.Pods.List, gone)
		}, Inactive, ""},
		{"a pod that failed for another reason", func(s *Snapshot) {
			s.Pods.List[0].Phase, s.Pods.List[0].Reason = "Failed", "Terminated"
		}, Inactive, ""},
		{"inodes", evictedWith("The node was low on resource: inodes. "), Active, "disk"},
		{"a message of both", evictedWith("The node was low on resource: ephemeral-storage. Container used memory"), Active, "disk"},
		{"no pods were read", func(s *Snapshot) { s.Pods = nil }, Unknown, ""},
	})
}
