package cause

import (
	"testing"
	"time"
)

func TestSecurityPolicy(t *testing.T) {
	atBoundary(t, securityPolicy, []boundary{
		{"from before the node was there: about another node", func(s *Snapshot) {
			refused("violates PodSecurity")(s)
			s.Pods.SeenGoing = false
			s.Placement.Failure.Time = now.Add(-time.Minute)
			s.Node.Created = now.Add(-time.Minute + eventGrain + 1)
		}, Inactive, ""},
		{"just as the node came", func(s *Snapshot) {
			refused("violates PodSecurity")(s)
			s.Pods.SeenGoing = false
			s.Placement.Failure.Time = now.Add(-time.Minute)
			s.Node.Created = now.Add(-time.Minute + eventGrain)
		}, Active, "pod_security"},
		{"a webhook that does not answer", refused(`Internal error occurred: failed calling webhook "validate.x": connect: connection refused`), Active, "admission"},
		{"a quota", refused(`pods "kube-proxy-" is forbidden: exceeded quota: q`), Inactive, ""},
		{"a refusal of long ago", func(s *Snapshot) {
			refused("violates PodSecurity")(s)
			s.Placement.Failure.Time = now.Add(-failureAge)
		}, Inactive, ""},
		{"a refusal, and a pod that is there", func(s *Snapshot) {
			s.Placement.Failure = &Event{Reason: "FailedCreate", Message: "violates PodSecurity", Time: now}
		}, Inactive, ""},
		{"a refusal, and a pod on its way out", func(s *Snapshot) {
			s.Placement.Failure = &Event{Reason: "FailedCreate", Message: "violates PodSecurity", Time: now}
			s.Pods.List[0].Deleting = true
		}, Inactive, ""},
		{"the predecessor of PodSecurity", refused("unable to validate against any pod security policy: []"), Active, "pod_security"},
		{"a container that cannot be created for another reason", func(s *Snapshot) { pulling(s, "CreateContainerError", "no space") }, Inactive, ""},
		{"no pods were read", func(s *Snapshot) { s.Pods = nil }, Unknown, ""},
	})
}
