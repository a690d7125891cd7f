package collector

import (
	"cmp"
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
)

// history remembers since when a cause has been active where the facts do not
// tell, and logs what begins, changes and ends: who looks later finds what it was. It
// is the only memory between two judgements.
type history struct {
	logger log.Logger

	mu sync.Mutex
	// mu protects following.
	// known is of a node by the cause's index in cause.All.
	known map[string]map[int]known
	// at is when the newest judgement of a node began: several may be made at once, and
	// what an older one says then is over.
	at map[string]time.Time
	// all is when all nodes were last judged, at first when it began.
	all time.Time
}

// known is what is remembered of an active cause.
type known struct {
	since   time.Time
	details string
}

// unasked is after how long without a scrape all is judged for the log alone.
const unasked = 150 * time.Second

func newHistory(l log.Logger) *history {
	return &history{logger: l, known: map[string]map[int]known{}, at: map[string]time.Time{}, all: time.Now()}
}

// watch judges while nobody else asks for it, until the context ends.
func (h *history) watch(ctx context.Context, judge func(now time.Time)) {
	for {
		h.mu.Lock()
		rest := unasked - time.Since(h.all)
		h.mu.Unlock()
		if rest <= 0 {
			h.safely(judge)
			rest = unasked
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(rest):
		}
	}
}

// safely judges; a panic is no reason to end, as it is none in a scrape.
func (h *history) safely(judge func(now time.Time)) {
	defer func() {
		if p := recover(); p != nil {
			level.Error(h.logger).Log("msg", "cannot judge", "err", fmt.Sprint("panic: ", p), "stack", string(debug.Stack()))
		}
	}()
	judge(time.Now())
}

// judged notes that all nodes were, and forgets others.
func (h *history) judged(now time.Time, all []verdict) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.all = now; len(h.at) <= len(all) {
		return
	}
	is := map[string]bool{}
	for i := range all {
		is[all[i].node] = true
	}
	for node, at := range h.at {
		if !is[node] && !at.After(now) { // else it came meanwhile
			delete(h.at, node)
			delete(h.known, node)
		}
	}
}

// note returns since when each cause of a node has been active, given the
// verdicts now; nil if none is.
func (h *history) note(node string, verdicts []cause.Verdict, now time.Time) []time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	of := h.known[node]
	if late := h.at[node].Sub(now); late > 0 && late < atOnce {
		return over(verdicts, of, now)
	}
	h.at[node] = now
	var out []time.Time
	for i := range verdicts {
		switch v := &verdicts[i]; v.State {
		case cause.Inactive:
			if k, was := of[i]; was {
				level.Info(h.logger).Log("msg", "cause ended", "node", node, "cause", cause.All[i].Name, "after", now.Sub(k.since).Round(time.Second))
			}
			delete(of, i)
		case cause.Active:
			if of == nil {
				of = map[int]known{}
				h.known[node] = of
			}
			if out == nil {
				out = make([]time.Time, len(verdicts))
			}
			out[i] = h.active(node, i, v, of, now)
		case cause.Unknown: // what was begins neither anew nor ends
		}
	}
	if len(of) == 0 {
		delete(h.known, node)
	}
	return out
}

// atOnce is how far apart judgements may begin that are made at once; what is further
// apart is a clock that was set back.
const atOnce = time.Minute

// over is note for a judgement after which another was made: it changes nothing.
func over(verdicts []cause.Verdict, of map[int]known, now time.Time) []time.Time {
	out := make([]time.Time, len(verdicts))
	for i := range verdicts {
		if out[i] = of[i].since; out[i].IsZero() {
			out[i] = cmp.Or(verdicts[i].Since, now)
		}
	}
	return out
}

// active notes a cause that is, and returns since when.
func (h *history) active(node string, i int, v *cause.Verdict, of map[int]known, now time.Time) time.Time {
	k, before := of[i]
	var details []string
	for _, f := range v.Findings {
		details = append(details, f.Detail)
	}
	slices.Sort(details)
	is := strings.Join(details, " ")
	if before && k.details == is {
		return k.since
	}
	what := "cause changed"
	if !before {
		if what, k.since = "cause began", now; !v.Since.IsZero() {
			k.since = v.Since
		}
	}
	k.details = is
	of[i] = k
	for _, f := range v.Findings {
		level.Warn(h.logger).Log("msg", what, "node", node, "cause", cause.All[i].Name, "detail", f.Detail, "evidence", strings.Join(f.Evidence, "; "))
	}
	return k.since
}

func (h *history) forget(node string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.known, node)
	delete(h.at, node)
}
