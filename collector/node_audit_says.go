package collector

import (
	"context"
	"errors"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/version"

	"github.com/kproxy-exporter/kproxy-exporter/collector/audit"
	"github.com/kproxy-exporter/kproxy-exporter/collector/local"
	"github.com/kproxy-exporter/kproxy-exporter/collector/rules"
	"github.com/kproxy-exporter/kproxy-exporter/prober"
)

// readIPTables reads what iptables wrote: for nf_tables, or if that has nothing of
// kube-proxy's, as the old one does, which nobody tells of.
func readIPTables(reader *rules.Reader, f rules.Family) (rs *rules.Ruleset, legacy bool, err error) {
	const table, chain = "nat", "KUBE-SERVICES"
	rs, err = reader.ReadIPTables(f)
	there := false
	if err == nil {
		there, err = rs.Has(table, chain)
	}
	if there || err != nil && !errors.Is(err, rules.ErrUnsupported) {
		return rs, false, err
	}
	old, err2 := rules.ReadLegacy(f)
	if err2 != nil {
		return nil, false, err2
	}
	if there, err2 = old.Has(table, chain); err2 != nil || there {
		return old, true, err2
	}
	return rs, false, err
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

// sync is what kube-proxy says of an IP family: now, if it is asked, else what it said
// seconds ago.
func (a *ruleAudit) sync(ctx context.Context, mode string, f rules.Family, asks audit.Asks) audit.Sync {
	n := a.n
	n.mu.Lock()
	at, metrics, process, gone, alive := n.seen.addresses.metrics, n.seen.metrics, n.seen.process, !n.seen.processAt.IsZero() && n.seen.process == nil, n.seen.processAlive
	n.mu.Unlock()
	s := audit.Sync{Away: n.desired.away(time.Now()) || asks.API && !a.answers(ctx)}
	s.Halted = process != nil && process.Stopped()
	if asks.Proxy && at.IsValid() && !s.Halted {
		if m, err := n.readMetrics(ctx, at); err == nil {
			metrics, s.Known, s.Started = m, true, m.Started
		}
		// One that has just begun may run in another mode, and take these rules away.
		if _, body, err := prober.Page(ctx, at, modePage, portTimeout, pageBytes); err != nil || strings.TrimSpace(string(body)) != mode {
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

// answersFor is how long an answer of the API server shows that what it says is heard,
// answerWithin how long one may take.
const (
	answersFor   = 5 * time.Second
	answerWithin = 2 * time.Second
)

// answers is whether the API server answers now, on the connection by which it says
// what it wants: that may be dead in silence, and kube-proxy's not.
func (a *ruleAudit) answers(ctx context.Context) bool {
	api, ok := a.n.cfg.API.(interface {
		Version(context.Context) (version.Info, error)
	})
	if !ok {
		return true
	}
	if time.Since(a.askedAt) > answersFor {
		ctx, cancel := context.WithTimeout(ctx, answerWithin)
		defer cancel()
		_, err := api.Version(ctx)
		var refused apierrors.APIStatus
		a.askedAt, a.answered = time.Now(), err == nil || errors.As(err, &refused)
	}
	return a.answered
}
