// Package kubelog reads a log of kube-proxy and names the entry that says why
// it does not do its job. It knows kube-proxy's words from 1.0 to 1.37, and
// which of its errors are noise. It does not fetch logs and does not judge nodes.
package kubelog

import (
	"regexp"
	"strings"
	"time"
)

// Result is what a log says.
type Result struct {
	// Class is "cause/detail", as the causes are called; empty if no entry decides.
	Class string
	// Line is the entry that decides, without its time and place; if none
	// does, the last error, if any.
	Line string
	// At is when the entry was written; zero if no carrier tells.
	At time.Time
	// clock is klog's own time, which lacks the year and the zone.
	clock time.Duration
}

// Time is At or, if no carrier told, klog's time in the year before now, taken
// for UTC; zero if it has none either.
func (r Result) Time(now time.Time) time.Time {
	if !r.At.IsZero() || r.clock == 0 {
		return r.At
	}
	c := time.Date(leapYear, 1, 1, 0, 0, 0, 0, time.UTC).Add(r.clock - 1)
	t := time.Date(now.Year(), c.Month(), c.Day(), c.Hour(), c.Minute(), c.Second(), 0, time.UTC)
	if t.After(now.Add(24 * time.Hour)) {
		t = t.AddDate(-1, 0, 0)
	}
	return t
}

// Classify reads a whole log, oldest line first. What ended the process is in
// its last errors; everything before is usually noise of the same start. So
// patterns are tried on the last entry first.
func Classify(log []byte) Result {
	var weak, unknown Result
	all := entries(log)
	var after aftermath
	for i := len(all) - 1; i >= 0; i-- {
		e := all[i]
		after.note(e)
		if e.severity == info || isNoise(e.body) {
			continue
		}
		p := match(e)
		switch {
		case p == nil:
			// Only what calls itself an error is worth quoting.
			if unknown.Line == "" && (e.severity == failure || e.severity == plain && starters.MatchString(e.body)) {
				unknown.Line = first(e.body)
			}
		case after.tookBack(p, e):
		case p.weak:
			if weak.Class == "" {
				weak = Result{p.class, first(e.body), e.at, e.clock}
			}
		default:
			return Result{p.class, quote(p, e.body), e.at, e.clock}
		}
	}
	switch {
	case weak.Class != "":
		return weak
	case unknown.Line == "" && len(all) > 0 && waiting.MatchString(all[len(all)-1].body):
		last := all[len(all)-1]
		return Result{ClassWaiting, first(last.body), last.at, last.clock}
	}
	return unknown
}

// aftermath is what a log says after an entry.
type aftermath struct {
	last          time.Duration // the newest klog time, since the year began; 0 if none
	caches, syncs int
}

var (
	cachesSynced = regexp.MustCompile(`^"?Caches (are|is) synced`)
	rulesSynced  = regexp.MustCompile(`^"?SyncProxyRules complete`)
)

func (a *aftermath) note(e entry) {
	if a.last == 0 {
		a.last = e.clock
	}
	if e.severity != info {
		return
	}
	if cachesSynced.MatchString(e.body) {
		a.caches++
	}
	if rulesSynced.MatchString(e.body) {
		a.syncs++
	}
}

// repeats is how soon a failure that lasts is said again: client-go and the
// proxiers try at least every half minute.
const repeats = 2 * time.Minute

// tookBack is whether what came after an entry shows that it was over: a watch
// that was refused and has worked since, a sync that failed and was repeated.
// A failed sync says "complete" too, so it takes a second one.
func (a *aftermath) tookBack(p *pattern, e entry) bool {
	long := e.clock > 0 && a.last-e.clock >= repeats
	switch {
	case strings.HasPrefix(p.class, "api_unreachable/"):
		return a.caches > 0 || long
	case p.class == "rules_stale/sync_failing":
		return a.syncs > 1 || a.syncs > 0 && long
	}
	return false
}

// ClassOf is the class of one line, empty if it decides nothing by itself.
func ClassOf(line []byte) string {
	e, _ := parse(clip(line))
	if e.severity == info || isNoise(e.body) {
		return ""
	}
	if p := match(e); p != nil {
		return p.class
	}
	return ""
}

// ClassWaiting is the class of a log that ends with kube-proxy waiting for the
// API server. Since 1.37 it says nothing more when its connections are
// refused, so it counts only of a process that has had time to do better.
const ClassWaiting = "api_unreachable/refused"

var waiting = regexp.MustCompile(`^"?Waiting for caches to sync"?$`)

// match finds the first pattern of an entry. A warning decides only where the
// pattern says that old versions warned of what ends them.
func match(e entry) *pattern {
	for i := range patterns {
		p := &patterns[i]
		if (e.severity != warning || p.warns) && p.expr.MatchString(e.body) {
			return p
		}
	}
	return nil
}

// quote is the first line of an entry and, if another one decides, that one too.
func quote(p *pattern, body string) string {
	head, rest, more := strings.Cut(body, "\n")
	if !more || p.expr.MatchString(head) {
		return head
	}
	for _, line := range strings.Split(rest, "\n") {
		if p.expr.MatchString(line) {
			return head + " " + strings.TrimSpace(line)
		}
	}
	return strings.ReplaceAll(body, "\n", " ") // it takes them all
}

func first(body string) string {
	head, _, _ := strings.Cut(body, "\n")
	return head
}

func isNoise(body string) bool {
	for _, n := range noise {
		if n.expr.MatchString(body) && (n.unless == nil || !n.unless.MatchString(body)) {
			return true
		}
	}
	return false
}
