package collector

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
	"github.com/kproxy-exporter/kproxy-exporter/collector/local"
	"github.com/kproxy-exporter/kproxy-exporter/prober"
)

// NodeConfig is what the node role needs.
type NodeConfig struct {
	// Name is the node's.
	Name string
	// Namespace is where kube-proxy's pods are, kube-system if it is empty: nobody
	// else's logs are read.
	Namespace string
	// ProcPath and RootPath are where the node's /proc and / are mounted.
	ProcPath, RootPath string
	// API is the API server; nil if there is no access to it: what it wants, and
	// where each API server is, is unknown then. Roots are who signs for it.
	API   Watcher
	Roots *x509.CertPool
	// VIPHost and VIPPort are the Service kubernetes; none if VIPHost is empty.
	VIPHost, VIPPort string
	// APIInterval is how often kube-proxy's own address of the API server is asked.
	// The others are asked a quarter as often, but as often while it fails.
	APIInterval time.Duration
	// Probe says which Services are asked.
	Probe ProbeConfig
	// Responder is where to answer anybody, "host:port"; nowhere if it is empty.
	Responder string
	// Responders is the Service, namespace/name, over the node role's responders on
	// the hosts' network.
	Responders string
	// Audit says which Services' rules are compared with what the API wants, and
	// NodeIPs are the node's addresses by which it is known.
	Audit   AuditMode
	NodeIPs []netip.Addr
	// Canary is the Service, namespace/name, that the cluster role moves.
	Canary string
	// Logger gets one line for each change of a reader's state.
	Logger log.Logger
	// Klog is given to client-go.
	Klog klog.Logger
}

// APIEndpoint is an address under which the API server should answer anybody.
type APIEndpoint struct {
	// Kind is cause.KindVIP or cause.KindEndpoint.
	Kind string
	prober.APITarget
}

// Node reads what only its own node shows. It needs no API server, but asks one
// what it wants.
type Node struct {
	cfg     NodeConfig
	readers []*nodeReader
	desired *desired
	probes  *probes    // nil if none is asked
	canary  *canary    // nil if it is not asked
	audit   *ruleAudit // nil if nothing is audited
	// responder notes whether it can answer.
	responder *contact
	ports     *prober.Ports
	// ruleWorlds asks the kernel; worlds is what it said last, for one reader alone.
	ruleWorlds func(before local.RuleWorlds) (local.RuleWorlds, error)
	worlds     local.RuleWorlds
	runs       *runningConfigs
	logs       *local.Logs // of its reader alone
	history    *history

	mu sync.Mutex
	// mu protects following.
	seen     nodeSeen
	api      map[apiKey]*apiSeen
	families map[string]familySeen
	// logErrors counts the log lines of a class.
	logErrors map[string]float64
	// kubeconfig is that of the kube-proxy that runs.
	kubeconfig kubeconfig
}

// nodeSeen is what the readers saw last, and when.
type nodeSeen struct {
	process      *local.Process
	processAt    time.Time // zero until processes could be listed
	proxyAt      time.Time // when kube-proxy was last seen at all
	processAlive time.Time // when the process was last seen
	// configUnread says that its configuration could not be, foreign that its
	// health is somebody else's.
	configUnread, foreign bool
	processState          local.Streak
	metrics               *local.ProxyMetrics
	eligible              *bool
	portsAt               time.Time
	addresses             proxyAddresses
	file                  cause.Settings
	fileName              string
	fileSince             time.Time
	conntrack             *cause.Conntrack
	inotify               *cause.Limit
	runtime               *cause.Socket
	runtimeWay            local.Streak
	rules                 *cause.RuleWorlds
	mode                  string // by its configuration, kept while there is no process
	noNFTables            bool
	needs                 *cause.Needs
	log, before           *cause.Log
}

// nodeReader is one source, asked again and again. One that hangs holds up
// nobody else, and is asked no second time meanwhile.
type nodeReader struct {
	contact *contact
	every   time.Duration
	// limit is how long it may take before it counts as failed.
	limit time.Duration
	read  func(context.Context) error
	// wait is how long to wait before it is asked again.
	wait func() time.Duration
}

// Intervals of the node's readers: cheap reads of the own machine.
const (
	processEvery = 5 * time.Second
	portsEvery   = 5 * time.Second
	kernelEvery  = 10 * time.Second
	logsEvery    = 5 * time.Second
	rulesEvery   = 10 * time.Second
	confirmAfter = 2 * time.Second
	readLimit    = 5 * time.Second
	apiTimeout   = 5 * time.Second
	// believed is how many intervals what was read counts.
	believed = 3
	// seenFor is how long a kube-proxy that is gone counts as the node's.
	seenFor = 15 * time.Minute
)

// NewNode makes one; Run starts it.
func NewNode(cfg NodeConfig) (*Node, error) {
	if cfg.APIInterval <= 0 {
		return nil, fmt.Errorf("API interval %s: it must be more than 0", cfg.APIInterval)
	}
	if cfg.Name == "" {
		return nil, errors.New("the node's name is not given: set --node-name, from spec.nodeName")
	}
	n := &Node{cfg: cfg, desired: newDesired(&cfg), ruleWorlds: local.ReadRuleWorlds, runs: newRunningConfigs(), history: newHistory(cfg.Logger), api: map[apiKey]*apiSeen{}, families: map[string]familySeen{}, logErrors: map[string]float64{}}
	n.responder = &contact{reader: "responder", what: "listen on " + cfg.Responder, logger: cfg.Logger}
	n.ports = prober.NewPorts(prober.PortConfig{Timeout: portTimeout, Rate: portRate, Page: n.runs.page})
	if cfg.Probe.Interval > 0 {
		n.probes = newProbes(cfg.Probe, cfg.Name, n.desired, &contact{reader: "probe_targets", what: "what is asked for", logger: cfg.Logger})
	}
	if !cfg.Probe.Only {
		n.addReaders()
	}
	if cfg.Audit.audits() && !cfg.Probe.Only {
		n.audit = newRuleAudit(n)
	}
	if cfg.Probe.Interval > 0 && !cfg.Probe.Only {
		n.canary = newCanary(&cfg, n.desired)
	}
	return n, nil
}

// addReaders adds what reads the node itself.
func (n *Node) addReaders() {
	n.add("process", processEvery, n.readProcess, nil)
	n.add("kube_proxy", portsEvery, n.readPorts, nil)
	n.add("api_kube_proxy", n.cfg.APIInterval, n.readProxyAPI, n.waitProxyAPI)
	n.add("api_endpoints", endpointsRarer*n.cfg.APIInterval, n.readEndpoints, n.waitEndpoints)
	n.add("conntrack", kernelEvery, n.readConntrack, nil)
	n.logs = local.NewLogs(filepath.Join(n.cfg.RootPath, "var/log/pods"), cmp.Or(n.cfg.Namespace, metav1.NamespaceSystem), n.logLine)
	n.add("logs", logsEvery, n.readLogs, nil)
	n.add("rules", rulesEvery, n.readRules, nil)
	n.add("needs", kernelEvery, n.readNeeds, nil)
	n.add("inotify", kernelEvery, n.readInotify, nil)
	n.add("runtime", kernelEvery, n.readRuntime, func() time.Duration {
		n.mu.Lock()
		defer n.mu.Unlock()
		if r := n.seen.runtime; r != nil && r.Error != "" && r.Times == 1 {
			return confirmAfter
		}
		return kernelEvery
	})
}

func (n *Node) add(name string, every time.Duration, read func(context.Context) error, wait func() time.Duration) {
	if wait == nil {
		wait = func() time.Duration { return every }
	}
	n.readers = append(n.readers, &nodeReader{
		contact: &contact{reader: name, what: name, logger: n.cfg.Logger}, every: every, limit: readLimit, read: read, wait: wait,
	})
}

// Run reads until the context ends.
func (n *Node) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, r := range n.readers {
		wg.Go(func() { r.run(ctx) })
	}
	wg.Go(func() { n.desired.sources.run(ctx) })
	if n.probes != nil {
		wg.Go(func() { n.probes.run(ctx) })
	}
	if n.canary != nil {
		wg.Go(func() { n.canary.run(ctx) })
	}
	if n.audit != nil {
		wg.Go(func() { n.audit.run(ctx) })
	}
	if n.cfg.Responder != "" {
		wg.Go(func() { n.respond(ctx) })
	}
	wg.Go(func() { n.history.watch(ctx, func(now time.Time) { n.judge(n.snapshot(now)) }) })
	wg.Wait()
}

// errHangs is for a reader that does not come back.
var errHangs = errors.New("it does not come back")

func (r *nodeReader) run(ctx context.Context) {
	for {
		began := time.Now()
		done := make(chan error, 1)
		go func() { done <- r.readSafely(ctx) }()
		hangs := time.NewTimer(r.limit)
		var err error
		select {
		case err = <-done:
		case <-hangs.C:
			r.contact.failed(fmt.Errorf("%w for %s", errHangs, r.limit))
			select {
			case err = <-done:
			case <-ctx.Done():
				return // it is left to itself
			}
		}
		hangs.Stop()
		if err != nil {
			r.contact.failedUnlessStopped(ctx, err)
		} else {
			r.contact.succeeded(time.Since(began))
		}
		r.contact.markSynced()
		select {
		case <-ctx.Done():
			return
		case <-time.After(r.wait()):
		}
	}
}

// readSafely makes an error of a panic: one reader must not end them all.
func (r *nodeReader) readSafely(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return r.read(ctx)
}

// Ready is whether every source on the node was tried once; if not, which lacks.
func (n *Node) Ready() (bool, string) {
	for _, r := range n.readers {
		if !r.contact.state(time.Now(), time.Hour).synced {
			return false, r.contact.reader
		}
	}
	return true, ""
}

// Report judges the node now.
func (n *Node) Report() Report {
	s := n.snapshot(time.Now())
	r := nodeReport(s, n.history)
	if n.probes != nil {
		r.Probes = n.probes.reports(s.Local.Probes)
	}
	return Report{Nodes: []NodeReport{r}}
}

// Collectors are what counts in the client library's way.
func (n *Node) Collectors() []prometheus.Collector {
	if n.probes == nil {
		return nil
	}
	out := []prometheus.Collector{n.probes.metrics}
	if n.canary != nil {
		out = append(out, n.canary.latency)
	}
	return out
}

// snapshot puts what is known now into one Snapshot.
func (n *Node) snapshot(now time.Time) *cause.Snapshot {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := &cause.Snapshot{Now: now, Name: n.cfg.Name, Local: &cause.Local{
		API: n.apiAddresses(now), HeardSince: n.desired.heardSince(now), Conntrack: n.seen.conntrack, Inotify: n.seen.inotify, Runtime: n.seen.runtime, Rules: n.seen.rules, Needs: n.seen.needs, Log: n.seen.log, Before: n.seen.before,
	}}
	for _, r := range n.readers {
		if age := now.Sub(r.contact.state(now, time.Hour).lastOK); age <= believed*r.every+r.limit {
			continue
		}
		switch r.contact.reader { // it hangs, or fails: what it saw is old
		case "conntrack":
			s.Local.Conntrack = nil
		case "needs":
			s.Local.Needs = nil
		case "rules":
			s.Local.Rules = nil
		case "logs":
			s.Local.Log, s.Local.Before = nil, nil
		case "inotify":
			s.Local.Inotify = nil
		case "runtime":
			s.Local.Runtime = nil
		}
	}
	if n.probes != nil {
		s.Local.Probes = n.probes.snapshot(now)
	}
	if n.canary != nil {
		s.Local.Canary = n.canary.snapshot(now)
	}
	if n.audit != nil {
		s.Local.Audit = n.audit.snapshot(now)
	}
	s.Local.Proxy = n.proxy(now)
	if s.Local.Proxy != nil && s.Local.Proxy.Seen {
		s.Expected = &cause.Expected{Yes: true, Reason: cause.ReasonProcess}
	}
	if s.Running = n.runs.of(n.cfg.Name, n.life()); s.Running != nil && s.Running.Settings != nil && s.Local.Proxy != nil && n.seen.file != nil {
		s.Local.Proxy.FileDiffers = n.seen.file.Differs(s.Running.Settings)
		s.Local.Proxy.File, s.Local.Proxy.FileSince = n.seen.fileName, n.seen.fileSince
	}
	return s
}

func (n *Node) lifeNow() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.life()
}

// life names the kube-proxy that runs now; the caller holds mu.
func (n *Node) life() string {
	if p := n.seen.process; p != nil {
		return strconv.Itoa(p.PID) + "-" + strconv.FormatInt(p.Started.UnixMilli(), 10)
	}
	return "unseen"
}

func (n *Node) judge(s *cause.Snapshot) verdict {
	j := cause.Judge(s)
	v := newVerdict(s, &j, n.history)
	n.history.judged(s.Now, []verdict{v})
	return v
}

// WriteMetrics judges the node now and writes what was found, in Prometheus'
// text format.
func (n *Node) WriteMetrics(w io.Writer) error {
	now := time.Now()
	s := n.snapshot(now)
	e := newExposition(w)
	n.writeAPI(e)
	writeReaders(e, n.contacts(now), n.cfg.Name)
	writeVerdicts(e, []verdict{n.judge(s)})
	n.writeProxy(e, s.Local.Proxy)
	n.writeLogs(e)
	if n.probes != nil {
		n.probes.write(e, s.Local.Probes)
	}
	writeCanary(e, s.Local.Canary, n.cfg.Name, now)
	if n.audit != nil {
		n.audit.write(e, s.Local.Audit)
	}
	return e.end()
}

// contacts are the readers that have been tried.
func (n *Node) contacts(now time.Time) []readerState {
	var out []readerState
	note := func(c *contact) {
		s := c.state(now, time.Hour)
		out = append(out, readerState{name: c.reader, contactState: s, idle: !s.ok && !s.failed})
	}
	for _, r := range n.readers {
		note(r.contact)
	}
	for _, r := range n.desired.sources.readers {
		note(r.contact)
	}
	if n.probes != nil {
		note(n.probes.contact)
	}
	note(n.responder)
	if n.audit != nil {
		note(n.audit.contact)
	}
	return out
}
