package cause

import (
	"slices"
	"testing"
	"time"
)

// jumps are how far a clock is set forward, or back.
var jumps = []time.Duration{time.Second, time.Minute, 10 * time.Minute, time.Hour, 24 * time.Hour, 10 * 365 * 24 * time.Hour}

// TestClockJumps sets the clock forward and back, while what others wrote has the time
// that it had: a node that is well stays so, by both roles' views; what has just begun
// does not look as if it had lasted; and one that is sick has its own cause, or none
// that is known, but no other.
func TestClockJumps(t *testing.T) {
	active := func(s *Snapshot) (out []string) {
		for i, v := range Judge(s).Verdicts {
			if v.State == Active {
				out = append(out, All[i].Name)
			}
		}
		return out
	}
	judged := 0
	check := func(what string, s *Snapshot, by time.Duration, too ...string) {
		t.Helper()
		may := append(active(s), too...)
		s.Now = s.Now.Add(by)
		if s.Pods != nil { // a time of our own goes with our clock
			s.Pods.GoneSince = s.Pods.GoneSince.Add(by)
		}
		judged++
		for _, name := range active(s) {
			if !slices.Contains(may, name) {
				t.Errorf("%s, the clock set by %s: called %s, may be called %v", what, by, name, may)
			}
		}
	}
	each := func(of map[string]map[string]func(*Snapshot), well func() *Snapshot, do func(name string, s *Snapshot)) {
		for name, details := range of {
			for detail, change := range details {
				s := well()
				change(s)
				do(name+"/"+detail, s)
			}
		}
	}
	for _, jump := range jumps {
		for _, by := range []time.Duration{jump, -jump} {
			check("well", healthySnapshot(), by)
			check("well, by the node", healthyLocal(), by)
			// Of a pod that was evicted long ago and has no successor that is the right word.
			each(sick, healthySnapshot, func(name string, s *Snapshot) { check(name, s, by, "unexplained", "missing_on_node") })
			each(sickNode, healthyLocal, func(name string, s *Snapshot) { check(name+" by the node", s, by) })
		}
		for name, change := range healthyVariations {
			if name == "an old FailedCreate event" {
				continue // it is as new as what is happening then, as far as anybody can tell
			}
			s := healthySnapshot()
			change(s)
			check(name, s, -jump)
		}
	}
	t.Logf("%d judgements", judged)
}
