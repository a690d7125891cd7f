// Package prober connects as users and monitoring do, and notes what becomes of
// it. It judges nothing and reads no Kubernetes API.
package prober

import (
	"context"
	"hash/fnv"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// PortTarget is a port of a node and what is asked of it.
type PortTarget struct {
	Node    string
	Address netip.AddrPort
	// Path is asked for by HTTP GET; After too, if Path is answered with 503.
	Path, After string
	// Pages are asked for once in the life of the process behind the port, of
	// which Life is the name, when Path has been answered.
	Pages []string
	Life  string
}

// PortResult is what became of the newest attempt.
type PortResult struct {
	Outcome Outcome
	// Status is that of the answer.
	Status int
	// AfterStatus is the status of the second question, 0 if it was not asked.
	AfterStatus int
	// Error is the error's text, if there was one.
	Error string
	// At is when the attempt ended.
	At time.Time
	// Since is when the first of the unbroken row of attempts with this outcome
	// began, and Times how many there were.
	Since time.Time
	Times int
}

// PortConfig says how the ports are asked.
type PortConfig struct {
	// Interval is how often each port is asked. With many nodes it is longer:
	// never more than Rate attempts start in a second.
	Interval time.Duration
	// Timeout is that of one attempt.
	Timeout time.Duration
	// Rate bounds the attempts that start in a second.
	Rate int
	// Page is told of each page that was answered, and returns whether that is
	// enough for this life; else it is asked for again. The body is cut at
	// pageLimit bytes. Several may come at once.
	Page func(t PortTarget, path string, status int, body []byte) bool
}

// Ports asks the ports of many nodes, again and again, spread over time.
type Ports struct {
	cfg   PortConfig
	limit *rate.Limiter

	mu sync.Mutex
	// mu protects following.
	results map[string][]portResult // by node
	read    map[string]string       // node -> the life whose pages were read
}

// NewPorts makes one; Run starts it.
func NewPorts(cfg PortConfig) *Ports {
	// A tenth of a second's worth may start at once; all nodes are new at first.
	limit := rate.NewLimiter(rate.Limit(cfg.Rate), max(1, cfg.Rate/10))
	return &Ports{cfg: cfg, limit: limit, results: map[string][]portResult{}, read: map[string]string{}}
}

// Run asks what targets says, at each time, until the context ends. Attempts
// are spread by a hash of the node's name, so that they stay evenly apart.
func (p *Ports) Run(ctx context.Context, targets func() []PortTarget) {
	const slots = 20 // of an interval
	var wg sync.WaitGroup
	defer wg.Wait()
	for slot := uint32(0); ; slot = (slot + 1) % slots {
		now := targets()
		pause := max(p.cfg.Interval, time.Duration(len(now))*time.Second/time.Duration(p.cfg.Rate)) / slots
		if slot == 0 {
			p.forget(now)
		}
		timer := time.NewTimer(pause)
		for _, t := range now {
			if hash(t.Node)%slots != slot && p.known(t) {
				continue
			}
			if p.limit.Wait(ctx) != nil {
				return
			}
			wg.Go(func() {
				r := p.ask(ctx, t)
				p.Note(t, r)
				if r.Outcome == Answered {
					p.readPages(ctx, t)
				}
			})
		}
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

func hash(s string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(s)) // never fails
	return h.Sum32()
}

// Share is a number from 0 up to 1 that always is the same for a name: so those
// that would all do something at once do it one after the other.
func Share(name string) float64 { return float64(hash(name)) / (1 << 32) }

// known is whether a port has been asked; a new one is asked at once.
func (p *Ports) known(t PortTarget) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.find(t.Node, t.Address.Port()) != nil {
		return true
	}
	p.put(t, PortResult{}) // asked for, no answer yet
	return false
}

// portResult is a port's result. A node has two: a slice takes a fifth of a
// map's room.
type portResult struct {
	port uint16
	PortResult
}

// find is the result of a port, nil if there is none; the caller holds mu.
func (p *Ports) find(node string, port uint16) *PortResult {
	for i := range p.results[node] {
		if r := &p.results[node][i]; r.port == port {
			return &r.PortResult
		}
	}
	return nil
}

// put stores a result; the caller holds mu.
func (p *Ports) put(t PortTarget, r PortResult) {
	if known := p.find(t.Node, t.Address.Port()); known != nil {
		*known = r
		return
	}
	p.results[t.Node] = append(slices.Grow(p.results[t.Node], 1), portResult{t.Address.Port(), r})
}

// Note notes what became of an attempt.
func (p *Ports) Note(t PortTarget, r PortResult) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var before PortResult
	if known := p.find(t.Node, t.Address.Port()); known != nil {
		before = *known
	}
	if r.Outcome == Cancelled {
		return
	}
	r.Since, r.Times = r.At, 1
	if before.Outcome == r.Outcome && before.Status == r.Status && before.AfterStatus == r.AfterStatus {
		r.Since, r.Times = before.Since, before.Times+1
	}
	p.put(t, r)
}

// forget drops what is no target any more.
func (p *Ports) forget(now []PortTarget) {
	type port struct {
		node   string
		number uint16
	}
	wanted := make(map[port]bool, len(now))
	for _, t := range now {
		wanted[port{t.Node, t.Address.Port()}] = true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for node, ports := range p.results {
		p.results[node] = slices.DeleteFunc(ports, func(r portResult) bool { return !wanted[port{node, r.port}] })
		if len(p.results[node]) == 0 {
			delete(p.results, node)
			delete(p.read, node)
		}
	}
}

// Result is what became of the newest attempt; false if none has ended yet.
func (p *Ports) Result(node string, port uint16) (PortResult, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.find(node, port)
	if r == nil || r.Outcome == "" {
		return PortResult{}, false
	}
	return *r, true
}

// Reaches is whether any host gave any word. If none does, it says more about
// where we stand than about them.
func (p *Ports) Reaches() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, ports := range p.results {
		for _, r := range ports {
			switch r.Outcome {
			case Answered, Refused, Silent:
				return true
			}
		}
	}
	return false
}

// Ask asks a port once and notes what became of it.
func (p *Ports) Ask(ctx context.Context, t PortTarget) PortResult {
	p.Note(t, p.ask(ctx, t))
	r, _ := p.Result(t.Node, t.Address.Port())
	return r
}

// ask makes a new connection and asks once.
func (p *Ports) ask(ctx context.Context, t PortTarget) PortResult {
	a := get(ctx, t.Address, t.Path, p.cfg.Timeout, 0)
	r := PortResult{Outcome: a.outcome, Status: a.status, At: time.Now()}
	if a.err != nil {
		r.Error = a.err.Error()
	}
	if r.Status == http.StatusServiceUnavailable && t.After != "" && p.limit.Wait(ctx) == nil {
		r.AfterStatus = get(ctx, t.Address, t.After, p.cfg.Timeout, 0).status
	}
	return r
}

// readPages asks for the pages of a life that have not been read; what is not
// answered is asked for at the next attempt.
func (p *Ports) readPages(ctx context.Context, t PortTarget) {
	p.mu.Lock()
	done := len(t.Pages) == 0 || p.read[t.Node] == t.Life
	p.mu.Unlock()
	if done {
		return
	}
	enough := true
	for _, path := range t.Pages {
		if p.limit.Wait(ctx) != nil {
			return
		}
		a := get(ctx, t.Address, path, p.cfg.Timeout, pageLimit)
		if a.outcome != Answered {
			return
		}
		enough = p.cfg.Page(t, path, a.status, a.body) && enough
	}
	if !enough {
		return
	}
	p.mu.Lock()
	p.read[t.Node] = t.Life
	p.mu.Unlock()
}
