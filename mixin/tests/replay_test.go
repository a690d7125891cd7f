package tests

import (
	"context"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/util/teststorage"
)

// interval is how often Prometheus scrapes and evaluates: kube-prometheus'
// default.
const interval = 30 * time.Second

var epoch = time.Unix(1_700_000_000, 0).UTC()

// theater is a Prometheus whose time the test moves.
type theater struct {
	storage *teststorage.TestStorage
	groups  []*rules.Group
	now     time.Time
	// living are the series whose end has not been marked.
	living map[string]bool
}

func newTheater(t testing.TB, files ...string) *theater {
	t.Helper()
	s := teststorage.New(t)
	engine := promqltest.NewTestEngineWithOpts(t, promql.EngineOpts{MaxSamples: 500_000_000, Timeout: 10 * time.Minute, LookbackDelta: 5 * time.Minute,
		NoStepSubqueryIntervalFn: func(int64) int64 { return interval.Milliseconds() }})
	m := rules.NewManager(&rules.ManagerOptions{
		QueryFunc: rules.EngineQueryFunc(engine, s), AppendableV2: s, Queryable: s, Context: t.Context(),
		NotifyFunc: func(context.Context, string, ...*rules.Alert) {}, Logger: promslog.NewNopLogger(), Parser: parser.NewParser(parser.Options{}),
	})
	groups, errs := m.LoadGroups(interval, labels.EmptyLabels(), "", nil, false, files...)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	th := &theater{storage: s, now: epoch, living: map[string]bool{}}
	for _, k := range slices.Sorted(maps.Keys(groups)) {
		th.groups = append(th.groups, groups[k])
		for _, r := range groups[k].AlertingRules() {
			r.SetRestored(true) // else it would not tell of itself in ALERTS
		}
	}
	return th
}

// scrape appends a step of a tape; a series that is gone gets its end marked.
func (th *theater) scrape(t testing.TB, tp *tape, step int) {
	t.Helper()
	a := th.storage.Appender(t.Context())
	for k, tr := range tp.series {
		v := tr.values[step]
		if v == absent {
			if !th.living[k] {
				continue
			}
			delete(th.living, k)
			v = staleNaN()
		} else {
			th.living[k] = true
		}
		if _, err := a.Append(0, tr.labels, th.now.UnixMilli(), v); err != nil {
			t.Fatalf("%s: %v", tr.labels, err)
		}
	}
	if err := a.Commit(); err != nil {
		t.Fatal(err)
	}
}

func (th *theater) evaluate(t testing.TB) {
	t.Helper()
	for _, g := range th.groups {
		g.Eval(t.Context(), th.now)
		for _, r := range g.Rules() {
			if err := r.LastError(); err != nil {
				t.Fatalf("%s at %s: %v", r.Name(), th.now.Sub(epoch), err)
			}
		}
	}
}

// firing are the labels of every alert that fires.
func (th *theater) firing() []labels.Labels {
	var out []labels.Labels
	for _, g := range th.groups {
		for _, r := range g.AlertingRules() {
			for _, a := range r.ActiveAlerts() {
				if a.State == rules.StateFiring {
					out = append(out, labels.NewBuilder(a.Labels).Set("alertname", r.Name()).Labels())
				}
			}
		}
	}
	return out
}

// run plays a tape to its end; each is called after each evaluation.
func (th *theater) run(t testing.TB, tp *tape, each func(step int)) {
	t.Helper()
	for step := 0; step < tp.steps; step += int(interval / tp.step) {
		th.now = epoch.Add(time.Duration(step) * tp.step)
		th.scrape(t, tp, step)
		th.evaluate(t)
		each(step)
	}
}

func ruleFiles(more ...string) []string {
	return append([]string{filepath.Join(renderedDir, "alerts.yaml"), filepath.Join(renderedDir, "rules.yaml")}, more...)
}

func staleNaN() float64 { return math.Float64frombits(value.StaleNaN) }
