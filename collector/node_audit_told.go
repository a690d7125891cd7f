package collector

import (
	"context"
	"sync"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/collector/rules"
)

// rulesTold is what the kernel said to have changed and nobody has looked at yet.
type rulesTold struct {
	mu    sync.Mutex
	of    map[rules.Family]*rules.Changes
	heard chan struct{} // closed when something was said next
	news  chan struct{} // says that something was said
}

func newRulesTold() *rulesTold {
	t := &rulesTold{heard: make(chan struct{}), news: make(chan struct{}, 1)}
	t.lost()
	return t
}

// lost forgets what was said: anything may have changed.
func (t *rulesTold) lost() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.of = map[rules.Family]*rules.Changes{rules.IPv4: {All: true}, rules.IPv6: {All: true}}
}

// listen hears the kernel until the context ends; while it cannot, it is asked for
// instead whether anything changed.
func (t *rulesTold) listen(ctx context.Context) {
	for ctx.Err() == nil {
		l, err := rules.Listen()
		if err == nil {
			t.lost()
			for ctx.Err() == nil && err == nil {
				var said map[rules.Family]*rules.Changes
				var changed bool
				if said, changed, err = l.Wait(); changed {
					t.add(said)
				}
			}
			l.Close()
		}
		t.lost()
		select {
		case <-ctx.Done():
		case <-time.After(auditEvery):
		}
	}
}

func (t *rulesTold) add(said map[rules.Family]*rules.Changes) {
	t.mu.Lock()
	for f, c := range said {
		t.of[f].Add(c)
	}
	close(t.heard)
	t.heard = make(chan struct{})
	t.mu.Unlock()
	select {
	case t.news <- struct{}{}:
	default:
	}
}

// hearing is how long it may take until what led to a generation was heard of.
const hearing = 50 * time.Millisecond

// take hands over what was said of an IP family, after all that led to a generation;
// if that does not come, anything may have changed.
func (t *rulesTold) take(ctx context.Context, f rules.Family, generation uint32) *rules.Changes {
	timeout := time.NewTimer(hearing)
	defer timeout.Stop()
	for {
		t.mu.Lock()
		if c := t.of[f]; c.All || int32(c.Generation-generation) >= 0 {
			t.of[f] = &rules.Changes{Generation: c.Generation}
			t.mu.Unlock()
			return c
		}
		heard := t.heard
		t.mu.Unlock()
		select {
		case <-heard:
		case <-timeout.C:
			return &rules.Changes{All: true}
		case <-ctx.Done():
			return &rules.Changes{All: true}
		}
	}
}
