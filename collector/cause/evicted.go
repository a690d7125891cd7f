package cause

import (
	"fmt"
	"regexp"
	"time"
)

// The words of the kubelet's eviction manager (pkg/kubelet/eviction/helpers.go).
var (
	evictedDisk   = regexp.MustCompile(`(?i)ephemeral-storage|disk|inode|nodefs|imagefs`)
	evictedMemory = regexp.MustCompile(`(?i)memory`)
	evictedPID    = regexp.MustCompile(`(?i)\bpids?\b`)
)

var evicted = Cause{
	Name:    "evicted",
	Meaning: "The kubelet evicted kube-proxy and it has not come back.",
	Details: []Detail{
		{"memory", "Find what uses the node's memory; give kube-proxy priorityClassName system-node-critical, so that others go first."},
		{"disk", "Free space or inodes on the node; give kube-proxy priorityClassName system-node-critical, so that others go first."},
		{"pid", "Find what uses the node's process ids; give kube-proxy priorityClassName system-node-critical."},
		{"other", "See the message; give kube-proxy priorityClassName system-node-critical."},
	},
	Eval: func(s *Snapshot) Verdict {
		if s.Pods == nil {
			return unknown("the kube-proxy pods")
		}
		for i := range s.Pods.List {
			p := &s.Pods.List[i]
			if !p.Deleting && p.Phase != "Failed" && p.Phase != "Succeeded" {
				return evictedAgain(s, p) // its successor is here
			}
		}
		for i := range s.Pods.List {
			if p := &s.Pods.List[i]; p.Evicted() && !p.Deleting {
				return active(p.Created, evictedFinding(p.Name, p.Message))
			}
		}
		if e := s.Pods.Eviction; e != nil && s.Now.Sub(e.Seen) < evictedBefore {
			return active(e.Seen, evictedFinding(e.Pod, e.Message))
		}
		return inactive()
	},
}

// A pod that the kubelet evicts is replaced at once, and evicted again: it has
// not come back before it has run for EvictionOver.
const (
	EvictionOver  = 30 * time.Second
	evictedBefore = 5 * time.Minute
)

// evictedAgain is for the successor of an evicted pod.
func evictedAgain(s *Snapshot, successor *Pod) Verdict {
	e, c := s.Pods.Eviction, successor.Container
	if e == nil || s.Now.Sub(e.Seen) >= evictedBefore || c != nil && c.Running() && s.Now.Sub(c.Started) >= EvictionOver {
		return inactive()
	}
	return active(e.Seen, evictedFinding(e.Pod, e.Message))
}

func evictedFinding(pod, message string) Finding {
	return Finding{evictedFor(message), []string{fmt.Sprintf("pod %s: Evicted: %s", pod, quote(message))}}
}

func evictedFor(message string) string {
	switch {
	case evictedDisk.MatchString(message):
		return "disk"
	case evictedMemory.MatchString(message):
		return "memory"
	case evictedPID.MatchString(message):
		return "pid"
	}
	return "other"
}
