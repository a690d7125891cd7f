package main

import (
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	// mostScrapes and mostReports are how many answers of /metrics and of /causes are
	// written at a time: each takes memory, for as long as its client takes to read.
	mostScrapes = 16
	mostReports = 4
	// placeGrace is for how long an answer is let alone that others wait for, and
	// placePatience for how long they do.
	placeGrace    = 2 * time.Second
	placePatience = 10 * time.Second
)

// places bounds how many answers are written at a time. Who comes when there are too
// many waits; of the client that has most of them the oldest is cut, if it takes long.
type places struct {
	most int

	mu sync.Mutex
	// mu protects following.
	held, waiting []*answer // the oldest first
}

// answer is one that is written, or waits for it.
type answer struct {
	client string
	began  time.Time
	cut    func()
	isCut  bool
	admit  chan struct{} // closed when it may be written
}

func newPlaces(most int) *places { return &places{most: most} }

// limit bounds the answers of a handler.
func (p *places) limit(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		client, _, err := net.SplitHostPort(r.RemoteAddr)
		if err != nil {
			client = r.RemoteAddr
		}
		a := &answer{client: client, admit: make(chan struct{})}
		a.cut = func() { _ = http.NewResponseController(w).SetWriteDeadline(time.Now()) }
		p.enter(a)
		defer p.leave(a)
		patience := time.NewTimer(placePatience)
		defer patience.Stop()
		select {
		case <-a.admit:
			h.ServeHTTP(w, r)
		case <-r.Context().Done():
		case <-patience.C:
			w.Header().Set("Retry-After", "1")
			text(w, http.StatusServiceUnavailable, "others are being answered\n")
		}
	})
}

func (p *places) enter(a *answer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = append(p.waiting, a)
	p.settle()
}

func (p *places) leave(a *answer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	is := func(other *answer) bool { return other == a }
	p.held, p.waiting = slices.DeleteFunc(p.held, is), slices.DeleteFunc(p.waiting, is)
	p.settle()
}

// settle gives the places that are free to those who wait, first to clients that have
// the fewest, and makes room for the others. The caller holds mu.
func (p *places) settle() {
	has := map[string]int{}
	cut := 0
	for _, a := range p.held {
		has[a.client]++
		if a.isCut {
			cut++
		}
	}
	for len(p.held) < p.most && len(p.waiting) > 0 {
		next := slices.MinFunc(p.waiting, func(a, b *answer) int { return has[a.client] - has[b.client] })
		p.waiting = slices.DeleteFunc(p.waiting, func(a *answer) bool { return a == next })
		next.began = time.Now()
		p.held = append(p.held, next)
		has[next.client]++
		close(next.admit)
	}
	for ; cut < len(p.waiting); cut++ {
		var victim *answer
		for _, a := range p.held {
			if !a.isCut && (victim == nil || has[a.client] > has[victim.client]) {
				victim = a
			}
		}
		if victim == nil {
			return
		}
		if left := placeGrace - time.Since(victim.began); left > 0 {
			time.AfterFunc(left, func() {
				p.mu.Lock()
				defer p.mu.Unlock()
				p.settle()
			})
			return
		}
		victim.isCut = true
		has[victim.client]--
		victim.cut()
	}
}
