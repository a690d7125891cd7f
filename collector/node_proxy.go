package collector

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
	"github.com/kproxy-exporter/kproxy-exporter/collector/local"
	"github.com/kproxy-exporter/kproxy-exporter/prober"
)

// Bounds of what is read of kube-proxy's ports: another process may have them.
// Its metrics grow with the number of its syncs' labels, its other pages do not.
const (
	metricsBytes = 4 << 20
	pageBytes    = 64 << 10
)

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// proxyAddresses are where kube-proxy's ports are asked from its own node.
type proxyAddresses struct{ metrics, healthz netip.AddrPort }

// defaultAddresses are those of a kube-proxy that is told where to bind what it
// serves, or nothing.
func defaultAddresses(bindAddress string) proxyAddresses {
	at := loopback
	if a, err := netip.ParseAddr(bindAddress); err == nil && a.Is6() {
		at = netip.IPv6Loopback()
	}
	return proxyAddresses{netip.AddrPortFrom(at, metricsPort), netip.AddrPortFrom(at, healthzPort)}
}

// bound is where to ask for what was bound to an address as written; invalid if
// that cannot be known.
func bound(written string, otherwise netip.AddrPort) netip.AddrPort {
	if written == "" {
		return otherwise
	}
	a, err := netip.ParseAddrPort(written)
	if err != nil {
		alone, err := netip.ParseAddr(strings.Trim(written, "[]"))
		if err != nil {
			return netip.AddrPort{}
		}
		a = netip.AddrPortFrom(alone, otherwise.Port())
	}
	switch {
	case a.Port() == 0:
		return netip.AddrPort{} // any that was free
	case a.Addr().IsUnspecified():
		return netip.AddrPortFrom(loopback, a.Port())
	}
	return a
}

// readProcess looks for the process, and at the file that configures it.
// errOwnProcesses is for a container that sees no processes but its own: that kube-proxy
// is not among them means nothing.
var errOwnProcesses = errors.New("only the exporter's own processes can be seen: the pod lacks hostPID")

func (n *Node) readProcess(context.Context) error {
	p, err := local.FindKubeProxy(n.cfg.ProcPath)
	if err == nil && p == nil && os.Getpid() == 1 {
		err = errOwnProcesses
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if err != nil {
		n.seen.process, n.seen.processAt = nil, time.Time{}
		n.seen.configUnread = n.seen.configUnread || errors.Is(err, local.ErrOtherNetwork) // its ports are not ours
		return err
	}
	now := time.Now()
	n.seen.process, n.seen.processAt = p, now
	n.seen.addresses, n.seen.file, n.seen.configUnread = defaultAddresses(""), nil, false
	if p == nil {
		return nil
	}
	n.seen.proxyAt, n.seen.processAlive = now, now
	n.seen.processState.Note(p.State, now)
	config := p.Flag("config")
	if config == "" {
		n.seen.mode = p.Flag("proxy-mode")
		at := defaultAddresses(p.Flag("bind-address"))
		n.seen.addresses = proxyAddresses{bound(p.Flag("metrics-bind-address"), at.metrics), bound(p.Flag("healthz-bind-address"), at.healthz)}
		return nil
	}
	text, err := p.ReadFile(config)
	if err != nil {
		n.seen.configUnread = true
		return fmt.Errorf("kube-proxy's configuration (it needs CAP_SYS_PTRACE and the node's processes): %w", err)
	}
	if since, err := p.ModTime(config); err == nil {
		n.seen.fileSince = since
	}
	n.seen.file, n.seen.fileName = settingsOf(text), config
	n.seen.mode = n.seen.file["mode"]
	parsed := parseConfig(config, map[string]string{"config.conf": string(text)})
	at := defaultAddresses(n.seen.file["bindaddress"])
	n.seen.addresses = proxyAddresses{bound(parsed.MetricsBind, at.metrics), bound(parsed.HealthzBind, at.healthz)}
	return nil
}

// readPorts asks kube-proxy on the loopback address what it does.
func (n *Node) readPorts(ctx context.Context) error {
	n.mu.Lock()
	at, life, known := n.seen.addresses, n.life(), n.seen.process != nil
	n.mu.Unlock()
	if at == (proxyAddresses{}) && !known {
		at = defaultAddresses("")
	}
	var m, h prober.PortResult
	if at.metrics.IsValid() {
		m = n.ports.Ask(ctx, prober.PortTarget{Node: n.cfg.Name, Address: at.metrics, Path: "/healthz"})
	}
	if at.healthz.IsValid() {
		h = n.ports.Ask(ctx, prober.PortTarget{Node: n.cfg.Name, Address: at.healthz, Path: "/healthz", After: "/livez"})
	}
	var metrics *local.ProxyMetrics
	var failed error
	if m.Outcome == prober.Answered {
		t := prober.PortTarget{Node: n.cfg.Name, Life: life}
		for _, path := range []string{modePage, configzPage} {
			if status, body, err := prober.Page(ctx, at.metrics, path, portTimeout, pageBytes); err == nil {
				n.runs.page(t, path, status, body)
			}
		}
		metrics, failed = n.readMetrics(ctx, at.metrics)
	}
	var eligible *bool
	foreign := false
	if h.Outcome == prober.Answered {
		if status, body, err := prober.Page(ctx, at.healthz, "/healthz", portTimeout, pageBytes); err == nil {
			eligible = local.ParseHealth(body)
			foreign = status != http.StatusServiceUnavailable && !local.IsHealth(body)
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	n.seen.portsAt, n.seen.metrics, n.seen.eligible, n.seen.addresses, n.seen.foreign = now, metrics, eligible, at, foreign
	if metrics != nil && len(metrics.Families) > 0 || eligible != nil {
		n.seen.proxyAt = now // nobody else answers so
	}
	n.followFamilies(now)
	return failed
}

func (n *Node) readMetrics(ctx context.Context, at netip.AddrPort) (*local.ProxyMetrics, error) {
	_, body, err := prober.Page(ctx, at, "/metrics", portTimeout, metricsBytes)
	if err != nil {
		return nil, err
	}
	if len(body) == metricsBytes {
		return nil, fmt.Errorf("kube-proxy's metrics are %d bytes or more", metricsBytes)
	}
	m, err := local.ParseProxyMetrics(body)
	if err != nil {
		return nil, err
	}
	return &m, nil
}

// familySeen is what is remembered of an IP family between two reads.
type familySeen struct {
	started  time.Time // of the process that counted
	failures float64
	failing  time.Time
}

// followFamilies notes since when tries to write rules fail; the caller holds mu.
func (n *Node) followFamilies(now time.Time) {
	m := n.seen.metrics
	if m == nil {
		return
	}
	for name, f := range m.Families {
		before, known := n.families[name]
		if before.started != m.Started {
			before, known = familySeen{started: m.Started}, false
			n.desired.forget(name)
		}
		n.desired.heard(name, f.Queued)
		if f.Synced.After(before.failing) {
			before.failing = time.Time{}
		}
		if f.Failures > before.failures && before.failing.IsZero() {
			switch {
			case known:
				before.failing = now
			case f.Queued.After(f.Synced): // it failed before we came
				before.failing = f.Queued
			}
		}
		before.failures = f.Failures
		n.families[name] = before
	}
}

// proxy is kube-proxy as it was seen last; the caller holds mu.
func (n *Node) proxy(now time.Time) *cause.Proxy {
	out := &cause.Proxy{HealthzForeign: n.seen.foreign}
	known := !n.seen.processAt.IsZero() && now.Sub(n.seen.processAt) <= believed*processEvery+readLimit
	switch p := n.seen.process; {
	case !known:
	case p != nil:
		out.Process = &cause.Process{PID: p.PID, State: p.State, Since: n.seen.processState.Since, Times: n.seen.processState.Times, Started: p.Started}
	default:
		out.Ended, out.Alive = !n.seen.processAlive.IsZero(), n.seen.processAlive
	}
	out.Seen = !n.seen.proxyAt.IsZero() && now.Sub(n.seen.proxyAt) <= seenFor
	if n.seen.portsAt.IsZero() || now.Sub(n.seen.portsAt) > believed*portsEvery+readLimit+4*portTimeout {
		return out
	}
	port := func(a netip.AddrPort) cause.Port {
		r, ok := n.ports.Result(n.cfg.Name, a.Port())
		if !ok || n.seen.configUnread && r.Outcome != prober.Answered { // it may be another port
			return cause.Port{Number: a.Port()}
		}
		return cause.Port{Number: a.Port(), Outcome: string(r.Outcome), Status: r.Status, Livez: r.AfterStatus, Error: r.Error, Since: r.Since, At: r.At, Times: r.Times}
	}
	out.Ports = cause.Ports{Metrics: port(n.seen.addresses.metrics), Healthz: port(n.seen.addresses.healthz)}
	out.Eligible = n.seen.eligible
	if m := n.seen.metrics; m != nil {
		out.Started, out.FilesOpen, out.FilesMax = m.Started, m.FilesOpen, m.FilesMax
		for name, f := range m.Families {
			waits := n.desired.waits(name)
			out.Families = append(out.Families, cause.Family{
				Name: name, Queued: f.Queued, Synced: f.Synced, Failures: f.Failures, Failing: n.families[name].failing,
				Unheard: waits.what, UnheardSince: waits.at,
			})
		}
		slices.SortFunc(out.Families, func(a, b cause.Family) int { return strings.Compare(a.Name, b.Name) })
	}
	return out
}

var (
	endpointUp = family{"kproxy_endpoint_up",
		"1 if kube-proxy's port answered the last attempt, 0 if not; vantage says from where it was asked.",
		[]string{"node", "port", "vantage"}}
	syncQueued = family{"kproxy_sync_last_queued_timestamp_seconds",
		"When kube-proxy last heard of a change, in seconds since the epoch; 0 if it never did.",
		[]string{"ip_family", "node"}}
	syncDone = family{"kproxy_sync_last_timestamp_seconds",
		"When kube-proxy last wrote its rules, in seconds since the epoch; 0 if it never did.",
		[]string{"ip_family", "node"}}
)

func (n *Node) writeProxy(e *exposition, p *cause.Proxy) {
	if p == nil {
		return
	}
	e.begin(&endpointUp)
	for _, port := range []cause.Port{p.Ports.Healthz, p.Ports.Metrics} {
		if port.Outcome != "" {
			e.sample(number(port.Outcome == cause.PortAnswered), n.cfg.Name, strconv.Itoa(int(port.Number)), "localhost")
		}
	}
	for _, f := range []struct {
		family *family
		value  func(cause.Family) time.Time
	}{
		{&syncQueued, func(f cause.Family) time.Time { return f.Queued }},
		{&syncDone, func(f cause.Family) time.Time { return f.Synced }},
	} {
		e.begin(f.family)
		for _, one := range p.Families {
			e.sample(seconds(f.value(one)), one.Name, n.cfg.Name)
		}
	}
}
