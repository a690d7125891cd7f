package collector

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
)

var (
	causeActiveDesc = prometheus.NewDesc("kproxy_cause_active",
		"1 if this cause keeps kube-proxy on the node from its job, 0 if it does not. No sample while unknown.",
		[]string{"node", "cause"}, nil)
	causeInfoDesc = prometheus.NewDesc("kproxy_cause_info",
		"1 for each detail of a cause that is active.",
		[]string{"node", "cause", "detail"}, nil)
	causeStartDesc = prometheus.NewDesc("kproxy_cause_start_timestamp_seconds",
		"Since when a cause has been active, in seconds since the epoch.",
		[]string{"node", "cause"}, nil)
	primaryCauseDesc = prometheus.NewDesc("kproxy_primary_cause",
		"1 for the highest-ranked active cause of the node; cause=\"none\" if kube-proxy is healthy there.",
		[]string{"node", "cause", "detail"}, nil)
	expectedDesc = prometheus.NewDesc("kproxy_expected",
		"1 if kube-proxy should run on the node, 0 if it is absent by design; the reason says why.",
		[]string{"node", "reason"}, nil)
	healthyDesc = prometheus.NewDesc("kproxy_healthy",
		"1 if kube-proxy does its job on the node as far as the API shows, 0 if not. No sample while unknown.",
		[]string{"node"}, nil)
	readerSuccessDesc = prometheus.NewDesc("kproxy_reader_success",
		"1 if the source could be read at the last try, 0 if not.",
		[]string{"reader"}, nil)
	readerLastSuccessDesc = prometheus.NewDesc("kproxy_reader_last_success_timestamp_seconds",
		"When the source last answered, in seconds since the epoch; 0 if it never did.",
		[]string{"reader"}, nil)
	readerDurationDesc = prometheus.NewDesc("kproxy_reader_duration_seconds",
		"How long the source took to answer the last request.",
		[]string{"reader"}, nil)
	cacheSyncedDesc = prometheus.NewDesc("kproxy_cache_synced",
		"1 once the source has been read completely, 0 before.",
		[]string{"reader"}, nil)
)

// Describe implements prometheus.Collector.
func (c *Cluster) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		causeActiveDesc, causeInfoDesc, causeStartDesc, primaryCauseDesc, expectedDesc, healthyDesc,
		readerSuccessDesc, readerLastSuccessDesc, readerDurationDesc, cacheSyncedDesc,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector: one snapshot of everything, every
// cause asked, and what it said sent.
func (c *Cluster) Collect(ch chan<- prometheus.Metric) {
	now := time.Now()
	for _, s := range c.snapshots(now) {
		c.collectNode(ch, s)
	}
	for _, r := range c.readers {
		collectContact(ch, r.contact, c.cfg.StaleAfter, now)
	}
	collectContact(ch, c.version.contact, c.cfg.StaleAfter, now)
	collectContact(ch, c.logs.contact, c.cfg.StaleAfter, now)
}

func (c *Cluster) collectNode(ch chan<- prometheus.Metric, s *cause.Snapshot) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{s.Name}, labels...)...)
	}
	if e := s.Expected; e != nil {
		gauge(expectedDesc, number(e.Yes), e.Reason)
	}
	j := cause.Judge(s)
	if j.Healthy != cause.Unknown {
		gauge(healthyDesc, number(j.Healthy == cause.Active))
	}
	for i, v := range j.Verdicts {
		name := cause.All[i].Name
		since := c.history.begin(s.Name, name, v, s.Now)
		if v.State == cause.Unknown {
			continue
		}
		gauge(causeActiveDesc, number(v.State == cause.Active), name)
		if v.State != cause.Active {
			continue
		}
		gauge(causeStartDesc, float64(since.UnixMilli())/1000, name)
		for _, f := range v.Findings {
			gauge(causeInfoDesc, 1, name, f.Detail)
		}
	}
	switch {
	case j.Primary >= 0:
		gauge(primaryCauseDesc, 1, cause.All[j.Primary].Name, j.Verdicts[j.Primary].Findings[0].Detail)
	case j.Healthy == cause.Active && !j.Pending:
		gauge(primaryCauseDesc, 1, "none", "")
	}
}

func collectContact(ch chan<- prometheus.Metric, k *contact, staleAfter time.Duration, now time.Time) {
	s := k.state(now, staleAfter)
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, k.reader)
	}
	// The log reader has nothing to ask for while all is well: no sample then.
	if k.reader != "logs" {
		gauge(cacheSyncedDesc, number(s.synced))
	} else if s.lastOK.IsZero() && !s.failed {
		return
	}
	gauge(readerSuccessDesc, number(s.ok))
	gauge(readerDurationDesc, s.duration.Seconds())
	last := 0.0
	if !s.lastOK.IsZero() {
		last = float64(s.lastOK.UnixMilli()) / 1000
	}
	gauge(readerLastSuccessDesc, last)
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
