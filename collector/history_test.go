package collector

import (
	"bytes"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"

	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
)

// TestHistoryLogs is that what begins, changes and ends is logged once, with what proves it.
func TestHistoryLogs(t *testing.T) {
	var out bytes.Buffer
	h := newHistory(log.NewLogfmtLogger(&out))
	verdicts := func(state cause.State, details ...string) []cause.Verdict {
		all := make([]cause.Verdict, len(cause.All))
		all[0].State = state
		for _, d := range details {
			all[0].Findings = append(all[0].Findings, cause.Finding{Detail: d, Evidence: []string{"one", d}})
		}
		return all
	}
	now := time.Now()
	for i, v := range [][]cause.Verdict{
		verdicts(cause.Inactive), verdicts(cause.Active, "a"), verdicts(cause.Active, "a"), verdicts(cause.Unknown), verdicts(cause.Active, "a"),
		verdicts(cause.Active, "b", "a"), verdicts(cause.Active, "a", "b"), verdicts(cause.Inactive), verdicts(cause.Inactive),
	} {
		h.note("n1", v, now.Add(time.Duration(i)*time.Second))
	}
	is := " node=n1 cause=" + cause.All[0].Name
	want := `level=warn msg="cause began"` + is + ` detail=a evidence="one; a"
level=warn msg="cause changed"` + is + ` detail=b evidence="one; b"
level=warn msg="cause changed"` + is + ` detail=a evidence="one; a"
level=info msg="cause ended"` + is + ` after=6s
`
	if out.String() != want {
		t.Errorf("%s\nwant\n%s", &out, want)
	}
}

// TestHistoryUnasked is that nodes are judged where nobody scrapes, and only there.
func TestHistoryUnasked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		h := newHistory(log.NewNopLogger())
		var at []time.Duration
		go h.watch(t.Context(), func(now time.Time) {
			at = append(at, now.Sub(began))
			panic("it goes on")
		})
		for range 10 { // as Prometheus does
			time.Sleep(15 * time.Second)
			h.judged(time.Now())
		}
		synctest.Wait()
		if len(at) > 0 {
			t.Errorf("judged after %s, although it was just asked for", at)
		}
		time.Sleep(100 * time.Second)
		synctest.Wait()
		if want := []time.Duration{180 * time.Second, 210 * time.Second, 240 * time.Second}; !slices.Equal(at, want) {
			t.Errorf("judged after %s, want %s", at, want)
		}
	})
}
