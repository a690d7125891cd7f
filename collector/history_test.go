package collector

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"

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

// TestHistoryAtOnce is of judgements that are made at once: the one that began last counts.
func TestHistoryAtOnce(t *testing.T) {
	var out bytes.Buffer
	h := newHistory(log.NewLogfmtLogger(&out))
	active := make([]cause.Verdict, len(cause.All))
	active[0] = cause.Verdict{State: cause.Active, Findings: []cause.Finding{{Detail: "a"}}}
	inactive := make([]cause.Verdict, len(cause.All))
	inactive[0].State = cause.Inactive
	began := time.Now()
	h.note("n1", active, began)
	h.note("n1", inactive, began.Add(-time.Second))
	if since := h.note("n1", active, began.Add(-time.Second)); !since[0].Equal(began) {
		t.Errorf("active since %s, want %s", since[0], began)
	}
	h.note("n1", inactive, began.Add(2*time.Second))
	if since := h.note("n1", active, began.Add(time.Second)); !since[0].Equal(began.Add(time.Second)) {
		t.Errorf("active since %s, want when it was judged", since[0])
	}
	if begun, ended := strings.Count(out.String(), "cause began"), strings.Count(out.String(), "cause ended"); begun != 1 || ended != 1 || !strings.Contains(out.String(), "after=2s") {
		t.Errorf("began %d times and ended %d times:\n%s", begun, ended, &out)
	}
	h.note("gone", active, began) // judged while it went
	h.judged(began.Add(3*time.Second), []verdict{{node: "n1"}})
	if len(h.known) != 0 || len(h.at) != 1 {
		t.Errorf("left behind: %v %v", h.known, h.at)
	}
}

// TestHistoryUnasked is that nodes are judged where nobody scrapes, and only there.
func TestHistoryUnasked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		h := newHistory(log.NewNopLogger())
		var mu sync.Mutex
		var at []time.Duration
		judged := func() []time.Duration {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			return at
		}
		go h.watch(t.Context(), func(now time.Time) {
			mu.Lock()
			at = append(at, now.Sub(began))
			mu.Unlock()
			panic("it goes on")
		})
		for range 10 { // as Prometheus does
			time.Sleep(time.Minute)
			h.judged(time.Now(), nil)
		}
		if all := judged(); len(all) > 0 {
			t.Errorf("judged after %s, although it was just asked for", all)
		}
		time.Sleep(3*unasked + time.Second)
		if all, want := judged(), []time.Duration{10*time.Minute + unasked, 10*time.Minute + 2*unasked, 10*time.Minute + 3*unasked}; !slices.Equal(all, want) {
			t.Errorf("judged after %s, want %s", all, want)
		}
	})
}

// TestRolesAreJudgedUnasked is that both roles judge where nobody scrapes, and that a
// scrape is a judgement.
func TestRolesAreJudgedUnasked(t *testing.T) {
	check := func(role string, h *history, scrape func(io.Writer) error) {
		all := func() time.Time {
			synctest.Wait()
			h.mu.Lock()
			defer h.mu.Unlock()
			return h.all
		}
		before := all()
		time.Sleep(2*unasked + time.Second)
		if at := all(); at.Sub(before) < unasked {
			t.Errorf("%s: judged after %s", role, at.Sub(before))
		}
		if err := scrape(io.Discard); err != nil || !all().Equal(time.Now()) {
			t.Errorf("%s: scraped %s after it was judged, %v", role, time.Since(all()), err)
		}
	}
	watching(t, []runtime.Object{node("n1"), pod("n1")}, func(c *Cluster, _ *fake.Clientset) { check("cluster", c.history, c.WriteMetrics) })
	synctest.Test(t, func(t *testing.T) {
		n := newTestNode(t, t.TempDir())
		n.readers = nil // what they read is of no matter here
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { n.Run(ctx); close(done) }()
		check("node", n.history, n.WriteMetrics)
		cancel()
		<-done
	})
}
