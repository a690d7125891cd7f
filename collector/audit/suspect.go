package audit

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/collector/rules"
)

// Sync is what kube-proxy says of an IP family.
type Sync struct {
	// Queued is when it last heard of a change, Synced when it last wrote its
	// rules; zero if that is not known.
	Queued, Synced time.Time
	// Known says that it said so just now, and Started when its process began.
	Known   bool
	Started time.Time
	// Away says that the API server does not answer us: kube-proxy may not have
	// heard what we did before that.
	Away bool
	// Halted says that its process was stopped by a signal, Gone since when there
	// is none; zero if there is one, or nobody knows.
	Halted bool
	Gone   time.Time
}

// How long rules may differ from what the API wants before that is drift.
const (
	// again is the least between two looks that must agree.
	again = 300 * time.Millisecond
	// told is how long our own watch may be behind kube-proxy's.
	told = 5 * time.Second
	// behind is how long kube-proxy's watch may be behind ours: it waits for up to
	// a minute before it connects again. Other signs are waited for first.
	behind = 105 * time.Second
	// waiting is how long a change that it has heard of may wait to be written.
	waiting = 90 * time.Second
	// restart is how long a process may be away.
	restart = 30 * time.Second
)

// Change is when what the API wants of a Service last changed.
type Change struct {
	// Heard is when that was heard of; zero if it has not been since we listen.
	Heard time.Time
	// Written is when the API server wrote it, by its own clock; zero if nobody knows.
	// What went, and was wanted beside it, is not known by that.
	Written time.Time
}

// suspect is something that differed at the last look.
type suspect struct {
	// at is when what the API wants of it last changed, as far as is known.
	at time.Time
	// written is when the API server wrote what is missing, where that was before the
	// first look; else zero.
	written time.Time
	since   time.Time
	// fresh is since when it differs in this way: what follows on a change comes in steps,
	// and of each we may hear after kube-proxy.
	fresh time.Time
	// calm is when the last look before it began: then it did not differ, and what
	// the API wants has not changed since; zero if that is not so.
	calm   time.Time
	drifts []Drift
	drift  bool
	// never says that it has differed since the first look: it may never have been right.
	never bool
	// proven are those that were drift before the API changed it, and have not gone since;
	// provenSince is since when.
	proven      []Drift
	provenSince time.Time
}

// Extent is how much a look compared.
type Extent uint8

// Extents of looks.
const (
	// OfSuspects is of what differed at the last look, and nothing else.
	OfSuspects Extent = iota
	// OfChanged is also of all that changed since then.
	OfChanged
	OfAll
)

// Judge tells drift from what is being written. It is told of each look at one
// IP family, in turn.
type Judge struct {
	suspects map[string]*suspect
	look     time.Time // when the last began
	started  time.Time
	away     time.Time // when the API server last did not answer
	// sent is whether any packet went where it should at the last look at all, sentAt when
	// the last look began before which that was so.
	sent   bool
	sentAt time.Time
}

// Judgement is what is known of an IP family after a look.
type Judgement struct {
	// Drifts are those that count.
	Drifts []Drift
	// Flushed says that no packet to any Service is treated as it should be.
	Flushed bool
	// Since is the oldest of them.
	Since time.Time
	// Pending says that something differs and may be on its way; Unsure, that it has
	// since the first look, so that nobody knows whether it was ever right.
	Pending, Unsure bool
}

// whole is the suspect of which no Service is: that all rules are gone.
const whole = "\x00all rules"

// apiService is how pods reach the API server. Without its rules it does not answer us,
// and what the API wants of it, or that it wants anything, changes with the API servers
// alone: that we hear nothing is then no reason to wait.
const apiService = "default/kubernetes"

// nobody begins the name of a suspect that is a rule for no Service.
const nobody = "\x01"

// Look judges the result of a look that began at a time. changed says when what the API wants of a Service
// last changed; of "", when something that it had wanted last went.
func (j *Judge) Look(r *Result, extent Extent, began, now time.Time, changed func(service string) Change, sync Sync) Judgement {
	if j.suspects == nil {
		j.suspects, j.started = map[string]*suspect{}, began
	}
	if sync.Away {
		j.away = now
	}
	by := map[string][]Drift{}
	for _, d := range r.Drifts {
		by[d.suspect()] = append(by[d.suspect()], d)
	}
	gone := extent == OfAll && r.Wanted > 0 && r.Sent == 0 && !slices.ContainsFunc(r.Drifts, func(d Drift) bool { return d.Kind != Missing })
	if gone {
		by[whole] = r.Drifts
	}
	for name := range j.suspects {
		if by[name] == nil {
			delete(j.suspects, name)
		}
	}
	var out Judgement
	for name, drifts := range by {
		s := j.suspicion(name, drifts, now, changed)
		away, said := j.away, sync
		if name == whole || name == apiService && (sync.idle(s.calm) || now.Sub(s.since) >= waiting) {
			away, said.Away = time.Time{}, false
		}
		s.drift = s.drift || now.Sub(s.since) >= again && s.counts(now, away, said)
		if !s.drift {
			out.Pending, out.Unsure = true, out.Unsure || s.never
			if len(s.proven) == 0 {
				continue
			}
			drifts = s.proven
		}
		if since := s.oldest(); out.Since.IsZero() || since.Before(out.Since) {
			out.Since = since
		}
		if name == whole {
			out.Flushed = true
		} else {
			out.Drifts = append(out.Drifts, drifts...)
		}
	}
	slices.SortFunc(out.Drifts, func(a, b Drift) int {
		if c := slices.Index(Kinds, a.Kind) - slices.Index(Kinds, b.Kind); c != 0 {
			return c
		}
		return compareText(a.Service+a.What, b.Service+b.What)
	})
	if extent != OfSuspects { // else others may have changed before it
		j.look = began
	}
	if extent == OfAll {
		j.sent = r.Sent > 0
	}
	if extent != OfSuspects && j.sent {
		j.sentAt = began
	}
	return out
}

// suspicion is what is known of something that differs, with how it does now.
func (j *Judge) suspicion(name string, drifts []Drift, now time.Time, changed func(string) Change) *suspect {
	s := j.suspects[name]
	if s == nil {
		s = &suspect{since: now, fresh: now}
		s.at, s.written = j.changedAt(name, drifts, changed)
		if s.calm = j.look; name == whole {
			s.calm = j.sentAt
		}
		s.never = s.calm.IsZero() && s.at.Equal(j.started)
		j.suspects[name] = s
	} else if !strings.HasPrefix(name, nobody) { // which was wanted once or never, but not anew
		s.at, s.written = j.changedAt(name, drifts, changed)
	}
	s.proven = both(s.proven, drifts)
	if !s.calm.IsZero() && s.at.After(s.calm) { // it is another question now
		if s.drift {
			s.provenSince, s.proven = s.oldest(), both(s.drifts, drifts)
		}
		s.calm, s.drift, s.since = time.Time{}, false, now
	}
	if name != whole && s.drifts != nil && !slices.Equal(s.drifts, drifts) {
		s.fresh = now
	}
	s.drifts = drifts
	return s
}

// suspect is the name of what a drift is of: of a rule for nobody the addressee, as
// what it leads to may change.
func (d *Drift) suspect() string {
	switch {
	case d.Service != "":
		return d.Service
	case d.Of != rules.Addressee{}:
		return nobody + fmt.Sprintf("%+v", d.Of)
	}
	return nobody + d.What
}

// oldest is since when the oldest of its drifts is there.
func (s *suspect) oldest() time.Time {
	if len(s.proven) > 0 {
		return s.provenSince
	}
	return s.since
}

// both are the drifts that are in two lists.
func both(a, b []Drift) (out []Drift) {
	if len(a) == 0 {
		return nil
	}
	in := make(map[Drift]bool, len(b))
	for _, d := range b {
		in[d] = true
	}
	for _, d := range a {
		if in[d] {
			out = append(out, d)
		}
	}
	return out
}

// Asks says who is to be asked of what a look found.
type Asks struct {
	// Proxy is kube-proxy: something has differed for long enough to be drift. API is
	// the API server, whether it is heard: for longer than our watch may be behind.
	Proxy, API bool
}

// Asks says whose word matters now; what has just begun to differ is waited for,
// whatever anybody says.
func (j *Judge) Asks(r *Result, now time.Time) (a Asks) {
	for i := range r.Drifts {
		if s := j.suspects[r.Drifts[i].suspect()]; s != nil {
			age := now.Sub(s.since)
			a.Proxy, a.API = a.Proxy || age >= again, a.API || age >= told
		}
	}
	return a
}

// changedAt is when what the API wants of something last changed; what was before
// the first look is not known, but for when the API server wrote what is missing.
func (j *Judge) changedAt(name string, drifts []Drift, changed func(string) Change) (at, written time.Time) {
	switch {
	case name == whole: // the oldest will do: none of them is there
		var heard []time.Time
		for _, d := range drifts {
			if d.Service == "" {
				continue
			}
			c := changed(d.Service)
			heard = append(heard, c.Heard)
			if w := c.Written; !w.IsZero() && (written.IsZero() || w.Before(written)) {
				written = w
			}
		}
		if len(heard) > 0 {
			at = slices.MinFunc(heard, time.Time.Compare)
		}
		if at.After(j.started) {
			return at, time.Time{}
		}
		return j.started, written
	case strings.HasPrefix(name, nobody):
		name = ""
	}
	c := changed(name)
	switch {
	case c.Heard.After(j.started):
		return c.Heard, time.Time{}
	case slices.ContainsFunc(drifts, func(d Drift) bool { return d.Kind == Missing || d.Kind == Unlinked }):
		return j.started, c.Written
	}
	return j.started, time.Time{}
}

// Suspects are the Services, and the addressees of rules that are of none, that
// differed at the last look; ok is false if something else did.
func (j *Judge) Suspects() (services map[string]bool, nobodys []rules.Addressee, ok bool) {
	services = map[string]bool{}
	for name, s := range j.suspects {
		switch {
		case name == whole:
			return nil, nil, false
		case !strings.HasPrefix(name, nobody):
			services[name] = true
			continue
		}
		for _, d := range s.drifts {
			if d.Of == (rules.Addressee{}) {
				return nil, nil, false
			}
			nobodys = append(nobodys, d.Of)
		}
	}
	return services, nobodys, true
}

// Same notes that at a time the rules were still as at the last look.
func (j *Judge) Same(now time.Time) {
	if !j.look.IsZero() {
		j.look = now
	}
	if j.sent {
		j.sentAt = now
	}
}

func compareText(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// counts is whether a difference is none that kube-proxy is about to mend.
func (s *suspect) counts(now, away time.Time, k Sync) bool {
	dead := k.Halted || !k.Gone.IsZero() && now.Sub(k.Gone) >= restart
	if !s.calm.IsZero() {
		// It was right, and nothing was to be changed. If kube-proxy wrote rules
		// since, or is about to, or has and does not say so yet, it may know more than
		// we were told yet, for longer where the API server did not answer us. Another
		// that begins may do so in another way, and take the rules of the first away.
		same := k.Known && !k.Started.IsZero() && k.Started.Before(s.calm)
		switch age := now.Sub(s.since); {
		case dead, same && k.idle(s.calm):
			return true
		case away.After(s.calm):
		case same:
			return now.Sub(s.fresh) >= told || age >= waiting
		default:
			return age >= restart
		}
	}
	at := s.at
	if away.After(at) {
		at = away
	}
	age := now.Sub(at)
	switch {
	case dead && !k.Away:
		return true
	case s.stood(now, k) && !away.After(s.since):
		return true
	// That it says that it wrote tells little: a sync that began before may end after.
	case k.Known && !k.Queued.Before(at.Add(-told)) && !k.Queued.IsZero():
		return age >= waiting
	}
	return age >= behind
}

// idle is whether kube-proxy has written nothing since a time, nor is about to.
func (k *Sync) idle(since time.Time) bool {
	return !k.Synced.IsZero() && k.Synced.Before(since) && !k.Queued.After(k.Synced)
}

// stood is whether what is missing has long been wanted, by the API server's own clock,
// and kube-proxy has written rules since. Clocks may differ, so that it has to be
// missing for as long as a watch that stands may be behind.
func (s *suspect) stood(now time.Time, k Sync) bool {
	return !s.written.IsZero() && now.Sub(s.fresh) >= told && now.Sub(s.written) >= behind &&
		k.Known && !k.Started.IsZero() && k.Synced.After(k.Started) && k.Synced.After(s.written)
}
