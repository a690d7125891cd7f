package audit

import (
	"testing"
	"time"
)

// TestJudge is what tells drift from what is being written.
func TestJudge(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(d time.Duration) time.Time { return start.Add(d) }
	right, wrong := &Result{Wanted: 3, Sent: 3}, &Result{Wanted: 3, Sent: 2, Drifts: []Drift{{"a/b", Missing, "x"}}}
	gone := &Result{Wanted: 3, Drifts: []Drift{{"a/b", Missing, "x"}}}
	left := &Result{Wanted: 3, Sent: 3, Drifts: []Drift{{"", Stale, "x"}}}
	type look struct {
		after  time.Duration
		result *Result
		sync   Sync
		want   string
		part   bool // of the suspects only
	}
	judged := func(j Judgement) string {
		switch {
		case j.Flushed:
			return "flushed"
		case len(j.Drifts) > 0:
			return "drift"
		case j.Pending:
			return "pending"
		}
		return ""
	}
	old := Sync{Queued: at(-time.Hour), Synced: at(-time.Hour), Known: true, Started: at(-2 * time.Hour)}
	wrote := old
	wrote.Synced = at(1500 * time.Millisecond)
	silent, young := old, old
	silent.Known, young.Started = false, at(1500*time.Millisecond)
	for name, tc := range map[string]struct {
		changed time.Duration // when the API last changed what it wants; never if it is 0
		looks   []look
	}{
		"right, then changed behind kube-proxy's back": {0, []look{
			{time.Second, right, old, "", false}, {2 * time.Second, wrong, old, "pending", false}, {2*time.Second + again, wrong, old, "drift", false}, {3 * time.Second, right, old, "", false},
		}},
		"for a moment only": {0, []look{{time.Second, right, old, "", false}, {2 * time.Second, wrong, old, "pending", false}, {3 * time.Second, right, old, "", false}, {4 * time.Second, wrong, old, "pending", false}}},
		"all rules gone":    {0, []look{{time.Second, right, old, "", false}, {2 * time.Second, gone, old, "pending", false}, {2*time.Second + again, gone, old, "flushed", false}}},
		"kube-proxy wrote rules meanwhile, and may know more": {0, []look{
			{time.Second, right, old, "", false}, {2 * time.Second, wrong, wrote, "pending", false},
			{6 * time.Second, wrong, wrote, "pending", false}, {2*time.Second + told, wrong, wrote, "drift", false},
		}},
		"another kube-proxy begins": {0, []look{
			{time.Second, right, old, "", false}, {2 * time.Second, gone, young, "pending", false}, {10 * time.Second, gone, young, "pending", false}, {2*time.Second + restart, gone, young, "flushed", false},
		}},
		"kube-proxy says nothing": {0, []look{
			{time.Second, right, old, "", false}, {2 * time.Second, wrong, silent, "pending", false}, {10 * time.Second, wrong, silent, "pending", false}, {2*time.Second + restart, wrong, silent, "drift", false},
		}},
		"the API changed it, kube-proxy has not heard": {10 * time.Second, []look{
			{time.Second, right, old, "", false}, {11 * time.Second, wrong, old, "pending", false}, {10*time.Second + behind - 1, wrong, old, "pending", false}, {10*time.Second + behind, wrong, old, "drift", false},
		}},
		"the API changed it, kube-proxy has heard": {10 * time.Second, []look{
			{time.Second, right, old, "", false}, {11 * time.Second, wrong, Sync{Known: true, Queued: at(10 * time.Second)}, "pending", false},
			{10*time.Second + waiting - 1, wrong, Sync{Known: true, Queued: at(10 * time.Second)}, "pending", false}, {10*time.Second + waiting, wrong, Sync{Known: true, Queued: at(10 * time.Second)}, "drift", false},
		}},
		"the API changed it, kube-proxy wrote, and not that": {10 * time.Second, []look{
			{time.Second, right, old, "", false}, {11 * time.Second, wrong, old, "pending", false}, {16 * time.Second, wrong, Sync{Known: true, Synced: at(14 * time.Second)}, "pending", false}, {17 * time.Second, wrong, Sync{Known: true, Synced: at(10*time.Second + told + 1)}, "drift", false},
		}},
		"the API changed it, kube-proxy is stopped": {10 * time.Second, []look{
			{11 * time.Second, wrong, Sync{Halted: true}, "pending", false}, {12 * time.Second, wrong, Sync{Halted: true}, "drift", false},
		}},
		"the API changed it, kube-proxy is gone": {10 * time.Second, []look{
			{11 * time.Second, wrong, Sync{Gone: at(9 * time.Second)}, "pending", false}, {9*time.Second + restart - 1, wrong, Sync{Gone: at(9 * time.Second)}, "pending", false},
			{9*time.Second + restart, wrong, Sync{Gone: at(9 * time.Second)}, "drift", false},
		}},
		"the audit begins anew after the API changed it, and kube-proxy wrote between": {-time.Minute, []look{
			{0, wrong, old, "pending", false}, {time.Second, wrong, Sync{Known: true, Synced: at(-30 * time.Second)}, "pending", false}, {20 * time.Second, wrong, Sync{Synced: at(15 * time.Second)}, "pending", false},
			{20 * time.Second, wrong, Sync{Known: true, Synced: at(15 * time.Second)}, "drift", false},
		}},
		"the API changed it while only others were looked at": {2 * time.Second, []look{
			{time.Second, right, old, "", false}, {2*time.Second + 1, right, old, "", true}, {3 * time.Second, wrong, old, "pending", false}, {4 * time.Second, wrong, old, "pending", false},
		}},
		"a rule that is left of a Service that went": {2 * time.Second, []look{
			{time.Second, right, old, "", false}, {3 * time.Second, left, old, "pending", false}, {4 * time.Second, left, old, "pending", false},
			{9 * time.Second, left, Sync{Known: true, Synced: at(2*time.Second + told + 1)}, "drift", false},
		}},
		"a rule for nobody that somebody adds": {0, []look{{time.Second, right, old, "", false}, {2 * time.Second, left, old, "pending", false}, {3 * time.Second, left, old, "drift", false}}},
		"the API changed it and went away": {2 * time.Second, []look{
			{time.Second, right, old, "", false}, {3 * time.Second, wrong, old, "pending", false}, {time.Hour, wrong, Sync{Known: true, Away: true}, "pending", false},
			{time.Hour + time.Second, wrong, old, "pending", false}, {time.Hour + behind, wrong, old, "drift", false},
		}},
		"wrong from the first look": {0, []look{
			{0, wrong, old, "pending", false}, {time.Minute, wrong, old, "pending", false}, {behind, wrong, old, "drift", false},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var j Judge
			for i, l := range tc.looks {
				changed := func(string) time.Time {
					if tc.changed == 0 || l.after < tc.changed {
						return time.Time{}
					}
					return at(tc.changed)
				}
				if got := judged(j.Look(l.result, !l.part, at(l.after), at(l.after), changed, l.sync)); got != l.want {
					t.Errorf("look %d after %s: %q, want %q", i, l.after, got, l.want)
				}
			}
		})
	}
}

// TestJudgeSince is since when something differs, and that a change of what the
// API wants asks anew.
func TestJudgeSince(t *testing.T) {
	now := time.Now()
	var changed time.Time
	when := func(string) time.Time { return changed }
	wrong := &Result{Wanted: 1, Sent: 1, Drifts: []Drift{{"a/b", Stale, "x"}, {"a/b", Unlinked, "y"}}}
	var j Judge
	j.Look(&Result{}, true, now, now, when, Sync{})
	j.Look(wrong, true, now.Add(time.Second), now.Add(time.Second), when, Sync{Known: true, Started: now.Add(-time.Hour), Synced: now.Add(-time.Hour)})
	got := j.Look(wrong, true, now.Add(2*time.Second), now.Add(2*time.Second), when, Sync{Known: true, Started: now.Add(-time.Hour), Synced: now.Add(-time.Hour)})
	if !got.Since.Equal(now.Add(time.Second)) || len(got.Drifts) != 2 || got.Drifts[0].Kind != Unlinked {
		t.Errorf("%+v", got)
	}
	changed = now.Add(3 * time.Second)
	if got := j.Look(wrong, true, now.Add(4*time.Second), now.Add(4*time.Second), when, Sync{}); len(got.Drifts) != 0 || !got.Pending {
		t.Errorf("after the API changed it: %+v", got)
	}
}
