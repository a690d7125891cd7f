package collector

import (
	"io"
	"slices"
	"strings"
	"time"

	"github.com/go-kit/log/level"

	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
)

// The families, in the order in which they are written.
var (
	cacheSynced = family{"kproxy_cache_synced",
		"1 once the source has been read completely, 0 before.",
		[]string{"reader"}}
	causeActive = family{"kproxy_cause_active",
		"1 if this cause keeps kube-proxy on the node from its job, 0 if it does not. No sample while unknown.",
		[]string{"cause", "node"}}
	causeInfo = family{"kproxy_cause_info",
		"1 for each detail of a cause that is active.",
		[]string{"cause", "detail", "node"}}
	causeStart = family{"kproxy_cause_start_timestamp_seconds",
		"Since when a cause has been active, in seconds since the epoch.",
		[]string{"cause", "node"}}
	expectedFamily = family{"kproxy_expected",
		"1 if kube-proxy should run on the node, 0 if it is absent by design; the reason says why. No sample if neither kube-proxy nor a program that replaces it was found.",
		[]string{"node", "reason"}}
	healthyFamily = family{"kproxy_healthy",
		"1 if kube-proxy does its job on the node as far as the API shows, 0 if not. No sample while unknown.",
		[]string{"node"}}
	primaryCause = family{"kproxy_primary_cause",
		"1 for the highest-ranked active cause of the node; cause=\"none\" if kube-proxy is healthy there.",
		[]string{"cause", "detail", "node"}}
	readerDuration = family{"kproxy_reader_duration_seconds",
		"How long the source took to answer the last request.",
		[]string{"reader"}}
	readerLastSuccess = family{"kproxy_reader_last_success_timestamp_seconds",
		"When the source last answered, in seconds since the epoch; 0 if it never did.",
		[]string{"reader"}}
	readerSuccess = family{"kproxy_reader_success",
		"1 if the source could be read at the last try, 0 if not.",
		[]string{"reader"}}
)

// WriteMetrics judges every node now and writes what was found, and how the
// sources answer, in Prometheus' text format.
func (c *Cluster) WriteMetrics(w io.Writer) error {
	now := time.Now()
	verdicts := c.judge(now)
	e := newExposition(w)
	contacts := c.contacts(now)
	writeSynced(e, contacts)
	writeVerdicts(e, verdicts)
	writeReaders(e, contacts)
	if c.mover != nil {
		c.mover.write(e)
	}
	return e.end()
}

// judge judges every node.
func (c *Cluster) judge(now time.Time) []verdict {
	var verdicts []verdict
	var j cause.Judgement
	notFound := false
	for s := range c.snapshots(now) {
		notFound = notFound || s.NotFound != ""
		j.Judge(s)
		verdicts = append(verdicts, newVerdict(s, &j, c.history))
	}
	c.history.judged(now, verdicts)
	if c.notFound.Swap(notFound) != notFound {
		if notFound {
			level.Warn(c.cfg.Logger).Log("msg", "kube-proxy not found", "namespace", c.cfg.Namespace, "selectors", strings.Join(c.cfg.Selectors, " or "))
		} else {
			level.Info(c.cfg.Logger).Log("msg", "kube-proxy found", "namespace", c.cfg.Namespace)
		}
	}
	return verdicts
}

// verdict is what the metrics say of a node, in little room: a large cluster
// has thousands.
type verdict struct {
	node     string
	expected *cause.Expected
	healthy  cause.State
	// none says that kube-proxy is well and that no cause is pending.
	none bool
	// primary is the first of active, -1 if there is none.
	primary int8
	// states are those of cause.All.
	states []int8
	active []activeCause
}

// activeCause is one that is active.
type activeCause struct {
	index    int // in cause.All
	since    time.Time
	findings []cause.Finding
}

func newVerdict(s *cause.Snapshot, j *cause.Judgement, h *history) verdict {
	v := verdict{
		node: s.Name, expected: s.Expected, healthy: j.Healthy, primary: int8(j.Primary),
		none: j.Healthy == cause.Active && !j.Pending, states: make([]int8, len(j.Verdicts)),
	}
	since := h.note(s.Name, j.Verdicts, s.Now)
	for i, one := range j.Verdicts {
		v.states[i] = int8(one.State)
		if one.State == cause.Active {
			v.active = append(v.active, activeCause{i, since[i], one.Findings})
		}
	}
	return v
}

func writeVerdicts(e *exposition, verdicts []verdict) {
	e.begin(&causeActive)
	for i := range verdicts {
		v := &verdicts[i]
		for k, state := range v.states {
			if cause.State(state) != cause.Unknown {
				e.sample(number(cause.State(state) == cause.Active), cause.All[k].Name, v.node)
			}
		}
	}
	e.begin(&causeInfo)
	eachActive(verdicts, func(v *verdict, a *activeCause) {
		for _, f := range a.findings {
			e.sample(1, cause.All[a.index].Name, f.Detail, v.node)
		}
	})
	e.begin(&causeStart)
	eachActive(verdicts, func(v *verdict, a *activeCause) { e.sample(seconds(a.since), cause.All[a.index].Name, v.node) })
	e.begin(&expectedFamily)
	for i := range verdicts {
		if v := &verdicts[i]; v.expected != nil {
			e.sample(number(v.expected.Yes), v.node, v.expected.Reason)
		}
	}
	e.begin(&healthyFamily)
	for i := range verdicts {
		if v := &verdicts[i]; v.healthy != cause.Unknown {
			e.sample(number(v.healthy == cause.Active), v.node)
		}
	}
	e.begin(&primaryCause)
	for i := range verdicts {
		if v := &verdicts[i]; v.primary < 0 && v.none {
			e.sample(1, "none", "", v.node)
		}
	}
	eachActive(verdicts, func(v *verdict, a *activeCause) {
		if a.index == int(v.primary) {
			e.sample(1, cause.All[a.index].Name, a.findings[0].Detail, v.node)
		}
	})
}

func eachActive(verdicts []verdict, do func(*verdict, *activeCause)) {
	for i := range verdicts {
		for k := range verdicts[i].active {
			do(&verdicts[i], &verdicts[i].active[k])
		}
	}
}

// readerState is how a source answers.
type readerState struct {
	name string
	contactState
	// idle says that it has had nothing to ask for: the log reader, while all is well.
	idle bool
}

func (c *Cluster) contacts(now time.Time) []readerState {
	var out []readerState
	for _, r := range c.sources.readers {
		out = append(out, readerState{name: r.contact.reader, contactState: r.contact.state(now, c.cfg.StaleAfter)})
	}
	for _, k := range []*contact{c.version.contact, c.logs.contact} {
		s := k.state(now, c.cfg.StaleAfter)
		out = append(out, readerState{name: k.reader, contactState: s, idle: k == c.logs.contact && s.lastOK.IsZero() && !s.failed})
	}
	if c.mover != nil {
		s := c.mover.contact.state(now, c.cfg.StaleAfter)
		out = append(out, readerState{name: c.mover.contact.reader, contactState: s, idle: s.lastOK.IsZero() && !s.failed})
	}
	return out
}

func writeSynced(e *exposition, readers []readerState) {
	e.begin(&cacheSynced)
	for _, r := range readers {
		if r.name != "logs" && r.name != "canary" { // they read what they need, never all
			e.sample(number(r.synced), r.name)
		}
	}
}

// writeReaders writes how sources answer; before the reader stand the labels'
// values that all of the role's families have: none, or the node.
func writeReaders(e *exposition, readers []readerState, before ...string) {
	for _, f := range []struct {
		family family
		value  func(readerState) float64
	}{
		{readerDuration, func(r readerState) float64 { return r.duration.Seconds() }},
		{readerLastSuccess, func(r readerState) float64 { return seconds(r.lastOK) }},
		{readerSuccess, func(r readerState) float64 { return number(r.ok) }},
	} {
		if len(before) > 0 {
			f.family.labels = append([]string{"node"}, f.family.labels...)
		}
		e.begin(&f.family)
		for _, r := range readers {
			if !r.idle {
				e.sample(f.value(r), append(slices.Clone(before), r.name)...)
			}
		}
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// seconds is a time since the epoch, 0 if there is none.
func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
