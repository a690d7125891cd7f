package audit

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/collector/rules"
)

// TestJudge is what tells drift from what is being written.
func TestJudge(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(d time.Duration) time.Time { return start.Add(d) }
	right, wrong := &Result{Wanted: 3, Sent: 3}, &Result{Wanted: 3, Sent: 2, Drifts: []Drift{{Service: "a/b", Kind: Missing, What: "x"}}}
	gone := &Result{Wanted: 3, Drifts: []Drift{{Service: "a/b", Kind: Missing, What: "x"}}}
	vip := &Result{Wanted: 3, Sent: 2, Drifts: []Drift{{Service: "default/kubernetes", Kind: Missing, What: "x"}}}
	left := &Result{Wanted: 3, Sent: 3, Drifts: []Drift{{Kind: Stale, What: "x"}}}
	type look struct {
		after  time.Duration
		result *Result
		sync   Sync
		want   string
		extent Extent
	}
	judged := func(j Judgement) string {
		switch {
		case j.Flushed:
			return "flushed"
		case len(j.Drifts) > 0:
			return "drift"
		case j.Unsure:
			return "unsure"
		case j.Pending:
			return "pending"
		}
		return ""
	}
	old := Sync{Queued: at(-time.Hour), Synced: at(-time.Hour), Known: true, Started: at(-2 * time.Hour)}
	later := Sync{Known: true, Queued: at(19 * time.Second), Synced: at(20 * time.Second), Started: old.Started}
	late := Sync{Known: true, Queued: at(10 * time.Second), Synced: at(10*time.Second + told + 1), Started: old.Started}
	writes, wrote := old, old
	writes.Queued = at(500 * time.Millisecond)
	wrote.Synced = at(1500 * time.Millisecond)
	slow := old
	slow.Queued, slow.Synced = at(100*time.Second), at(110*time.Second)
	nothing := &Result{Services: 1}
	began := old
	began.Started, began.Synced = at(-30*time.Minute), at(-45*time.Minute)
	other := &Result{Wanted: 3, Sent: 3, Drifts: []Drift{{Service: "a/b", Kind: WrongBackend, What: "x"}}}
	unlinked := &Result{Wanted: 3, Drifts: []Drift{{Service: "a/b", Kind: Unlinked, What: "x"}}}
	another := Sync{Known: true, Queued: at(201 * time.Second), Synced: at(201 * time.Second), Started: at(200500 * time.Millisecond)}
	silent, young := old, old
	silent.Known, young.Started = false, at(1500*time.Millisecond)
	awayOld, awayWrote, awayYoung := old, wrote, young
	awayOld.Away, awayWrote.Away, awayYoung.Away = true, true, true
	for name, tc := range map[string]struct {
		changed time.Duration // when the API last changed what it wants; never if it is 0
		written time.Time     // when the API server wrote it, by its own clock
		looks   []look
	}{
		"right, then changed behind kube-proxy's back": {0, time.Time{}, []look{
			{time.Second, right, old, "", OfAll}, {2 * time.Second, wrong, old, "pending", OfAll}, {2*time.Second + again, wrong, old, "drift", OfAll}, {3 * time.Second, right, old, "", OfAll},
		}},
		"what changed is looked at alone": {0, time.Time{}, []look{
			{time.Second, right, old, "", OfAll}, {2 * time.Second, gone, old, "pending", OfChanged}, {2*time.Second + again, gone, old, "drift", OfChanged}, {3 * time.Second, right, old, "", OfChanged},
		}},
		"kube-proxy wrote before what changed was looked at": {0, time.Time{}, []look{
			{time.Second, right, old, "", OfAll}, {2 * time.Second, right, old, "", OfChanged}, {3 * time.Second, wrong, wrote, "pending", OfChanged}, {3*time.Second + again, wrong, wrote, "drift", OfChanged},
		}},
		"for a moment only": {0, time.Time{}, []look{{time.Second, right, old, "", OfAll}, {2 * time.Second, wrong, old, "pending", OfAll}, {3 * time.Second, right, old, "", OfAll}, {4 * time.Second, wrong, old, "pending", OfAll}}},
		"all rules gone":    {0, time.Time{}, []look{{time.Second, right, old, "", OfAll}, {2 * time.Second, gone, old, "pending", OfAll}, {2*time.Second + again, gone, old, "flushed", OfAll}}},
		"kube-proxy wrote rules meanwhile, and may know more": {0, time.Time{}, []look{
			{time.Second, right, old, "", OfAll}, {2 * time.Second, wrong, wrote, "pending", OfAll},
			{6 * time.Second, wrong, wrote, "pending", OfAll}, {2*time.Second + told, wrong, wrote, "drift", OfAll},
		}},
		"kube-proxy has heard of something, and does not say yet that it wrote": {0, time.Time{}, []look{
			{time.Second, right, old, "", OfAll}, {2 * time.Second, wrong, writes, "pending", OfAll}, {2*time.Second + again, wrong, writes, "pending", OfAll},
			{3 * time.Second, right, wrote, "", OfAll},
		}},
		"kube-proxy has heard of something, and never says that it wrote": {0, time.Time{}, []look{
			{time.Second, right, old, "", OfAll}, {2 * time.Second, wrong, writes, "pending", OfAll}, {2*time.Second + told, wrong, writes, "drift", OfAll},
		}},
		"kube-proxy wrote rules while the API server did not answer us": {0, time.Time{}, []look{
			{time.Second, right, old, "", OfAll}, {2 * time.Second, wrong, awayWrote, "pending", OfAll}, {time.Minute, wrong, awayWrote, "pending", OfAll},
			{time.Minute + time.Second, wrong, wrote, "pending", OfAll}, {time.Minute + 10*time.Second, wrong, wrote, "pending", OfAll}, {time.Minute + 20*time.Second, right, wrote, "", OfAll},
		}},
		"all rules gone, and with them the way to the API server": {0, time.Time{}, []look{
			{time.Second, right, old, "", OfAll}, {2 * time.Second, gone, awayYoung, "pending", OfAll}, {2*time.Second + restart, gone, awayYoung, "flushed", OfAll},
		}},
		"the rules of the Service kubernetes gone, and with them the way": {0, time.Time{}, []look{
			{time.Second, right, old, "", OfAll}, {2 * time.Second, vip, awayYoung, "pending", OfAll}, {2*time.Second + restart, vip, awayYoung, "drift", OfAll},
		}},
		"a new kube-proxy wrote them then": {0, time.Time{}, []look{
			{time.Second, right, old, "", OfAll}, {2 * time.Second, wrong, awayYoung, "pending", OfAll}, {time.Minute, wrong, awayYoung, "pending", OfAll},
		}},
		"somebody else changed them then": {0, time.Time{}, []look{
			{time.Second, right, old, "", OfAll}, {2 * time.Second, wrong, awayOld, "pending", OfAll}, {2*time.Second + again, wrong, awayOld, "drift", OfAll},
		}},
		"another kube-proxy begins, and takes the rules of the first away in steps": {0, time.Time{}, []look{
			{time.Second, right, old, "", OfAll}, {200 * time.Second, right, old, "", OfAll}, {201 * time.Second, unlinked, another, "pending", OfAll},
			{202 * time.Second, gone, another, "pending", OfAll}, {203 * time.Second, gone, another, "pending", OfAll}, {204 * time.Second, right, another, "", OfAll},
		}},
		"another kube-proxy takes the rules of the first away in steps, and writes none": {0, time.Time{}, []look{
			{time.Second, right, old, "", OfAll}, {200 * time.Second, right, old, "", OfAll}, {201 * time.Second, unlinked, another, "pending", OfAll},
			{202 * time.Second, gone, another, "pending", OfAll}, {202*time.Second + restart, gone, another, "flushed", OfAll},
		}},
		"somebody removes the rules in steps": {0, time.Time{}, []look{
			{time.Second, right, old, "", OfAll}, {200 * time.Second, right, old, "", OfAll}, {201 * time.Second, unlinked, old, "pending", OfAll},
			{201*time.Second + again/2, gone, old, "pending", OfAll}, {201*time.Second + 2*again, gone, old, "flushed", OfAll},
		}},
		"another kube-proxy begins": {0, time.Time{}, []look{
			{time.Second, right, old, "", OfAll}, {2 * time.Second, gone, young, "pending", OfAll}, {10 * time.Second, gone, young, "pending", OfAll}, {2*time.Second + restart, gone, young, "flushed", OfAll},
		}},
		"kube-proxy says nothing": {0, time.Time{}, []look{
			{time.Second, right, old, "", OfAll}, {2 * time.Second, wrong, silent, "pending", OfAll}, {10 * time.Second, wrong, silent, "pending", OfAll}, {2*time.Second + restart, wrong, silent, "drift", OfAll},
		}},
		"the API changed it, kube-proxy has not heard": {10 * time.Second, time.Time{}, []look{
			{time.Second, right, old, "", OfAll}, {11 * time.Second, wrong, old, "pending", OfAll}, {10*time.Second + behind - 1, wrong, old, "pending", OfAll}, {10*time.Second + behind, wrong, old, "drift", OfAll},
		}},
		"the API changed it, kube-proxy has heard": {10 * time.Second, time.Time{}, []look{
			{time.Second, right, old, "", OfAll}, {11 * time.Second, wrong, Sync{Known: true, Queued: at(10 * time.Second)}, "pending", OfAll},
			{10*time.Second + waiting - 1, wrong, Sync{Known: true, Queued: at(10 * time.Second)}, "pending", OfAll}, {10*time.Second + waiting, wrong, Sync{Known: true, Queued: at(10 * time.Second)}, "drift", OfAll},
		}},
		"the API changed it, kube-proxy wrote, and not that": {10 * time.Second, time.Time{}, []look{
			{time.Second, right, old, "", OfAll}, {11 * time.Second, wrong, old, "pending", OfAll}, {16 * time.Second, wrong, Sync{Known: true, Queued: at(10 * time.Second), Synced: at(14 * time.Second)}, "pending", OfAll}, {17 * time.Second, wrong, late, "pending", OfAll},
			{10*time.Second + waiting, wrong, late, "drift", OfAll},
		}},
		"the API changed it while a sync went on, which ends without it": {100 * time.Second, time.Time{}, []look{
			{99 * time.Second, right, old, "", OfAll}, {100*time.Second + 1, wrong, old, "pending", OfAll}, {111 * time.Second, wrong, slow, "pending", OfAll}, {121 * time.Second, wrong, slow, "pending", OfAll}, {123 * time.Second, right, slow, "", OfAll},
		}},
		"the only Service gets its first endpoint": {10 * time.Minute, time.Time{}, []look{
			{time.Second, nothing, old, "", OfAll}, {9 * time.Minute, nothing, old, "", OfAll}, {10*time.Minute + 1, gone, old, "pending", OfAll}, {10*time.Minute + time.Second, gone, old, "pending", OfAll},
			{10*time.Minute + behind - 1, gone, old, "pending", OfAll}, {10*time.Minute + behind, gone, old, "flushed", OfAll},
		}},
		"the only Service gets an endpoint again": {10 * time.Minute, time.Time{}, []look{
			{time.Second, right, old, "", OfAll}, {time.Minute, nothing, old, "", OfAll}, {9 * time.Minute, nothing, old, "", OfAll}, {10*time.Minute + 1, gone, old, "pending", OfAll},
			{10*time.Minute + 10*time.Second, gone, old, "pending", OfAll},
		}},
		"of several API servers that which answers us stops": {0, time.Time{}, []look{
			{time.Second, right, old, "", OfAll}, {2 * time.Second, vip, awayWrote, "pending", OfAll}, {10 * time.Second, vip, awayWrote, "pending", OfAll}, {60 * time.Second, vip, awayWrote, "pending", OfAll}, {61 * time.Second, right, wrote, "", OfAll},
		}},
		"the rules of the Service kubernetes gone, while kube-proxy writes others": {0, time.Time{}, []look{
			{time.Second, right, old, "", OfAll}, {2 * time.Second, vip, awayWrote, "pending", OfAll}, {2*time.Second + waiting - 1, vip, awayWrote, "pending", OfAll}, {2*time.Second + waiting, vip, awayWrote, "drift", OfAll},
		}},
		"wrong from the first look, and then changed": {10 * time.Second, time.Time{}, []look{
			{0, wrong, old, "unsure", OfAll}, {11 * time.Second, wrong, old, "unsure", OfAll}, {10*time.Second + behind, wrong, old, "drift", OfAll}, {20*time.Second + behind, right, old, "", OfAll},
		}},
		"what differs changes from look to look": {0, time.Time{}, []look{
			{time.Second, right, old, "", OfAll}, {2 * time.Second, wrong, wrote, "pending", OfAll}, {6 * time.Second, other, wrote, "pending", OfAll}, {10 * time.Second, wrong, wrote, "pending", OfAll},
			{2*time.Second + waiting - 1, other, wrote, "pending", OfAll}, {2*time.Second + waiting, wrong, wrote, "drift", OfAll},
		}},
		"the API changed it, and kube-proxy wrote what it heard of later": {10 * time.Second, time.Time{}, []look{
			{time.Second, right, old, "", OfAll}, {11 * time.Second, wrong, old, "pending", OfAll}, {30 * time.Second, wrong, later, "pending", OfAll},
			{10*time.Second + waiting - 1, wrong, later, "pending", OfAll}, {10*time.Second + waiting, wrong, later, "drift", OfAll},
		}},
		"the API changed it, and again, which we have not heard and kube-proxy wrote": {10 * time.Second, time.Time{}, []look{
			{time.Second, right, old, "", OfAll}, {10 * time.Second, right, old, "", OfAll}, {20 * time.Second, wrong, later, "pending", OfAll}, {20*time.Second + again, wrong, later, "pending", OfAll},
			{21 * time.Second, right, later, "", OfAll},
		}},
		"the API changed it, and kube-proxy wrote it late, and something else": {10 * time.Second, time.Time{}, []look{
			{10 * time.Second, right, old, "", OfAll}, {16 * time.Second, wrong, late, "pending", OfAll}, {16*time.Second + again, wrong, late, "pending", OfAll}, {16*time.Second + told, wrong, late, "drift", OfAll},
		}},
		"the API changed it, and then what follows on it, of which kube-proxy heard first": {10 * time.Second, time.Time{}, []look{
			{9 * time.Second, right, old, "", OfAll}, {10*time.Second + 1, wrong, old, "pending", OfAll}, {16 * time.Second, other, late, "pending", OfAll}, {16*time.Second + again, other, late, "pending", OfAll},
			{17 * time.Second, right, late, "", OfAll},
		}},
		"the API changed it, and then what follows on it, which kube-proxy wrote wrongly": {10 * time.Second, time.Time{}, []look{
			{10 * time.Second, right, old, "", OfAll}, {10*time.Second + 1, wrong, old, "pending", OfAll}, {16 * time.Second, other, late, "pending", OfAll}, {16*time.Second + told, other, late, "drift", OfAll},
		}},
		"the API changed it, kube-proxy is stopped": {10 * time.Second, time.Time{}, []look{
			{11 * time.Second, wrong, Sync{Halted: true}, "unsure", OfAll}, {12 * time.Second, wrong, Sync{Halted: true}, "drift", OfAll},
		}},
		"the API changed it, kube-proxy is gone": {10 * time.Second, time.Time{}, []look{
			{11 * time.Second, wrong, Sync{Gone: at(9 * time.Second)}, "unsure", OfAll}, {9*time.Second + restart - 1, wrong, Sync{Gone: at(9 * time.Second)}, "unsure", OfAll},
			{9*time.Second + restart, wrong, Sync{Gone: at(9 * time.Second)}, "drift", OfAll},
		}},
		"the audit begins anew after the API changed it, and kube-proxy wrote between": {-time.Minute, time.Time{}, []look{
			{0, wrong, old, "unsure", OfAll}, {time.Second, wrong, Sync{Known: true, Synced: at(-30 * time.Second)}, "unsure", OfAll}, {20 * time.Second, wrong, Sync{Synced: at(15 * time.Second)}, "unsure", OfAll},
			{20 * time.Second, wrong, Sync{Known: true, Synced: at(15 * time.Second)}, "unsure", OfAll},
		}},
		"the API changed it while only others were looked at": {2 * time.Second, time.Time{}, []look{
			{time.Second, right, old, "", OfAll}, {2*time.Second + 1, right, old, "", OfSuspects}, {3 * time.Second, wrong, old, "pending", OfAll}, {4 * time.Second, wrong, old, "pending", OfAll},
		}},
		"a rule that is left of a Service that went": {2 * time.Second, time.Time{}, []look{
			{time.Second, right, old, "", OfAll}, {3 * time.Second, left, old, "pending", OfAll}, {4 * time.Second, left, old, "pending", OfAll},
			{2*time.Second + waiting, left, Sync{Known: true, Queued: at(2 * time.Second), Synced: at(3 * time.Second)}, "drift", OfAll},
		}},
		"a rule for nobody that somebody adds": {0, time.Time{}, []look{{time.Second, right, old, "", OfAll}, {2 * time.Second, left, old, "pending", OfAll}, {3 * time.Second, left, old, "drift", OfAll}}},
		"the API changed it and went away": {2 * time.Second, time.Time{}, []look{
			{time.Second, right, old, "", OfAll}, {3 * time.Second, wrong, old, "pending", OfAll}, {time.Hour, wrong, Sync{Known: true, Away: true}, "pending", OfAll},
			{time.Hour + time.Second, wrong, old, "pending", OfAll}, {time.Hour + behind, wrong, old, "drift", OfAll},
		}},
		"missing from the first look, and wanted for long": {0, at(-time.Hour), []look{
			{0, wrong, wrote, "unsure", OfAll}, {told - 1, wrong, wrote, "unsure", OfAll}, {told, wrong, wrote, "drift", OfAll},
		}},
		"gone from the first look, and wanted for long": {0, at(-time.Hour), []look{
			{0, gone, wrote, "unsure", OfAll}, {told - 1, gone, wrote, "unsure", OfAll}, {told, gone, wrote, "flushed", OfAll},
		}},
		"missing from the first look, and just wanted": {0, at(-10 * time.Second), []look{
			{0, wrong, wrote, "unsure", OfAll}, {told, wrong, wrote, "unsure", OfAll}, {behind - 10*time.Second - 1, wrong, wrote, "unsure", OfAll}, {behind - 10*time.Second, wrong, wrote, "drift", OfAll},
		}},
		"missing from the first look, and kube-proxy has not written since it began": {0, at(-time.Hour), []look{
			{0, wrong, began, "unsure", OfAll}, {told, wrong, began, "unsure", OfAll}, {behind - 1, wrong, began, "unsure", OfAll},
		}},
		"missing from the first look, and kube-proxy has not written since it was wanted": {0, at(-30 * time.Minute), []look{
			{0, wrong, old, "unsure", OfAll}, {told, wrong, old, "unsure", OfAll}, {behind - 1, wrong, old, "unsure", OfAll},
		}},
		"missing from the first look, while the API server is away": {0, at(-time.Hour), []look{
			{0, wrong, awayWrote, "unsure", OfAll}, {told, wrong, awayWrote, "unsure", OfAll}, {told + time.Second, wrong, wrote, "unsure", OfAll},
		}},
		"another backend from the first look, and wanted for long": {0, at(-time.Hour), []look{
			{0, other, old, "unsure", OfAll}, {told, other, old, "unsure", OfAll}, {behind - 1, other, old, "unsure", OfAll}, {behind, other, old, "drift", OfAll},
		}},
		"wrong from the first look": {0, time.Time{}, []look{
			{0, wrong, old, "unsure", OfAll}, {time.Minute, wrong, old, "unsure", OfAll}, {behind, wrong, old, "drift", OfAll},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var j Judge
			for i, l := range tc.looks {
				changed := func(string) Change {
					c := Change{Written: tc.written}
					if tc.changed != 0 && l.after >= tc.changed {
						c.Heard = at(tc.changed)
					}
					return c
				}
				if got := judged(j.Look(l.result, l.extent, at(l.after), at(l.after), changed, l.sync)); got != l.want {
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
	when := func(string) Change { return Change{Heard: changed} }
	wrong := &Result{Wanted: 1, Sent: 1, Drifts: []Drift{{Service: "a/b", Kind: Stale, What: "x"}, {Service: "a/b", Kind: Unlinked, What: "y"}}}
	var j Judge
	j.Look(&Result{}, OfAll, now, now, when, Sync{})
	j.Look(wrong, OfAll, now.Add(time.Second), now.Add(time.Second), when, Sync{Known: true, Started: now.Add(-time.Hour), Synced: now.Add(-time.Hour)})
	got := j.Look(wrong, OfAll, now.Add(2*time.Second), now.Add(2*time.Second), when, Sync{Known: true, Started: now.Add(-time.Hour), Synced: now.Add(-time.Hour)})
	if !got.Since.Equal(now.Add(time.Second)) || len(got.Drifts) != 2 || got.Drifts[0].Kind != Unlinked {
		t.Errorf("%+v", got)
	}
	changed = now.Add(3 * time.Second)
	got = j.Look(wrong, OfAll, now.Add(4*time.Second), now.Add(4*time.Second), when, Sync{})
	if !got.Since.Equal(now.Add(time.Second)) || len(got.Drifts) != 2 || !got.Pending {
		t.Errorf("after the API changed it, and it is as it was: %+v", got)
	}
	less := &Result{Wanted: 1, Sent: 1, Drifts: []Drift{{Service: "a/b", Kind: Missing, What: "z"}, {Service: "a/b", Kind: Unlinked, What: "y"}}}
	got = j.Look(less, OfAll, now.Add(5*time.Second), now.Add(5*time.Second), when, Sync{})
	if len(got.Drifts) != 1 || got.Drifts[0].What != "y" || !got.Since.Equal(now.Add(time.Second)) {
		t.Errorf("when one of two went and another came: %+v", got)
	}
	got = j.Look(wrong, OfAll, now.Add(6*time.Second), now.Add(6*time.Second), when, Sync{})
	if len(got.Drifts) != 1 || got.Drifts[0].What != "y" {
		t.Errorf("when the one that went is back: %+v", got)
	}
	other := &Result{Wanted: 1, Sent: 1, Drifts: []Drift{{Service: "a/b", Kind: Missing, What: "z"}}}
	if got := j.Look(other, OfAll, now.Add(7*time.Second), now.Add(7*time.Second), when, Sync{}); len(got.Drifts) != 0 || !got.Pending || !got.Since.IsZero() {
		t.Errorf("when it differs in another way: %+v", got)
	}
}

// TestJudgeSome is of several Services, and of looks that take their time.
func TestJudgeSome(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(d time.Duration) time.Time { return start.Add(d) }
	old := Sync{Known: true, Started: at(-2 * time.Hour), Queued: at(-time.Hour), Synced: at(-time.Hour)}
	halted := Sync{Halted: true, Queued: at(1500 * time.Millisecond), Synced: at(1500 * time.Millisecond)}
	haltedAway := halted
	haltedAway.Away = true
	result := func(sent int, whats ...string) *Result { // "a/b x" is that a/b differs, and how
		r := &Result{Wanted: 3, Sent: sent}
		for _, w := range whats {
			service, what, _ := strings.Cut(w, " ")
			r.Drifts = append(r.Drifts, Drift{Service: service, Kind: Missing, What: what})
		}
		return r
	}
	right := result(3)
	type look struct {
		began, now time.Duration
		result     *Result
		sync       Sync
		changed    map[string]time.Duration
		want       string
	}
	const ms = time.Millisecond
	for name, looks := range map[string][]look{
		"all gone while the API changes one of them, and then the other": {
			{1000 * ms, 1000 * ms, right, old, nil, ""},
			{2000 * ms, 2000 * ms, result(0, "a/b x", "a/c x"), old, map[string]time.Duration{"a/b": 1500 * ms}, "pending"},
			{2400 * ms, 2400 * ms, result(0, "a/b x", "a/c x"), old, map[string]time.Duration{"a/b": 1500 * ms}, "flushed a/c since 2s"},
			{4000 * ms, 4000 * ms, result(0, "a/b x", "a/c x"), old, map[string]time.Duration{"a/b": 1500 * ms, "a/c": 3000 * ms}, "flushed a/c since 2s"},
		},
		"one after the other": {
			{1000 * ms, 1000 * ms, right, old, nil, ""}, {2000 * ms, 2000 * ms, result(2, "a/b x"), old, nil, "pending"},
			{5000 * ms, 5000 * ms, result(2, "a/b x", "a/c x"), old, nil, "a/b since 2s"}, {6000 * ms, 6000 * ms, result(2, "a/b x", "a/c x"), old, nil, "a/b a/c since 2s"},
			{7000 * ms, 7000 * ms, result(2, "a/c x"), old, nil, "a/c since 5s"},
		},
		"the API changes it while a look goes on": {
			{1000 * ms, 3000 * ms, right, old, nil, ""}, {4000 * ms, 4000 * ms, result(2, "a/b x"), old, map[string]time.Duration{"a/b": 2000 * ms}, "pending"},
			{5000 * ms, 5000 * ms, result(2, "a/b x"), old, map[string]time.Duration{"a/b": 2000 * ms}, "pending"},
		},
		"the API changes all while a look goes on": {
			{1000 * ms, 3000 * ms, right, old, nil, ""}, {4000 * ms, 4000 * ms, result(0, "a/b x"), old, map[string]time.Duration{"a/b": 2000 * ms}, "pending"},
			{5000 * ms, 5000 * ms, result(0, "a/b x"), old, map[string]time.Duration{"a/b": 2000 * ms}, "pending"},
		},
		"kube-proxy wrote, and is stopped": {
			{1000 * ms, 1000 * ms, right, old, nil, ""}, {2000 * ms, 2000 * ms, result(2, "a/b x"), halted, nil, "pending"}, {2400 * ms, 2400 * ms, result(2, "a/b x"), halted, nil, "a/b since 2s"},
		},
		"the API changed it, kube-proxy is stopped, and the API server is away": {
			{1000 * ms, 1000 * ms, right, old, nil, ""}, {2000 * ms, 2000 * ms, result(2, "a/b x"), haltedAway, map[string]time.Duration{"a/b": 1500 * ms}, "pending"},
			{60_000 * ms, 60_000 * ms, result(2, "a/b x"), haltedAway, map[string]time.Duration{"a/b": 1500 * ms}, "pending"},
		},
		"what comes with a change of the API counts later": {
			{1000 * ms, 1000 * ms, right, old, nil, ""}, {2000 * ms, 2000 * ms, result(2, "a/b x"), old, nil, "pending"}, {3000 * ms, 3000 * ms, result(2, "a/b x"), old, nil, "a/b since 2s"},
			{4000 * ms, 4000 * ms, result(2, "a/b x", "a/b y"), old, map[string]time.Duration{"a/b": 3500 * ms}, "a/b since 2s"},
			{3500*ms + behind, 3500*ms + behind, result(2, "a/b x", "a/b y"), old, map[string]time.Duration{"a/b": 3500 * ms}, "a/b a/b since 2s"},
			{9000*ms + behind, 9000*ms + behind, result(2, "a/b y"), old, map[string]time.Duration{"a/b": 3500 * ms}, "a/b since 4s"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var j Judge
			for i, l := range looks {
				got := j.Look(l.result, OfAll, at(l.began), at(l.now), func(name string) (c Change) {
					if d, ok := l.changed[name]; ok {
						c.Heard = at(d)
					}
					return c
				}, l.sync)
				var words []string
				if got.Flushed {
					words = append(words, "flushed")
				}
				for _, d := range got.Drifts {
					words = append(words, d.Service)
				}
				if !got.Since.IsZero() {
					words = append(words, "since", got.Since.Sub(start).String())
				} else if got.Pending {
					words = append(words, "pending")
				}
				if is := strings.Join(words, " "); is != l.want {
					t.Errorf("look %d: %q, want %q", i, is, l.want)
				}
			}
		})
	}
}

// TestJudgeNobody is that a rule for nobody is the same whatever it leads to.
func TestJudgeNobody(t *testing.T) {
	now := time.Now()
	never := func(string) Change { return Change{} }
	of := rules.Addressee{Dst: "\x0a\x60\x00\x01", Proto: TCP, Port: 80}
	sync := Sync{Known: true, Started: now.Add(-time.Hour), Synced: now.Add(-time.Hour)}
	var j Judge
	j.Look(&Result{Wanted: 1, Sent: 1}, OfAll, now, now, never, sync)
	for i := range 5 {
		at := now.Add(time.Duration(i+1) * time.Second)
		got := j.Look(&Result{Wanted: 1, Sent: 1, Drifts: []Drift{{Kind: Stale, What: fmt.Sprint("to ", i), Of: of}}}, OfAll, at, at, never, sync)
		if (len(got.Drifts) == 1) != (i > 0) {
			t.Errorf("look %d: %+v", i, got)
		}
	}
}

// TestSuspects is whether what differed can be looked at alone.
func TestSuspects(t *testing.T) {
	now := time.Now()
	never := func(string) Change { return Change{} }
	of := rules.Addressee{Dst: "\x0a\x60\x00\x01", Proto: TCP, Port: 80}
	for name, tc := range map[string]struct {
		drifts []Drift
		sent   int
		ok     bool
		nobody int
	}{
		"a Service":                      {[]Drift{{Service: "a/b", Kind: Stale, What: "x"}}, 1, true, 0},
		"a rule for nobody":              {[]Drift{{Service: "a/b", Kind: Stale, What: "x"}, {Kind: Stale, What: "y", Of: of}}, 1, true, 1},
		"something without an addressee": {[]Drift{{Kind: Missing, What: "KUBE-FORWARD"}}, 1, false, 0},
		"all rules":                      {[]Drift{{Service: "a/b", Kind: Missing, What: "x"}}, 0, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var j Judge
			j.Look(&Result{Wanted: 1, Sent: tc.sent, Drifts: tc.drifts}, OfAll, now, now, never, Sync{})
			services, nobodys, ok := j.Suspects()
			if ok != tc.ok || ok && (!services["a/b"] || len(services) != 1 || len(nobodys) != tc.nobody) {
				t.Errorf("%v %v %t", services, nobodys, ok)
			}
		})
	}
}

// TestAsks is of who is asked, and from when.
func TestAsks(t *testing.T) {
	now := time.Now()
	var j Judge
	wrong := &Result{Wanted: 2, Sent: 1, Drifts: []Drift{{Service: "a/b", Kind: Stale, What: "x"}}}
	never := func(string) Change { return Change{} }
	if got := j.Asks(wrong, now); got != (Asks{}) {
		t.Errorf("at once: %+v", got)
	}
	j.Look(wrong, OfAll, now, now, never, Sync{})
	for after, want := range map[time.Duration]Asks{again - 1: {}, again: {Proxy: true}, told - 1: {Proxy: true}, told: {Proxy: true, API: true}} {
		if got := j.Asks(wrong, now.Add(after)); got != want {
			t.Errorf("after %s: %+v, want %+v", after, got, want)
		}
	}
	if got := j.Asks(&Result{}, now.Add(time.Hour)); got != (Asks{}) {
		t.Errorf("of nothing: %+v", got)
	}
}
