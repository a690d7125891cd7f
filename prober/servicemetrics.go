package prober

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ServiceMetrics counts rounds. Every family has the labels node
// and vantage.
type ServiceMetrics struct {
	success  *prometheus.GaugeVec
	attempts *prometheus.CounterVec
	duration *prometheus.HistogramVec
	late     prometheus.Histogram
	last     *prometheus.GaugeVec

	mu    sync.Mutex
	known map[TargetKey]bool // whose counters have been begun
}

// NewServiceMetrics makes those of a node's probes from the host's network or
// from the pods'.
func NewServiceMetrics(node, vantage string) *ServiceMetrics {
	constant := prometheus.Labels{"node": node, "vantage": vantage}
	target := []string{"service", "port", "module", "ip_family"}
	with := func(more ...string) []string { return append(append([]string{}, target...), more...) }
	buckets := []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 2.5}
	return &ServiceMetrics{
		known: map[TargetKey]bool{},
		success: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "kproxy_probe_success", ConstLabels: constant,
			Help: "1 if the newest attempt at a Service by this path was answered, 0 if not; of endpoints, if all that were asked did."}, with("path")),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kproxy_probes_total", ConstLabels: constant,
			Help: "Attempts at a Service, each over a new connection, by what became of them."}, with("path", "result")),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "kproxy_probe_duration_seconds", ConstLabels: constant, Buckets: buckets,
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100,
			Help: "How long each phase of an attempt took that was answered."}, with("path", "phase")),
		late: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "kproxy_probe_delay_seconds", ConstLabels: constant, Buckets: buckets,
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100,
			Help: "How much later than planned attempts began: the prober's own lateness."}),
		last: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "kproxy_probe_last_success_timestamp_seconds", ConstLabels: constant,
			Help: "When a Service last answered by this path, in seconds since the epoch."}, with("path")),
	}
}

func (m *ServiceMetrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.success, m.attempts, m.duration, m.late, m.last}
}

// Describe implements prometheus.Collector.
func (m *ServiceMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.all() {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (m *ServiceMetrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.all() {
		c.Collect(ch)
	}
}

// Note counts a round.
func (m *ServiceMetrics) Note(r *Round) {
	k := r.Target.Key()
	m.begin(k, r.Target)
	m.late.Observe(max(0, r.Late.Seconds()))
	well := map[Path]bool{}
	for i := range r.Attempts {
		a := &r.Attempts[i]
		path := string(a.Path)
		m.attempts.WithLabelValues(k.Labels(path, string(a.Reason))...).Inc()
		if before, asked := well[a.Path]; !asked || before {
			well[a.Path] = a.OK()
		}
		if !a.OK() {
			continue
		}
		for _, p := range a.Took {
			m.duration.WithLabelValues(k.Labels(path, string(p.Phase))...).Observe(p.Took.Seconds())
		}
		m.last.WithLabelValues(k.Labels(path)...).Set(float64(time.Now().UnixMilli()) / 1000)
	}
	for path, ok := range well {
		value := 0.0
		if ok {
			value = 1
		}
		m.success.WithLabelValues(k.Labels(string(path))...).Set(value)
	}
}

// begin lets a target's counters start at 0.
func (m *ServiceMetrics) begin(k TargetKey, t *ServiceTarget) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known[k] {
		return
	}
	m.known[k] = true
	for _, p := range []Path{PathVIP, PathEndpoint, PathNodePort} {
		if p == PathNodePort && !t.NodePort.IsValid() {
			continue
		}
		for _, reason := range Reasons {
			m.attempts.WithLabelValues(k.Labels(string(p), string(reason))...)
		}
	}
}

// Keep forgets every target but these.
func (m *ServiceMetrics) Keep(now map[TargetKey]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k := range m.known {
		if now[k] {
			continue
		}
		delete(m.known, k)
		match := prometheus.Labels{}
		for i, name := range []string{"service", "port", "module", "ip_family"} {
			match[name] = k.Labels()[i]
		}
		for _, v := range []interface{ DeletePartialMatch(prometheus.Labels) int }{m.success, m.attempts, m.duration, m.last} {
			v.DeletePartialMatch(match)
		}
	}
}
