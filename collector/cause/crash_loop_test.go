package cause

import (
	"testing"
	"time"
)

func TestCrashLoop(t *testing.T) {
	// restarted is a container that runs again after a run that ended.
	restarted := func(restarts int32, ran, running time.Duration) func(*Snapshot) {
		return func(s *Snapshot) {
			p := &s.Pods.List[0]
			p.Container = &Container{Ready: true, Restarts: restarts, Started: now.Add(-running), Last: &Termination{
				ContainerID: "c", ExitCode: 1, Started: now.Add(-running - ran), Finished: now.Add(-running),
			}}
			p.Log = &Log{ContainerID: "c"}
		}
	}
	endedAfter := func(restarts int32, ran, ago time.Duration) func(*Snapshot) {
		return func(s *Snapshot) {
			restarted(restarts, ran, ago)(s)
			s.Pods.List[0].Container.Started = time.Time{}
		}
	}
	ended := func(ago time.Duration) func(*Snapshot) { return endedAfter(2, time.Second, ago) }
	atBoundary(t, crashLoop, []boundary{
		{"restarted once", restarted(1, time.Second, time.Second), Inactive, ""},
		{"restarted twice", restarted(2, time.Second, time.Second), Active, "other"},
		{"ran just short of a long run", restarted(2, crashRun-time.Second, time.Second), Active, "other"},
		{"ran long", restarted(2, crashRun, time.Second), Inactive, ""},
		{"not yet stable", restarted(2, time.Second, stableRun-time.Second), Active, "other"},
		{"stable", restarted(2, time.Second, stableRun), Inactive, ""},
		{"not clearly longer than its predecessor", restarted(2, 4*time.Minute, 5*time.Minute-time.Second), Active, "other"},
		{"clearly longer than its predecessor", restarted(2, 4*time.Minute, 5*time.Minute), Inactive, ""},
		{"a pod on its way out", func(s *Snapshot) {
			crashing(s, "", 1)
			s.Pods.List[0].Deleting = true
		}, Inactive, ""},
		{"SIGTERM by its number", func(s *Snapshot) { crashing(s, "", 143) }, Active, "killed"},
		{"2 with a log that could not be read", func(s *Snapshot) { crashing(s, "", 2).Log.Error = "gone" }, Active, "other"},
		{"waits to be created after it ran", func(s *Snapshot) {
			endedAfter(2, time.Second, time.Second)(s)
			s.Pods.List[0].Container.WaitingReason = "ContainerCreating"
		}, Active, "other"},
		{"ended for the first time", endedAfter(0, time.Second, time.Second), Inactive, ""},
		{"ended, was restarted and ended", endedAfter(1, time.Second, time.Second), Active, "other"},
		{"ended, was restarted and ended after a long run", endedAfter(1, crashRun, time.Second), Inactive, ""},
		{"ended a while ago", ended(forgottenAfter - time.Second), Active, "other"},
		{"ended and was forgotten", ended(forgottenAfter), Inactive, ""},
		{"waits for its image after it ran", func(s *Snapshot) {
			ended(time.Second)(s)
			s.Pods.List[0].Container.WaitingReason = "ImagePullBackOff"
		}, Inactive, ""},
		{"a log that names another cause", func(s *Snapshot) { crashing(s, "prerequisite_missing/ip_vs", 1) }, Active, "other"},
		{"SIGTERM without a failed probe", func(s *Snapshot) { crashing(s, "", 2) }, Active, "killed"},
		{"a probe that failed long before", func(s *Snapshot) {
			crashing(s, "", 2).Events = []Event{{Reason: "Unhealthy", Message: "Liveness probe failed", Time: now.Add(-time.Hour)}}
		}, Active, "killed"},
		{"its log is being read", func(s *Snapshot) { crashing(s, "", 1).Log = nil }, Unknown, ""},
		{"no pods were read", func(s *Snapshot) { s.Pods = nil }, Unknown, ""},
	})
}
