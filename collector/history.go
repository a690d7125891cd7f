package collector

import (
	"sync"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
)

// history remembers since when a cause has been active where the facts do not
// tell. It is the only memory between two judgements.
type history struct {
	mu sync.Mutex
	// mu protects since: node -> index in cause.All -> when.
	since map[string]map[int]time.Time
}

func newHistory() *history { return &history{since: map[string]map[int]time.Time{}} }

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
