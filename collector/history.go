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
	// mu protects since.
	since map[historyKey]time.Time
}

type historyKey struct{ node, cause string }

func newHistory() *history { return &history{since: map[historyKey]time.Time{}} }

// begin returns since when a cause is active, given its verdict now.
func (h *history) begin(node, name string, v cause.Verdict, now time.Time) time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := historyKey{node, name}
	switch v.State {
	case cause.Inactive:
		delete(h.since, k)
	case cause.Active:
		if _, known := h.since[k]; !known {
			h.since[k] = now
			if !v.Since.IsZero() {
				h.since[k] = v.Since
			}
		}
	case cause.Unknown: // what was begins neither anew nor ends
	}
	return h.since[k]
}

func (h *history) forget(node string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for k := range h.since {
		if k.node == node {
			delete(h.since, k)
		}
	}
}
