package cause

import (
	"testing"
	"time"
)

func TestAPIUnreachable(t *testing.T) {
	onlyLogsTell(t, apiUnreachable, "forbidden")
	waits := func(running time.Duration) func(*Snapshot) {
		return func(s *Snapshot) {
			s.Pods.List[0].Container.Started = now.Add(-running)
			s.Pods.List[0].Current = &Log{Class: "api_unreachable/refused", Line: `"Waiting for caches to sync"`}
		}
	}
	atBoundary(t, apiUnreachable, []boundary{
		{"a start that waits", waits(startup - time.Second), Unknown, ""},
		{"a start that waits for too long", waits(startup), Active, "refused"},
		{"a container that does not run", func(s *Snapshot) {
			waits(startup)(s)
			s.Pods.List[0].Container.Started = time.Time{}
		}, Unknown, ""},
	})
}
