package collector

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/collector/audit"
	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
	"github.com/kproxy-exporter/kproxy-exporter/collector/local"
	"github.com/kproxy-exporter/kproxy-exporter/collector/rules"
	"github.com/kproxy-exporter/kproxy-exporter/prober"
)

// AuditMode says which Services' rules are compared with what the API wants.
type AuditMode string

// Modes of the audit.
const (
	AuditOff AuditMode = "off"
	// AuditCanary is of the exporter's own Services, default/kubernetes, and those
	// that are probed.
	AuditCanary AuditMode = "canary"
	AuditAll    AuditMode = "all"
)

func (m AuditMode) audits() bool { return m == AuditCanary || m == AuditAll }

// ruleAudit compares the kernel's rules with what the API wants, again when
// either changes.
type ruleAudit struct {
	n       *Node
	contact *contact
	kernel  chan struct{} // says that the kernel's rules changed
	// families are judged each for itself, from one goroutine.
	families map[rules.Family]*familyAudit

	mu sync.Mutex
	// mu protects following.
	seen auditSeen
}

// familyAudit is what is remembered of an IP family between two looks.
type familyAudit struct {
	judge      audit.Judge
	generation uint32
	version    int
	config     string
	addresses  []netip.Addr
	result     audit.Judgement
	services   int
	cache      rules.Cache
	full       time.Time // when all Services were last looked at
}

// auditSeen is the outcome of the newest look; at is zero if there was none.
type auditSeen struct {
	at         time.Time
	took       time.Duration
	generation uint32
	result     cause.Audit
	lacks      string
}

const (
	// auditEvery is how often it is asked whether anything changed, beside being told.
	auditEvery = 10 * time.Second
	// auditShare is how much more time passes than is spent looking, where changes
	// come all the time: 1 % of a core. auditBurst may be spent at once after a
	// calm time, and auditLeast lies between two looks at least.
	auditShare = 100
	auditBurst = 2 * time.Second
	auditLeast = 50 * time.Millisecond
	// auditSoon is how soon it looks again at what differs.
	auditSoon = 400 * time.Millisecond
	// auditStood is after how long it is asked whether what was right still is: then
	// it was so after kube-proxy had said that it wrote it.
	auditStood = time.Second
	// auditExamples are shown to a person.
	auditExamples = 10
)

func newRuleAudit(n *Node) *ruleAudit {
	a := &ruleAudit{n: n, contact: &contact{reader: "audit", what: "the rules", logger: n.cfg.Logger}, kernel: make(chan struct{}, 1), families: map[rules.Family]*familyAudit{}}
	a.seen.lacks = "a first look at the rules"
	return a
}

// run looks until the context ends.
func (a *ruleAudit) run(ctx context.Context) {
	go a.listen(ctx)
	allowed, last := auditBurst, time.Now()
	for {
		began := time.Now()
		pending, cost, err := a.lookSafely(ctx)
		switch {
		case err != nil:
			a.contact.failedUnlessStopped(ctx, err)
			a.note(auditSeen{lacks: err.Error()})
		default:
			a.contact.succeeded(time.Since(began))
		}
		a.contact.markSynced()
		now := time.Now()
		allowed = min(allowed+now.Sub(last)/auditShare, auditBurst) - cost
		last = now
		rest, wait := auditLeast, auditEvery
		if allowed < 0 {
			rest = -allowed * auditShare
		}
		switch {
		case pending: // what differs, and only that, is looked at again soon
			rest = max(auditSoon, min(10*cost, auditEvery))
			wait = rest
		case cost > 0:
			wait = auditStood
		}
		if !a.wait(ctx, rest, max(wait, rest)) {
			return
		}
	}
}

// wait waits for the rest, and then for something that changes, no longer than limit.
func (a *ruleAudit) wait(ctx context.Context, rest, limit time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(rest):
	}
	timer := time.NewTimer(limit - rest)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-a.kernel:
	case <-a.n.desired.audit.kick:
	}
	return true
}

// listen tells of changes of the kernel's rules.
func (a *ruleAudit) listen(ctx context.Context) {
	for ctx.Err() == nil {
		l, err := rules.Listen()
		if err == nil {
			for ctx.Err() == nil && err == nil {
				var changed bool
				if changed, err = l.Wait(); changed {
					select {
					case a.kernel <- struct{}{}:
					default:
					}
				}
			}
			l.Close()
		}
		select { // it is asked for instead
		case <-ctx.Done():
		case <-time.After(auditEvery):
		}
	}
}

func (a *ruleAudit) lookSafely(ctx context.Context) (pending bool, cost time.Duration, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return a.look(ctx)
}

// note keeps the outcome of a look.
func (a *ruleAudit) note(s auditSeen) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seen = s
}

// look compares what changed since the last one; pending says that something
// differs that may be on its way, cost how long rules were read and compared.
func (a *ruleAudit) look(ctx context.Context) (pending bool, cost time.Duration, err error) {
	began := time.Now()
	cfg, lacks := a.n.auditConfig()
	if lacks != "" {
		a.families = map[rules.Family]*familyAudit{} // what was seen before is another question
		a.note(auditSeen{lacks: lacks})
		return false, 0, nil
	}
	reader, err := rules.NewReader()
	if err != nil {
		return false, 0, err
	}
	defer reader.Close()
	seen := auditSeen{at: began, result: cause.Audit{At: began, Drift: map[string]int{}}}
	if seen.generation, err = reader.Generation(); err != nil && cfg.Mode != audit.ModeIPVS {
		return false, 0, err
	}
	for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
		if !a.serves(f) {
			delete(a.families, f)
			continue
		}
		c := *cfg
		c.Family = f
		c.detector()
		text := c.text()
		one := a.families[f]
		if one == nil || one.config != text { // what was seen before is another question
			one = &familyAudit{config: text}
			a.families[f] = one
		}
		took, err := a.lookFamily(ctx, reader, one, &c.Config, &seen)
		cost += took
		switch {
		case errors.Is(err, rules.ErrChanged):
			pending = true // it is being written
			continue
		case err != nil:
			return false, cost, err
		}
		pending = pending || one.result.Pending
		seen.add(f, one)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if seen.took = a.seen.took; cost > 0 {
		seen.took = cost
	}
	a.seen = seen
	return pending, cost, nil
}

// lookFamily compares the rules of an IP family, if something changed; cost is how
// long that took.
func (a *ruleAudit) lookFamily(ctx context.Context, reader *rules.Reader, one *familyAudit, c *audit.Config, seen *auditSeen) (cost time.Duration, err error) {
	began := seen.at
	if version := a.n.desired.auditVersion(); c.Mode != audit.ModeIPVS && one.generation == seen.generation && one.version == version && slices.Equal(one.addresses, c.Addresses) && !one.result.Pending && one.result.Since.IsZero() {
		one.judge.Same(began)
		return 0, nil
	}
	state, zone, version := a.n.desired.auditState()
	c.Zone, c.ZoneKnown = zone, zone != ""
	// What differed is looked at alone; all of it where that was long ago.
	only := one.judge.Suspects()
	if one.generation == 0 || !one.result.Pending || began.Sub(one.full) > auditEvery {
		only = nil
	}
	if only == nil {
		one.full = began
	}
	before := time.Now()
	result, err := a.check(reader, c.Family, state, c, only, &one.cache)
	if cost = time.Since(before); err != nil {
		return cost, err
	}
	one.result = one.judge.Look(&result, only == nil, began, time.Now(), a.n.desired.auditChanged, a.sync(ctx, c.Mode, c.Family, len(result.Drifts) > 0))
	one.addresses = c.Addresses
	if only == nil { // else what else changed is still to be looked at
		one.generation, one.version, one.services = seen.generation, version, result.Services
	}
	return cost, nil
}

// add puts what is known of an IP family to the rest.
func (s *auditSeen) add(f rules.Family, one *familyAudit) {
	r := &s.result
	r.Services += one.services
	if one.result.Flushed {
		r.Flushed = append(r.Flushed, f.String())
	}
	if t := one.result.Since; !t.IsZero() && (r.Since.IsZero() || t.Before(r.Since)) {
		r.Since = t
	}
	type of struct{ service, kind string }
	counted := map[of]bool{}
	for _, d := range one.result.Drifts {
		if k := (of{d.Service, string(d.Kind)}); d.Service == "" || !counted[k] {
			counted[k] = true
			r.Drift[string(d.Kind)]++
		}
		if len(r.Examples) < auditExamples {
			r.Examples = append(r.Examples, strings.TrimSpace(d.Service+" "+string(d.Kind)+": "+d.What))
		}
	}
}

// check reads and compares the rules of an IP family, of all Services or of suspects.
func (a *ruleAudit) check(reader *rules.Reader, f rules.Family, state *audit.State, c *audit.Config, suspects map[string]bool, cache *rules.Cache) (audit.Result, error) {
	var only func(string) bool
	switch {
	case suspects != nil:
		only = func(s string) bool { return suspects[s] }
	case a.n.cfg.Audit == AuditCanary:
		only = a.n.desired.ownOrProbed
	}
	var rs *rules.Ruleset
	var err error
	switch c.Mode {
	case audit.ModeIPVS:
		v, err := rules.ReadIPVS(f)
		if err != nil {
			return audit.Result{}, err
		}
		return audit.CheckIPVS(v, state, c, only), nil
	case audit.ModeNFTables:
		rs, err = reader.ReadNFTables(f, cache)
	default:
		rs, err = reader.ReadIPTables(f)
		if err == nil && !rs.Has("nat", "KUBE-SERVICES") || errors.Is(err, rules.ErrUnsupported) {
			if old, err2 := rules.ReadLegacy(f); err2 == nil && old.Has("nat", "KUBE-SERVICES") {
				rs, err = old, nil
			} else if err2 != nil {
				return audit.Result{}, err2
			}
		}
	}
	if err != nil {
		return audit.Result{}, err
	}
	return audit.Check(rs, state, c, only)
}

// serves is whether kube-proxy writes rules of an IP family, as far as it says.
func (a *ruleAudit) serves(f rules.Family) bool {
	a.n.mu.Lock()
	defer a.n.mu.Unlock()
	m := a.n.seen.metrics
	if m == nil || len(m.Families) == 0 {
		return a.families[f] != nil || f.String() == familyOf(a.n.desired.vip)
	}
	_, whole := m.Families[local.NoFamily]
	_, ok := m.Families[f.String()]
	return ok || whole && f.String() == familyOf(a.n.desired.vip)
}

// sync is what kube-proxy says of an IP family; now asks it, rather than to
// believe what it said seconds ago.
func (a *ruleAudit) sync(ctx context.Context, mode string, f rules.Family, now bool) audit.Sync {
	n := a.n
	n.mu.Lock()
	at, metrics, process, gone, alive := n.seen.addresses.metrics, n.seen.metrics, n.seen.process, !n.seen.processAt.IsZero() && n.seen.process == nil, n.seen.processAlive
	n.mu.Unlock()
	s := audit.Sync{Away: n.desired.away(time.Now())}
	s.Halted = process != nil && strings.HasPrefix(process.State, "T")
	if now && at.IsValid() && !s.Halted {
		if m, err := n.readMetrics(ctx, at); err == nil {
			metrics, s.Known, s.Started = m, true, m.Started
		}
		// One that has just begun may run in another mode, and take these rules away.
		if _, body, err := prober.Page(ctx, at, modePage, portTimeout, metricsBytes); err != nil || strings.TrimSpace(string(body)) != mode {
			s.Known = false
		}
	}
	if metrics != nil {
		one, ok := metrics.Families[f.String()]
		if !ok {
			one = metrics.Families[local.NoFamily]
		}
		s.Queued, s.Synced = one.Queued, one.Synced
	}
	if gone && !alive.IsZero() {
		s.Gone = alive
	}
	return s
}

// snapshot is the newest outcome; nil if there is none that can be believed.
func (a *ruleAudit) snapshot(now time.Time) *cause.Audit {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.seen.lacks != "" {
		return &cause.Audit{Lacks: a.seen.lacks}
	}
	r := a.seen.result
	limit := believed*auditEvery + auditShare*a.seen.took
	if r.At.IsZero() || now.Sub(r.At) > limit {
		return &cause.Audit{Lacks: "a look at the rules that comes to an end"}
	}
	return &r
}

// nodeAuditConfig is how kube-proxy runs, for one family.
type nodeAuditConfig struct {
	audit.Config
	detect string
	cidrs  []netip.Prefix
	iface  string
}

// text tells one way to run from another; the node's addresses come and go.
func (c nodeAuditConfig) text() string {
	c.Addresses = nil
	return fmt.Sprintf("%+v", c)
}

// detector is how pods of the node are told from others.
func (c *nodeAuditConfig) detector() {
	d := &c.Detector
	switch c.detect {
	case "ClusterCIDR":
		d.Known = true
		for _, p := range c.cidrs {
			if p.Addr().Is6() == (c.Family == rules.IPv6) {
				d.CIDR = p
			}
		}
	case "BridgeInterface":
		d.Known, d.Interface = c.iface != "", c.iface
	case "InterfaceNamePrefix":
		d.Known, d.Interface = c.iface != "", c.iface+"+"
	}
}

// auditConfig is how kube-proxy runs on the node, as it says itself, or its file
// if it does not; lacks says what is not known.
func (n *Node) auditConfig() (cfg *nodeAuditConfig, lacks string) {
	var err error
	n.mu.Lock()
	defer n.mu.Unlock()
	seen := !n.seen.proxyAt.IsZero() && time.Since(n.seen.proxyAt) <= seenFor
	mode, settings := n.seen.mode, n.seen.file
	if r := n.runs.of(n.cfg.Name, n.life()); r != nil {
		if r.Mode != "" {
			mode = r.Mode
		}
		if r.Settings != nil {
			settings = r.Settings.Settings
		}
	}
	switch ok, what := n.desired.auditable(time.Now()); {
	case !seen:
		return nil, "kube-proxy on this node"
	case !ok:
		return nil, what
	case settings == nil:
		return nil, "kube-proxy's configuration"
	}
	if mode == "" {
		mode = audit.ModeIPTables // its default
	}
	if mode != audit.ModeNFTables && mode != audit.ModeIPTables && mode != audit.ModeIPVS {
		return nil, "an audit of the mode " + mode
	}
	c := &nodeAuditConfig{detect: cmp.Or(settings["detectlocalmode"], "ClusterCIDR"), iface: settings["detectlocal.bridgeinterface"] + settings["detectlocal.interfacenameprefix"]}
	c.Mode, c.Node, c.Primary = mode, n.cfg.Name, n.cfg.NodeIPs
	c.MasqueradeAll = settings[mode+".masqueradeall"] == "true" || settings["linux.masqueradeall"] == "true"
	for _, text := range strings.Split(settings["clustercidr"], ",") {
		if p, err := netip.ParsePrefix(text); err == nil {
			c.cidrs = append(c.cidrs, p.Masked())
		}
	}
	if text := settings["nodeportaddresses"]; text != "" && json.Unmarshal([]byte(text), &c.NodePortAddresses) != nil {
		return nil, "kube-proxy's nodePortAddresses"
	}
	if len(c.NodePortAddresses) == 0 && mode == audit.ModeNFTables {
		c.NodePortAddresses = []string{"primary"} // its default
	}
	if c.Addresses, err = nodeAddresses(); err != nil {
		return nil, "the node's own addresses: " + err.Error()
	}
	return c, ""
}

// nodeAddresses are those of its interfaces, but of the one to which kube-proxy
// gives Services' addresses in mode ipvs.
func nodeAddresses() (out []netip.Addr, err error) {
	devices, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	for _, d := range devices {
		if d.Name == rules.IPVSInterface {
			continue
		}
		all, err := d.Addrs()
		if err != nil {
			return nil, err
		}
		for _, one := range all {
			if p, ok := one.(*net.IPNet); ok {
				if a, ok := netip.AddrFromSlice(p.IP); ok {
					out = append(out, a.Unmap())
				}
			}
		}
	}
	return out, nil
}

var (
	auditServices = family{"kproxy_audit_services", "How many Services' rules the newest look compared with what the API wants; a Service of two IP families counts twice.", []string{"node"}}
	auditDrift    = family{"kproxy_audit_drift", "How many Services' rules differ from what the API wants, by how; no sample while that is unknown.", []string{"kind", "node"}}
	auditOldest   = family{"kproxy_audit_oldest_drift_timestamp_seconds", "Since when the rules of the Service that differ for longest do, in seconds since the epoch; no sample while none do.", []string{"node"}}
	auditTook     = family{"kproxy_audit_duration_seconds", "How long the newest look took that read rules.", []string{"node"}}
	auditLast     = family{"kproxy_audit_last_timestamp_seconds", "When the newest look began that came to an end, in seconds since the epoch.", []string{"node"}}
	auditGen      = family{"kproxy_audit_generation", "The number of the state of nf_tables that was compared: it grows with each change of any rule on the node.", []string{"node"}}
)

// write writes what the newest look found.
func (a *ruleAudit) write(e *exposition, r *cause.Audit) {
	if r == nil || r.Lacks != "" {
		return
	}
	a.mu.Lock()
	took, generation := a.seen.took, a.seen.generation
	a.mu.Unlock()
	node := a.n.cfg.Name
	e.begin(&auditServices)
	e.sample(float64(r.Services), node)
	e.begin(&auditDrift)
	for _, k := range audit.Kinds {
		e.sample(float64(r.Drift[string(k)]), string(k), node)
	}
	if !r.Since.IsZero() {
		e.begin(&auditOldest)
		e.sample(seconds(r.Since), node)
	}
	for _, one := range []struct {
		family *family
		value  float64
	}{{&auditTook, took.Seconds()}, {&auditLast, seconds(r.At)}, {&auditGen, float64(generation)}} {
		e.begin(one.family)
		e.sample(one.value, node)
	}
}
