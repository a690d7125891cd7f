package cause

import (
	"testing"
	"time"
)

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
		{"its successor has just not run long enough", successor(EvictionOver-1, time.Minute), Active, "memory"},
		{"its successor has run long enough", successor(EvictionOver, time.Minute), Inactive, ""},
		{"its successor has not started", func(s *Snapshot) {
			successor(0, evictedBefore-1)(s)
			s.Pods.List[0].Container = nil
		}, Active, "memory"},
		{"its successor has not started, and it was long ago", func(s *Snapshot) {
			successor(0, evictedBefore)(s)
			s.Pods.List[0].Container = nil
		}, Inactive, ""},
		{"it was deleted and has no successor yet", func(s *Snapshot) {
			successor(0, time.Second)(s)
			s.Pods.List = nil
		}, Active, "memory"},
		{"no pods were read", func(s *Snapshot) { s.Pods = nil }, Unknown, ""},
	})
}

// successor is a pod that has run for a while after another was evicted.
func successor(runs, evictedAgo time.Duration) func(*Snapshot) {
	return func(s *Snapshot) {
		s.Pods.List[0].Container.Started = now.Add(-runs)
		s.Pods.Eviction = &Eviction{Pod: "kube-proxy-y", Message: "The node was low on resource: memory. ", Seen: now.Add(-evictedAgo)}
	}
}
