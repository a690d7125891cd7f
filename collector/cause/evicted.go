package cause

import (
	"fmt"
	"regexp"
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
		var gone *Pod
		for i := range s.Pods.List {
			p := &s.Pods.List[i]
			switch {
			case p.Deleting:
			case p.Phase == "Failed" && p.Reason == "Evicted":
				if gone == nil {
					gone = p
				}
			case p.Phase != "Failed" && p.Phase != "Succeeded":
				return inactive() // its successor is here
			}
		}
		if gone == nil {
			return inactive()
		}
		return active(gone.Created, Finding{evictedFor(gone.Message), []string{fmt.Sprintf("pod %s: %s: %s", gone.Name, gone.Reason, quote(gone.Message))}})
	},
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
