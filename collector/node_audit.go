package collector

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kproxy-exporter/kproxy-exporter/collector/audit"
	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
	"github.com/kproxy-exporter/kproxy-exporter/collector/rules"
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
	told    *rulesTold
	// config, served and says are what kube-proxy says of itself.
	config func() (cfg *nodeAuditConfig, lacks string)
	served func(rules.Family) bool
	says   func(ctx context.Context, mode string, f rules.Family, asks audit.Asks) audit.Sync
	// wholes and parts are what looks at all Services and at what changed may take.
	wholes, parts *allowance
	// families are judged each for itself, from one goroutine.
	families map[rules.Family]*familyAudit
	// answered is whether the API server did when it was last asked.
	askedAt  time.Time
	answered bool

	mu sync.Mutex
	// mu protects following.
	seen auditSeen
}

// familyAudit is what is remembered of an IP family between two looks.
type familyAudit struct {
	judge    audit.Judge
	result   audit.Judgement
	services int
	at       time.Time // when the last look began that left nothing out
	// tried is whether anything was looked at yet, with or without an end.
	tried      bool
	generation uint32
	version    int
	config     string
	addresses  []netip.Addr
	// polled is of rules that nobody tells of: the old iptables and ip_vs.
	polled bool
	// told is what the kernel said to have changed since that look.
	told rules.Changes
	// whole is when all Services were last looked at, wholeTook how long that took and
	// wholeCost what it cost of the processors.
	whole                time.Time
	wholeTook, wholeCost time.Duration
	frame                *rules.Frame // of the rules then; nil if they cannot be read in part
	// print is of the rules at the last look at all, nil if there is none, and since what
	// was compared later: it may have been found otherwise than it was then.
	print *rules.Fingerprint
	since compared
	// recalled says that told is what is not as it was then.
	recalled  bool
	claims    *audit.Claims
	claimedAt int // the version of the Services of which they are
}

// auditSeen is the outcome of the newest look; at is zero if there was none.
type auditSeen struct {
	at time.Time
	// took is how long the newest look took that read rules, wholes how long the
	// last at all Services did, or what it cost if that is more, of both IP families.
	took, wholes time.Duration
	generation   uint32
	result       cause.Audit
	lacks        string
}

const (
	// auditEvery is how often it is asked whether anything changed, beside being told.
	auditEvery = 10 * time.Second
	// auditLeast lies between two looks at least.
	auditLeast = 50 * time.Millisecond
	// auditSoon is how soon it looks again at what differs.
	auditSoon = 400 * time.Millisecond
	// auditStood is after how long it is asked whether what was right still is: then
	// it was so after kube-proxy had said that it wrote it.
	auditStood = time.Second
	// auditWhole is after how long all is looked at again where only what changed was.
	auditWhole = 15 * time.Minute
	// auditExamples are shown to a person.
	auditExamples = 10
)

// Looks at all Services may take 0.8 % of a core and those at what changed 0.2 %, by
// what the process spends meanwhile; so much more may be spent at once after a calm time.
const (
	wholeShare = 125
	partShare  = 500
	auditBurst = 2 * time.Second
)

// allowance is what may be spent: a share of all time, and what was saved of it.
type allowance struct {
	share time.Duration
	left  time.Duration
	at    time.Time
}

func newAllowance(share time.Duration) *allowance {
	return &allowance{share, auditBurst, time.Now()}
}

// spend takes what was spent until now.
func (l *allowance) spend(now time.Time, cost time.Duration) {
	l.left = min(l.left+now.Sub(l.at)/l.share, auditBurst) - cost
	l.at = now
}

// wait is how long to wait until something may be spent.
func (l *allowance) wait(now time.Time) time.Duration {
	return max(0, -l.left*l.share-now.Sub(l.at))
}

func newRuleAudit(n *Node) *ruleAudit {
	a := &ruleAudit{n: n, contact: &contact{reader: "audit", what: "the rules", logger: n.cfg.Logger}, told: newRulesTold(), wholes: newAllowance(wholeShare), parts: newAllowance(partShare), families: map[rules.Family]*familyAudit{}}
	a.config, a.served, a.says = n.auditConfig, a.serves, a.sync
	a.seen.lacks = "a first look at the rules"
	return a
}

// run looks until the context ends.
func (a *ruleAudit) run(ctx context.Context) {
	go a.told.listen(ctx)
	for {
		began := time.Now()
		l, err := a.lookSafely(ctx)
		switch {
		case err != nil:
			a.contact.failedUnlessStopped(ctx, err)
		default:
			a.contact.succeeded(time.Since(began))
		}
		a.contact.markSynced()
		now := time.Now()
		a.wholes.spend(now, l.whole)
		a.parts.spend(now, l.part)
		rest, limit := max(auditLeast, a.parts.wait(now)), auditEvery
		switch {
		case l.pending: // what differs, and only that, is looked at again soon
			rest = max(rest, auditSoon, min(10*max(l.whole+l.part, l.took), auditEvery))
			limit = rest
		case l.took > 0:
			limit = auditStood
		}
		if l.owed {
			limit = min(limit, a.wholes.wait(now))
		}
		if !a.wait(ctx, rest, max(limit, rest)) {
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
	case <-a.told.news:
	case <-a.n.desired.audit.kick:
	}
	return true
}

// looked is what became of a look.
type looked struct {
	// pending says that something differs that may be on its way.
	pending bool
	// owed says that all Services are to be looked at, which may not be afforded yet.
	owed bool
	// whole and part are what looks at all Services and at some cost of the processors,
	// took how long they took.
	whole, part, took time.Duration
}

func (a *ruleAudit) lookSafely(ctx context.Context) (l looked, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
			a.lose(err.Error())
		}
	}()
	err = a.look(ctx, &l)
	return l, err
}

// lose notes what lacks for a look; what was found before is not gone by that.
func (a *ruleAudit) lose(lacks string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seen = auditSeen{lacks: lacks, result: cause.Audit{Since: a.seen.result.Since}}
}

// look compares what changed since the last one.
func (a *ruleAudit) look(ctx context.Context, l *looked) error {
	began := time.Now()
	cfg, lacks := a.config()
	if lacks != "" { // what was seen before is another question
		a.families = map[rules.Family]*familyAudit{}
		a.lose(lacks)
		return nil
	}
	reader, err := rules.NewReader()
	if err != nil {
		a.lose(err.Error())
		return err
	}
	defer reader.Close()
	seen := auditSeen{at: began, result: cause.Audit{At: began, Drift: map[string]int{}}}
	if seen.generation, err = reader.Generation(); err != nil && cfg.Mode != audit.ModeIPVS {
		a.lose(err.Error())
		return err
	}
	unsure, failed := a.lookFamilies(ctx, reader, cfg, &seen, l)
	if unsure && seen.result.Since.IsZero() && seen.lacks == "" {
		seen.lacks = "time: what has differed since the first look may be on its way"
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if seen.took = a.seen.took; l.took > 0 {
		seen.took = l.took
	}
	a.seen = seen
	return failed
}

// lookFamilies looks at each IP family that kube-proxy serves; unsure says that of one
// nobody knows whether it was ever right, failed why one could not be looked at.
func (a *ruleAudit) lookFamilies(ctx context.Context, reader *rules.Reader, cfg *nodeAuditConfig, seen *auditSeen, l *looked) (unsure bool, failed error) {
	for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
		if !a.served(f) {
			delete(a.families, f)
			continue
		}
		c := *cfg
		c.Family = f
		c.detector()
		text := c.text()
		if c.Mode == audit.ModeIPVS { // an address of the node's is a change of which nobody tells us when kube-proxy hears
			text += fmt.Sprint(c.Addresses)
		}
		one := a.families[f]
		if one == nil || one.config != text { // what was seen before is another question
			one = &familyAudit{config: text}
			a.families[f] = one
		}
		err := a.lookFamily(ctx, reader, one, &c.Config, seen, l)
		switch {
		case errors.Is(err, rules.ErrChanged): // while they were read; what was seen before stands
			l.pending = true
			if one.at.IsZero() {
				seen.lacks = "rules that stand while they are read"
			}
		case err != nil: // the other may be judged all the same
			failed, seen.lacks = err, err.Error()
			if found := a.seen.result.Since; seen.result.Since.IsZero() {
				seen.result.Since = found
			}
			continue
		}
		l.pending = l.pending || one.result.Pending
		seen.add(f, one)
		unsure = unsure || one.result.Unsure
	}
	return unsure, failed
}

// lookFamily compares the rules of an IP family, as far as something changed and
// may be looked at.
func (a *ruleAudit) lookFamily(ctx context.Context, reader *rules.Reader, one *familyAudit, c *audit.Config, seen *auditSeen, l *looked) error {
	version := a.n.desired.auditVersion()
	same := !one.polled && one.generation == seen.generation && one.version == version && slices.Equal(one.addresses, c.Addresses)
	if same && !one.result.Pending && one.result.Since.IsZero() {
		one.at = seen.at
		one.judge.Same(seen.at)
		return nil
	}
	if c.Mode == audit.ModeNFTables && one.generation != seen.generation {
		one.told.Add(a.told.take(ctx, c.Family, seen.generation))
	}
	a.recall(reader, one, c, l)
	began, spent := time.Now(), processors()
	p, result, version, err := a.compare(reader, one, c, seen)
	if p == nil {
		l.owed = true
		return nil
	}
	one.tried = true
	took, cost := time.Since(began), processors()-spent
	l.took += took
	if p.extent == audit.OfAll {
		l.whole += cost
	} else {
		l.part += cost
	}
	l.owed = l.owed || p.owed
	if err != nil {
		return err
	}
	if p.extent != audit.OfAll && one.print != nil {
		if one.since.note(slices.Collect(maps.Keys(p.scope.Services)), p.scope.Nobody); len(one.since.services)+len(one.since.nobody) > one.services/4 {
			one.print = nil // nothing would be spared
		}
	}
	now := time.Now()
	said := a.says(ctx, c.Mode, c.Family, one.judge.Asks(&result, now))
	one.result = one.judge.Look(&result, p.extent, seen.at, now, a.n.desired.auditChanged, said)
	if p.extent != audit.OfSuspects { // else what changed is still to be looked at
		one.at, one.generation, one.version, one.addresses, one.told, one.recalled = seen.at, seen.generation, version, c.Addresses, rules.Changes{}, false
	}
	if p.extent == audit.OfAll {
		one.whole, one.wholeTook, one.wholeCost = seen.at, took, cost
	}
	return nil
}

// compare plans a look and makes it; p is nil if it may not be made now. What takes
// milliseconds is compared with what the API wants while that cannot change, what may
// take seconds with a copy.
func (a *ruleAudit) compare(reader *rules.Reader, one *familyAudit, c *audit.Config, seen *auditSeen) (p *plan, result audit.Result, version int, err error) {
	d := a.n.desired
	d.mu.Lock()
	held := true
	defer func() {
		if held {
			d.mu.Unlock()
		}
	}()
	version = d.audit.version
	c.Zone, c.ZoneKnown = d.audit.zone, d.audit.zone != ""
	is, ok := a.plan(one, c, seen)
	if !ok {
		return nil, result, version, nil
	}
	state := d.audit.state()
	if is.extent == audit.OfAll || c.Mode != audit.ModeNFTables {
		state = &audit.State{Services: maps.Clone(state.Services), Slices: maps.Clone(state.Slices)}
		d.mu.Unlock()
		held = false
	}
	result, err = a.check(reader, state, c, is, one)
	return &is, result, version, err
}

// processors is what the process has spent of them: a look's share of it goes on in
// other threads too, and in the garbage collector.
func processors() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil { // which cannot be
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// counted is how many Services of an IP family are compared; the caller holds the lock
// of desired.
func (a *ruleAudit) counted(state *audit.State, f rules.Family) (n int) {
	if a.n.cfg.Audit == AuditCanary {
		for _, name := range a.n.desired.ownAndProbed() {
			if s := state.Services[name]; s != nil && s.Serves(f) {
				n++
			}
		}
		return n
	}
	for _, s := range state.Services {
		if s.Serves(f) {
			n++
		}
	}
	return n
}

// check reads and compares the rules of an IP family, as far as it is planned.
func (a *ruleAudit) check(reader *rules.Reader, state *audit.State, c *audit.Config, p plan, one *familyAudit) (audit.Result, error) {
	var rs *rules.Ruleset
	var err error
	f := c.Family
	one.polled = false
	switch {
	case c.Mode == audit.ModeIPVS:
		one.polled = true
		v, err := rules.ReadIPVS(f)
		if err != nil {
			return audit.Result{}, err
		}
		return audit.CheckIPVS(v, state, c, p.scope.Services), nil
	case c.Mode == audit.ModeNFTables && p.extent != audit.OfAll:
		if one.frame == nil || one.told.All {
			if one.frame, err = reader.ReadFrame(f); err != nil {
				return audit.Result{}, err
			}
		}
		rs = reader.ReadPart(f, one.frame)
	case c.Mode == audit.ModeNFTables:
		return a.checkAll(reader, state, c, p, one)
	default:
		if rs, one.polled, err = readIPTables(reader, f); err != nil {
			return audit.Result{}, err
		}
	}
	if err != nil {
		return audit.Result{}, err
	}
	return audit.Check(rs, state, c, &p.scope)
}
