package collector

import (
	"strings"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
)

// history remembers since when a cause has been active where the facts do not
// tell, and logs what begins and ends: who looks later finds what it was. It is the
// only memory between two judgements.
type history struct {
	logger log.Logger

	mu sync.Mutex
	// mu protects since: node -> index in cause.All -> when.
	since map[string]map[int]time.Time
}

func newHistory(l log.Logger) *history {
	return &history{logger: l, since: map[string]map[int]time.Time{}}
}

// note returns since when each cause of a node has been active, given the
// verdicts now; nil if none is.
func (h *history) note(node string, verdicts []cause.Verdict, now time.Time) []time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	known := h.since[node]
	var out []time.Time
	for i := range verdicts {
		switch v := &verdicts[i]; v.State {
		case cause.Inactive:
			if since, was := known[i]; was {
				level.Info(h.logger).Log("msg", "cause ended", "node", node, "cause", cause.All[i].Name, "after", now.Sub(since).Round(time.Second))
			}
			delete(known, i)
		case cause.Active:
			if known == nil {
				known = map[int]time.Time{}
				h.since[node] = known
			}
			if _, before := known[i]; !before {
				known[i] = now
				if !v.Since.IsZero() {
					known[i] = v.Since
				}
				for _, f := range v.Findings {
					level.Warn(h.logger).Log("msg", "cause began", "node", node, "cause", cause.All[i].Name, "detail", f.Detail, "evidence", strings.Join(f.Evidence, "; "))
				}
			}
			if out == nil {
				out = make([]time.Time, len(verdicts))
			}
			out[i] = known[i]
		case cause.Unknown: // what was begins neither anew nor ends
		}
	}
	if len(known) == 0 {
		delete(h.since, node)
	}
	return out
}

func (h *history) forget(node string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.since, node)
}
