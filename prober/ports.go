// Package prober connects as users and monitoring do, and notes what becomes of
// it. It judges nothing and reads no Kubernetes API.
package prober

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// Outcome is what became of an attempt.
type Outcome string

// The outcomes: a closed set.
const (
	Answered Outcome = "answered" // an HTTP response, whatever its status
	Refused  Outcome = "refused"  // the host is there and nobody listens
	Timeout  Outcome = "timeout"  // no word at all: a firewall, or no host
	Silent   Outcome = "silent"   // connected, and no answer came
	Failed   Outcome = "failed"   // anything else
)

// PortTarget is a port of a node and what is asked of it.
type PortTarget struct {
	Node    string
	Address netip.AddrPort
	// Path is asked for by HTTP GET; After too, if Path is answered with 503.
	Path, After string
}

// PortResult is what became of the newest attempt.
type PortResult struct {
	Outcome Outcome
	// Status and Body are of the answer; Body is at most bodyLimit bytes.
	Status int
	Body   string
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

const bodyLimit = 2048

// PortConfig says how the ports are asked.
type PortConfig struct {
	// Interval is how often each port is asked. With many nodes it is longer:
	// never more than Rate attempts start in a second.
	Interval time.Duration
	// Timeout is that of one attempt.
	Timeout time.Duration
	// Rate bounds the attempts that start in a second.
	Rate int
}

// Ports asks the ports of many nodes, again and again, spread over time.
type Ports struct {
	cfg PortConfig

	mu sync.Mutex
	// mu protects results.
	results map[string]map[uint16]PortResult // node -> port
}

// NewPorts makes one; Run starts it.
func NewPorts(cfg PortConfig) *Ports {
	return &Ports{cfg: cfg, results: map[string]map[uint16]PortResult{}}
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
			wg.Go(func() { p.note(t, p.ask(ctx, t)) })
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

// known is whether a port has been asked; a new one is asked at once.
func (p *Ports) known(t PortTarget) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.results[t.Node][t.Address.Port()]
	if !ok {
		p.put(t, PortResult{}) // asked for, no answer yet
	}
	return ok
}

// put stores a result; the caller holds mu.
func (p *Ports) put(t PortTarget, r PortResult) {
	if p.results[t.Node] == nil {
		p.results[t.Node] = map[uint16]PortResult{}
	}
	p.results[t.Node][t.Address.Port()] = r
}

func (p *Ports) note(t PortTarget, r PortResult) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.results[t.Node][t.Address.Port()]
	if r.Outcome == Failed && r.Error == context.Canceled.Error() {
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
	wanted := map[string]map[uint16]bool{}
	for _, t := range now {
		if wanted[t.Node] == nil {
			wanted[t.Node] = map[uint16]bool{}
		}
		wanted[t.Node][t.Address.Port()] = true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for node, ports := range p.results {
		for port := range ports {
			if !wanted[node][port] {
				delete(ports, port)
			}
		}
		if len(ports) == 0 {
			delete(p.results, node)
		}
	}
}

// Result is what became of the newest attempt; false if none has ended yet.
func (p *Ports) Result(node string, port uint16) (PortResult, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r, ok := p.results[node][port]
	return r, ok && r.Outcome != ""
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

// ask makes a new connection and asks once.
func (p *Ports) ask(ctx context.Context, t PortTarget) PortResult {
	r := get(ctx, t.Address, t.Path, p.cfg.Timeout)
	if r.Status == http.StatusServiceUnavailable && t.After != "" {
		r.AfterStatus = get(ctx, t.Address, t.After, p.cfg.Timeout).Status
	}
	r.At = time.Now()
	return r
}

func get(ctx context.Context, address netip.AddrPort, path string, timeout time.Duration) PortResult {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	connected := false
	client := http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DisableKeepAlives: true, Proxy: nil,
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				c, err := (&net.Dialer{}).DialContext(ctx, network, address.String())
				connected = err == nil
				return c, err
			},
		},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s%s", address, path), nil)
	if err != nil {
		return PortResult{Outcome: Failed, Error: err.Error()}
	}
	res, err := client.Do(req)
	if err != nil {
		return PortResult{Outcome: outcome(err, connected), Error: err.Error()}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, bodyLimit))
	if err != nil {
		return PortResult{Outcome: outcome(err, connected), Error: err.Error()}
	}
	return PortResult{Outcome: Answered, Status: res.StatusCode, Body: string(body)}
}

func outcome(err error, connected bool) Outcome {
	var timeout net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return Failed
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused
	case errors.As(err, &timeout) && timeout.Timeout():
		if connected {
			return Silent
		}
		return Timeout
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return Timeout
	}
	return Failed
}
