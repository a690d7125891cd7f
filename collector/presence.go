package collector

import (
	"sync"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
)

// presence knows since when a node has had no kube-proxy pod.
type presence struct {
	mu sync.Mutex
	// mu protects following.
	live map[string]int       // node -> pods that run or will
	gone map[string]time.Time // node -> since when live is 0
	seen map[string]bool      // nodes whose last pod was seen to go
	// evicted are the pods that were evicted last and have not come back.
	evicted map[string]cause.Eviction
	// ever reports whether a kube-proxy pod or DaemonSet was seen.
	ever bool
	// wanted is since when a DaemonSet wants a pod on a node.
	wanted map[string]time.Time
}

func newPresence() *presence {
	return &presence{live: map[string]int{}, gone: map[string]time.Time{}, seen: map[string]bool{}, wanted: map[string]time.Time{}, evicted: map[string]cause.Eviction{}}
}

func (p *presence) podChanged(previous, current *podRow, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ever = p.ever || current != nil
	count := func(r *podRow, by int) {
		if r == nil || r.status.Phase == "Failed" || r.status.Phase == "Succeeded" {
			return
		}
		p.live[r.node] += by
		if p.live[r.node] > 0 {
			delete(p.gone, r.node)
		} else {
			delete(p.live, r.node)
			p.gone[r.node], p.seen[r.node] = now, true
		}
	}
	if current != nil && current.status.Evicted() && (previous == nil || !previous.status.Evicted()) {
		p.evicted[current.node] = cause.Eviction{Pod: current.status.Name, Message: current.status.Message, Seen: now}
	}
	if previous != nil && previous.status.Container != nil && previous.status.Container.Running() &&
		now.Sub(previous.status.Container.Started) >= cause.EvictionOver && (current == nil || !current.status.Evicted()) {
		delete(p.evicted, previous.node) // it had come back
	}
	count(current, 1)
	count(previous, -1)
}

// goneSince is since when a node without a pod has none, and whether the last
// was seen to go: now, if it never had one.
func (p *presence) goneSince(node string, now time.Time) (since time.Time, seenGoing bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.live[node] > 0 {
		return time.Time{}, false
	}
	if t, ok := p.gone[node]; ok {
		return t, p.seen[node]
	}
	p.gone[node] = now
	return now, false
}

// everSeen reports whether a kube-proxy pod or DaemonSet was seen, now or before.
func (p *presence) everSeen(now bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ever = p.ever || now
	return p.ever
}

// wantedSince is since when a DaemonSet has wanted a pod on a node; zero while
// none does.
func (p *presence) wantedSince(node string, pl *cause.Placement, now time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !pl.Selected || pl.Untolerated != "" {
		delete(p.wanted, node)
		return time.Time{}
	}
	if _, known := p.wanted[node]; !known {
		p.wanted[node] = now
	}
	return p.wanted[node]
}

// lastEviction is the eviction that was seen last on a node, nil if none was.
func (p *presence) lastEviction(node string) *cause.Eviction {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e, ok := p.evicted[node]; ok {
		return &e
	}
	return nil
}

func (p *presence) forget(node string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.gone, node)
	delete(p.wanted, node)
	delete(p.seen, node)
	delete(p.evicted, node)
}
