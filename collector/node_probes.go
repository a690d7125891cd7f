package collector

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
	"github.com/kproxy-exporter/kproxy-exporter/collector/local"
	"github.com/kproxy-exporter/kproxy-exporter/prober"
)

// ProbeConfig says which Services are asked from the node, and how.
type ProbeConfig struct {
	// Interval is how often each is asked; none is if it is 0. Timeout is that of
	// an attempt.
	Interval, Timeout time.Duration
	// Services are asked beside those that say so themselves: namespace/name to
	// what ProbeAnnotation would say.
	Services map[string]string
	// DNSName is what the cluster's DNS is asked for, with a dot at the end.
	DNSName string
	// Only says that nothing else is read: it runs in the pods' network, without
	// any privilege.
	Only bool
}

// vantage is from where it asks.
func (c ProbeConfig) vantage() string {
	if c.Only {
		return "pod"
	}
	return "host"
}

// probes asks Services and keeps what became of it.
type probes struct {
	cfg     ProbeConfig
	node    string
	desired *desired
	asker   *prober.Services
	metrics *prober.ServiceMetrics
	// contact notes whether what is asked for can be.
	contact *contact
	// source is the own address towards another; backend where the kernel sends
	// what goes to one.
	source  func(netip.Addr) netip.Addr
	backend func(own, to netip.AddrPort, udp bool) (netip.AddrPort, bool)

	// What was planned last, of what version, and when; of one goroutine alone.
	planned   []prober.ServiceTarget
	plannedOf int
	plannedAt time.Time

	mu sync.Mutex
	// mu protects following.
	rounds map[prober.TargetKey][]cause.ProbeRound    // the newest two, the newest last
	latest map[prober.TargetKey]*prober.ServiceTarget // of the newest round
	// seen is when each backend last answered through the VIP; nil until the kernel
	// has told of one.
	seen map[prober.TargetKey]map[netip.AddrPort]time.Time
	// failures say what failed in the newest rounds in which something did, the
	// newest last: they outlast what succeeded since.
	failures map[prober.TargetKey][]string
	// failing is when the first round had ended since which something failed in each.
	failing map[prober.TargetKey]time.Time
}

// replan is how long a plan is good if nothing changes: the node's own address may.
const replan = time.Minute

// keptFailures is how many rounds that failed are kept of a target.
const keptFailures = 10

// seenWindow is how long a backend counts as one that answers through a VIP.
const seenWindow = 10 * time.Minute

func newProbes(cfg ProbeConfig, node string, d *desired, c *contact) *probes {
	p := &probes{
		cfg: cfg, node: node, desired: d, metrics: prober.NewServiceMetrics(node, cfg.vantage()), contact: c,
		rounds: map[prober.TargetKey][]cause.ProbeRound{}, latest: map[prober.TargetKey]*prober.ServiceTarget{}, seen: map[prober.TargetKey]map[netip.AddrPort]time.Time{},
		failures: map[prober.TargetKey][]string{}, failing: map[prober.TargetKey]time.Time{},
	}
	p.source = func(netip.Addr) netip.Addr { return netip.Addr{} }
	if !cfg.Only { // a pod's own network has no rules and no connections of others
		if b, err := local.NewBackends(); err == nil {
			p.source, p.backend = b.Source, b.Of
		}
	}
	p.asker = prober.NewServices(prober.ServiceConfig{Interval: cfg.Interval, Timeout: cfg.Timeout, Node: node, Backend: p.backend, Note: p.note})
	return p
}

// run asks until the context ends.
func (p *probes) run(ctx context.Context) { p.asker.Run(ctx, p.targets) }

// mostWrong is how many of the Services that cannot be probed as they ask are named.
const mostWrong = 10

// targets are those that are asked now.
func (p *probes) targets() []prober.ServiceTarget {
	p.desired.mu.Lock()
	version := p.desired.version
	p.desired.mu.Unlock()
	if p.planned != nil && version == p.plannedOf && time.Since(p.plannedAt) < replan {
		return p.planned
	}
	out, wrong := p.desired.plan(p.cfg.Services, p.node, p.source, p.cfg.DNSName)
	if len(wrong) > 0 {
		slices.SortFunc(wrong, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
		if n := len(wrong); n > mostWrong {
			wrong = append(wrong[:mostWrong], fmt.Errorf("and %d more", n-mostWrong))
		}
		p.contact.failed(errors.Join(wrong...))
	} else {
		p.contact.succeeded(0)
	}
	now := map[prober.TargetKey]bool{}
	for i := range out {
		now[out[i].Key()] = true
	}
	p.metrics.Keep(now)
	p.mu.Lock()
	defer p.mu.Unlock()
	for k := range p.rounds {
		if !now[k] {
			delete(p.rounds, k)
			delete(p.latest, k)
			delete(p.seen, k)
			delete(p.failures, k)
			delete(p.failing, k)
		}
	}
	p.planned, p.plannedOf, p.plannedAt = out, version, time.Now()
	return out
}

func (p *probes) note(r *prober.Round) {
	p.metrics.Note(r)
	k := r.Target.Key()
	round := roundOf(r)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.latest[k] = r.Target
	p.rounds[k] = append(p.rounds[k], round)
	p.rounds[k] = slices.Clone(p.rounds[k][max(0, len(p.rounds[k])-2):])
	failed := slices.ContainsFunc(r.Attempts, func(a prober.Attempt) bool { return !a.OK() })
	switch {
	case !failed:
		delete(p.failing, k)
	case p.failing[k].IsZero():
		p.failing[k] = time.Now() // it has just ended
	}
	if failed && len(r.Target.Endpoints) > 0 {
		kept := append(p.failures[k], round.Failures())
		p.failures[k] = slices.Clone(kept[max(0, len(kept)-keptFailures):])
	}
	if a := r.Attempt(prober.PathVIP); a != nil && a.OK() && a.Backend.IsValid() {
		if p.seen[k] == nil {
			p.seen[k] = map[netip.AddrPort]time.Time{}
		}
		p.seen[k][a.Backend] = r.At
	}
	for b, at := range p.seen[k] {
		if r.At.Sub(at) > seenWindow {
			delete(p.seen[k], b)
		}
	}
}

// snapshot are the probes whose newest round still counts.
func (p *probes) snapshot(now time.Time) []cause.Probe {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []cause.Probe
	for _, k := range p.keys() {
		rounds := p.rounds[k]
		if now.Sub(rounds[len(rounds)-1].At) > believed*p.cfg.Interval+p.cfg.Timeout {
			continue
		}
		out = append(out, cause.Probe{Name: k.String(), Failing: p.failing[k], Rounds: rounds})
	}
	return out
}

// keys are in order; the caller holds mu.
func (p *probes) keys() []prober.TargetKey {
	out := make([]prober.TargetKey, 0, len(p.rounds))
	for k := range p.rounds {
		out = append(out, k)
	}
	slices.SortFunc(out, prober.TargetKey.Compare)
	return out
}

func roundOf(r *prober.Round) cause.ProbeRound {
	out := cause.ProbeRound{At: r.At, Listed: len(r.Target.Endpoints), Changing: !r.Target.Changed.IsZero() && r.At.Sub(r.Target.Changed) < settling}
	for i := range r.Attempts {
		a := &r.Attempts[i]
		one := cause.ProbeAttempt{
			Address: a.Address.String(), Node: a.Node, Host: a.Host, OK: a.OK(), Answered: a.Answered(), Connected: a.Connected(), Reason: string(a.Reason), Error: a.Error,
			Local: a.Reason == prober.ReasonLocal || a.Reason == prober.ReasonPanic,
		}
		if a.Backend.IsValid() {
			one.Backend = a.Backend.String()
			one.Listed = slices.ContainsFunc(r.Target.Endpoints, func(e prober.Endpoint) bool { return e.Address == a.Backend })
		}
		switch a.Path {
		case prober.PathVIP:
			out.VIP = &one
		case prober.PathNodePort:
			out.NodePort = &one
		case prober.PathEndpoint:
			out.Endpoints = append(out.Endpoints, one)
		}
	}
	return out
}

// ProbeReport is a Service as this node finds it.
type ProbeReport struct {
	Service string `json:"service"`
	// Verdict is ok, no_endpoints, dataplane, backend, network or unknown.
	Verdict  string   `json:"verdict"`
	Evidence []string `json:"evidence"`
	// Failures are the newest rounds in which something failed, the newest first,
	// each with what failed.
	Failures []string `json:"failures,omitempty"`
}

func (p *probes) reports(all []cause.Probe) []ProbeReport {
	p.mu.Lock()
	failures := map[string][]string{}
	for k, rounds := range p.failures {
		for _, text := range slices.Backward(rounds) {
			failures[k.String()] = append(failures[k.String()], text)
		}
	}
	p.mu.Unlock()
	var out []ProbeReport
	for i := range all {
		v, evidence := cause.JudgeProbe(&all[i], all)
		if v == cause.ProbeUnknown {
			v = "unknown"
		}
		out = append(out, ProbeReport{all[i].Name, string(v), evidence, failures[all[i].Name]})
	}
	return out
}

var (
	targetLabels = []string{"ip_family", "module", "node", "port", "service", "vantage"}
	probeVerdict = family{"kproxy_probe_verdict",
		"1 for whose fault it is if a Service does not answer from this node: ok, no_endpoints, dataplane (the rules here), backend or network; no sample while unknown.",
		append(slices.Clone(targetLabels), "verdict")}
	backendsSeen     = family{"kproxy_probe_backends_seen", "How many endpoints answered through the Service's address in the last ten minutes.", targetLabels}
	backendsExpected = family{"kproxy_probe_backends_expected", "How many endpoints may answer through the Service's address.", targetLabels}
)

func (p *probes) write(e *exposition, all []cause.Probe) {
	p.mu.Lock()
	keys := p.keys()
	type count struct{ seen, expected int }
	counts := map[string]count{}
	values := map[string][]string{}
	for _, k := range keys {
		t := p.latest[k]
		c := count{expected: len(t.Endpoints)}
		for b := range p.seen[k] {
			if slices.ContainsFunc(t.Endpoints, func(e prober.Endpoint) bool { return e.Address == b }) {
				c.seen++
			}
		}
		name := k.String()
		if t.Sticky {
			c.expected = min(c.expected, 1)
		}
		if p.seen[k] != nil { // else the kernel does not tell, and 0 would be a guess
			counts[name] = c
		}
		l := k.Labels()
		values[name] = []string{l[3], l[2], p.node, l[1], l[0], p.cfg.vantage()}
	}
	p.mu.Unlock()
	for _, f := range []struct {
		family *family
		value  func(count) int
	}{{&backendsExpected, func(c count) int { return c.expected }}, {&backendsSeen, func(c count) int { return c.seen }}} {
		e.begin(f.family)
		for i := range all {
			if c, ok := counts[all[i].Name]; ok {
				e.sample(float64(f.value(c)), values[all[i].Name]...)
			}
		}
	}
	e.begin(&probeVerdict)
	for i := range all {
		verdict, _ := cause.JudgeProbe(&all[i], all)
		labels, ok := values[all[i].Name]
		if verdict == cause.ProbeUnknown || !ok {
			continue
		}
		for _, v := range cause.ProbeVerdicts {
			e.sample(number(v == verdict), append(slices.Clone(labels), string(v))...)
		}
	}
}
