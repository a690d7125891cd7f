package matrix

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/lab/bench"
	"github.com/kproxy-exporter/kproxy-exporter/lab/exporter"
	"github.com/kproxy-exporter/kproxy-exporter/lab/fault"
)

// canaryInterval is how often the canary is moved here.
const canaryInterval = 10 * time.Second

var bothNodes = []string{"n1", "n2"}

// walkCanary lets the cluster role move the canary, compares what the nodes
// measure with what kube-proxy says of the same changes, and takes kube-proxy
// away, once stopped and once for good.
func walkCanary(t *testing.T, w *world) {
	ctx := t.Context()
	if err := exporter.InstallCanary(ctx, w.Cluster, w.root, canaryInterval); err != nil {
		t.Fatal(err)
	}
	if !t.Run("canary", func(t *testing.T) { measureCanary(t, w) }) {
		return // what follows would say the same
	}
	t.Run("canary and kube-proxy stopped", func(t *testing.T) { stoppedCanary(t, w) })
	t.Run("canary without kube-proxy", func(t *testing.T) { abandonedCanary(t, w) })
}

// followed wants that both nodes have measured more often than before, and
// nobody anything wrong.
func followed(before state, more uint64) func(state) string {
	return func(s state) string {
		for _, n := range bothNodes {
			if got := s.latencies[n].count - before.latencies[n].count; got < more {
				return fmt.Sprintf("%s has measured %d times, want %d", n, got, more)
			}
			if behind, known := s.behind[n]; !known || behind > canaryInterval.Seconds()/2 {
				return fmt.Sprintf("%s is behind for %gs (known: %v)", n, behind, known)
			}
		}
		return s.notSilent(2)
	}
}

func measureCanary(t *testing.T, w *world) {
	ctx := t.Context()
	if _, err := w.await(ctx, time.Minute, followed(state{}, 1)); err != nil {
		t.Fatalf("%v\n%s", err, w.describe(ctx))
	}
	first, err := w.scrape(ctx)
	if err != nil {
		t.Fatal(err)
	}
	theirs := map[string]latency{}
	for _, n := range bothNodes {
		theirs[n] = w.programming(t, n)
	}
	writes, began := w.sliceWrites(t), time.Now()
	const turns = 4
	if _, err := w.await(ctx, 2*turns*canaryInterval, followed(first, turns)); err != nil {
		t.Fatalf("%v\n%s", err, w.describe(ctx))
	}
	if got, most := w.sliceWrites(t)-writes, time.Since(began).Seconds()/canaryInterval.Seconds()+1; got < turns-1 || got > most { // one may have come between two looks
		t.Errorf("%g writes of EndpointSlices in %s, want one every %s", got, time.Since(began), canaryInterval)
	} else {
		t.Logf("%g writes of EndpointSlices in %.1fs, by the API server's count", got, time.Since(began).Seconds())
	}
	last, err := w.scrape(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range bothNodes {
		ours := last.latencies[n].less(first.latencies[n])
		its := w.programming(t, n).less(theirs[n])
		t.Logf("%s %s: from the API to the VIP %.3fs on average of %d; kube-proxy says %.3fs of %d, to the end of its sync", w.Mode, n, ours.mean(), ours.count, its.mean(), its.count)
		if ours.mean() <= 0 || ours.mean() > 5 {
			t.Errorf("%s: %gs", n, ours.mean())
		}
		// A rule counts before its sync ends; asking takes up to two gaps of 25 ms, and
		// more on a busy machine.
		if its.count == 0 || ours.mean() > its.mean()+1 {
			t.Errorf("%s: kube-proxy says %gs of %d, the VIP %gs", n, its.mean(), its.count, ours.mean())
		}
	}
}

func (l latency) less(o latency) latency { return latency{l.count - o.count, l.sum - o.sum} }

func (l latency) mean() float64 { return l.sum / float64(max(1, l.count)) }

// programming is kube-proxy's own word on how long changes take until they are
// programmed.
func (w *world) programming(t *testing.T, node string) latency {
	t.Helper()
	const name = "kubeproxy_network_programming_duration_seconds"
	count := w.sum(t, node, "http://127.0.0.1:10249/metrics", name+"_count")
	return latency{uint64(count), w.sum(t, node, "http://127.0.0.1:10249/metrics", name+"_sum")}
}

// sliceWrites is how often EndpointSlices were changed.
func (w *world) sliceWrites(t *testing.T) float64 {
	t.Helper()
	text, err := w.Kubectl(t.Context(), "", "get", "--raw", "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	writes := 0.0
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "apiserver_request_total{") && strings.Contains(line, `resource="endpointslices"`) &&
			(strings.Contains(line, `verb="PUT"`) || strings.Contains(line, `verb="PATCH"`) || strings.Contains(line, `verb="POST"`)) {
			var n float64
			if _, err := fmt.Sscan(line[strings.LastIndexByte(line, ' ')+1:], &n); err != nil {
				t.Fatal(err)
			}
			writes += n
		}
	}
	return writes
}

// sum adds up what a page, asked on a node, says on lines that begin so.
func (w *world) sum(t *testing.T, node, url, prefix string) float64 {
	t.Helper()
	m, err := w.Node(node)
	if err != nil {
		t.Fatal(err)
	}
	out, err := m.Run("/opt/lab/kproxy-lab", "scrape", "--prefix="+prefix, url)
	if err != nil {
		t.Fatal(err)
	}
	var s bench.Scraped
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatal(err)
	}
	return s.Sum
}

// stoppedCanary stops kube-proxy on one node by a signal.
func stoppedCanary(t *testing.T, w *world) {
	ctx := t.Context()
	f, err := fault.Find("process-stopped")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Inject(ctx, w.Cluster, node); err != nil {
		t.Fatal(err)
	}
	highest := 0.0
	took, err := w.await(ctx, time.Minute, func(s state) string {
		highest = max(highest, s.behind["n2"])
		if s.behind[node] < 2*canaryInterval.Seconds() || s.primary[node] != "rules_stale/sync_stuck" {
			return fmt.Sprintf("%s is behind for %gs, called %s", node, s.behind[node], s.primary[node])
		}
		return ""
	})
	if err != nil {
		t.Errorf("%v\n%s", err, w.describe(ctx))
	}
	if highest > canaryInterval.Seconds()/2 {
		t.Errorf("n2 is behind for %gs", highest)
	}
	t.Logf("%s is behind for two turns after %.1fs; n2 never for more than %.2fs", node, took.Seconds(), highest)
	if err := f.Heal(context.WithoutCancel(ctx), w.Cluster, node); err != nil {
		t.Fatal(err)
	}
	if _, err := w.await(ctx, healWithin, followed(state{}, 1)); err != nil {
		t.Errorf("healed: %v\n%s", err, w.describe(ctx))
	}
}

// abandonedCanary takes kube-proxy away and leaves its rules: there is nobody to
// ask, and only the canary can tell that they grow old.
func abandonedCanary(t *testing.T, w *world) {
	ctx := t.Context()
	if _, err := w.Kubectl(ctx, "", "-n", "kube-system", "delete", "daemonset", "kube-proxy", "--wait"); err != nil {
		t.Fatal(err)
	}
	wrong := ""
	took, err := w.await(ctx, 3*time.Minute, func(s state) string {
		for n, causes := range s.active {
			if strings.Join(causes, " ") != "rules_stale" {
				wrong = fmt.Sprintf("%s was called %v", n, causes)
			}
		}
		for _, n := range bothNodes {
			if s.primary[n] != "rules_stale/watch_stale" {
				return fmt.Sprintf("%s is called %s", n, s.primary[n])
			}
		}
		return ""
	})
	if err != nil || wrong != "" {
		t.Errorf("%v %s\n%s", err, wrong, w.describe(ctx))
	}
	t.Logf("named on both nodes after %.1fs", took.Seconds())
	if err := w.InstallKubeProxy(context.WithoutCancel(ctx)); err != nil {
		t.Fatal(err)
	}
	if err := w.WaitReady(ctx, time.Minute); err != nil {
		t.Fatal(err)
	}
	if _, err := w.await(ctx, healWithin, followed(state{}, 1)); err != nil {
		t.Errorf("healed: %v\n%s", err, w.describe(ctx))
	}
}
