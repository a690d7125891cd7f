package cause

import (
	"testing"
	"time"
)

func TestMissingOnNode(t *testing.T) {
	unscheduled := func(ago time.Duration) func(*Snapshot) {
		return func(s *Snapshot) {
			s.Pods.List[0].Container = nil
			s.Pods.List[0].Scheduled = &Condition{Type: "PodScheduled", Status: "False", Reason: "Unschedulable", Since: now.Add(-ago)}
		}
	}
	ended := func(ago time.Duration) func(*Snapshot) {
		return func(s *Snapshot) {
			s.Pods.List[0].Container = &Container{Last: &Termination{Finished: now.Add(-ago)}}
		}
	}
	failed := func(eventAgo time.Duration) func(*Snapshot) {
		return func(s *Snapshot) {
			gone(s, time.Second).Placement.Failure = &Event{Reason: "FailedCreate", Time: now.Add(-eventAgo)}
			s.Pods.SeenGoing = true
		}
	}
	joined := func(ago time.Duration, ready string, since time.Duration) func(*Snapshot) {
		return func(s *Snapshot) {
			gone(s, time.Second).Placement.Selected = false
			s.Node.Created = now.Add(-ago)
			s.Node.Ready.Status, s.Node.Ready.Since = ready, now.Add(-since)
		}
	}
	atBoundary(t, missingOnNode, []boundary{
		{"between two pods", func(s *Snapshot) { gone(s, missingGrace-time.Second) }, Inactive, ""},
		{"no pod for too long", func(s *Snapshot) { gone(s, missingGrace) }, Active, "not_created"},
		{"a DaemonSet that is just made, on a node that never had one", func(s *Snapshot) {
			gone(s, time.Hour).Placement.Created = now.Add(-missingGrace + time.Second)
		}, Inactive, ""},
		{"a DaemonSet that has just begun to want the node", func(s *Snapshot) {
			gone(s, time.Hour).Placement.WantedSince = now.Add(-missingGrace + time.Second)
		}, Inactive, ""},
		{"a DaemonSet that is about to be installed anew", func(s *Snapshot) {
			gone(s, missingGrace-time.Second).Placement = &Placement{}
		}, Inactive, ""},
		{"a DaemonSet that had its time", func(s *Snapshot) { gone(s, time.Hour).Placement.Created = now.Add(-missingGrace) }, Active, "not_created"},
		{"a node that is still being labelled", joined(nodeStartup-time.Second, "False", time.Second), Inactive, ""},
		{"a node that had its time", joined(nodeStartup, "False", time.Second), Active, "selector"},
		{"a young node that has just become Ready", joined(time.Minute, "True", missingGrace-time.Second), Inactive, ""},
		{"a young node that is Ready for a while", joined(time.Minute, "True", missingGrace), Active, "selector"},
		{"being scheduled", unscheduled(unschedulableGrace - time.Second), Inactive, ""},
		{"not scheduled for too long", unscheduled(unschedulableGrace), Active, "fit"},
		{"a container about to be started again", ended(forgottenAfter - time.Second), Inactive, ""},
		{"a container that was forgotten", ended(forgottenAfter), Active, "container_gone"},
		{"a forgotten container, said by a kubelet that fell silent", func(s *Snapshot) {
			ended(forgottenAfter)(s)
			s.Node.Ready.Status = "Unknown"
		}, Inactive, ""},
		{"a FailedCreate as the pod went", failed(time.Second), Active, "not_created"},
		{"a FailedCreate from before the pod went", failed(time.Second + eventGrain), Inactive, ""},
		{"a FailedCreate from before anybody watched", func(s *Snapshot) {
			failed(time.Minute)(s)
			s.Pods.SeenGoing = false
		}, Active, "not_created"},
		{"only a pod that failed is left", func(s *Snapshot) {
			s.Pods.List[0].Phase = "Failed"
			s.Pods.GoneSince = now.Add(-missingGrace)
		}, Active, "not_created"},
		{"static pods elsewhere and none here", func(s *Snapshot) {
			gone(s, missingGrace).Placement = &Placement{}
			s.Expected.Reason = ReasonStaticPod
		}, Active, "container_gone"},
		{"no pods were read", func(s *Snapshot) { s.Pods = nil }, Unknown, ""},
		{"no DaemonSets were read", func(s *Snapshot) { gone(s, time.Hour).Placement = nil }, Unknown, ""},
		{"nobody knows whether it is expected", func(s *Snapshot) { gone(s, time.Hour).Expected = nil }, Unknown, ""},
	})
}
