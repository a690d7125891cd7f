package prober

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// ServiceConfig says how Services are asked.
type ServiceConfig struct {
	// Interval is how often each target is asked, Timeout that of one attempt; it
	// is less than Interval.
	Interval, Timeout time.Duration
	// Node is the name of the one that asks.
	Node string
	// Backend tells where the kernel sends what goes from own to address, over
	// UDP or TCP; nil if nobody can tell.
	Backend func(own, address netip.AddrPort, udp bool) (netip.AddrPort, bool)
	// Note is told of every round. Several may come at once.
	Note func(*Round)
}

// sample is how many endpoints of a target are asked beside its VIP; all get
// their turn.
const sample = 2

// Services asks Services and what is behind them, at the same moment, again and
// again, each time over new connections.
type Services struct {
	cfg ServiceConfig
	// attempt makes one.
	attempt func(context.Context, *ServiceTarget, Path, netip.AddrPort) Attempt

	mu sync.Mutex
	// mu protects following.
	targets map[TargetKey]*ServiceTarget
}

// NewServices makes one; Run starts it.
func NewServices(cfg ServiceConfig) *Services {
	s := &Services{cfg: cfg, targets: map[TargetKey]*ServiceTarget{}}
	s.attempt = s.connect
	return s
}

// refresh is how soon a new target is found.
const refresh = time.Second

// Run asks what targets says, at each time, until the context ends.
func (s *Services) Run(ctx context.Context, targets func() []ServiceTarget) {
	var wg sync.WaitGroup
	defer wg.Wait()
	running := map[TargetKey]context.CancelFunc{}
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	for {
		now := map[TargetKey]*ServiceTarget{}
		for _, t := range targets() {
			now[t.Key()] = &t
		}
		s.mu.Lock()
		s.targets = now
		s.mu.Unlock()
		for k := range now {
			if running[k] == nil {
				one, stop := context.WithCancel(ctx)
				running[k] = stop
				wg.Go(func() { s.repeat(one, k) })
			}
		}
		for k, stop := range running {
			if now[k] == nil {
				stop()
				delete(running, k)
			}
		}
		select {
		case <-ctx.Done():
			for _, stop := range running {
				stop()
			}
			return
		case <-tick.C:
		}
	}
}

// turn is when in each interval a target is asked: by a hash of the node's name
// and its own, so that neither all targets of a node nor all nodes ask at once.
func (s *Services) turn(k TargetKey) time.Duration {
	return time.Duration(Share(s.cfg.Node+" "+k.String()) * float64(s.cfg.Interval))
}

// repeat asks a target in its turn.
func (s *Services) repeat(ctx context.Context, k TargetKey) {
	next := time.Now().Add(s.turn(k))
	timer := time.NewTimer(time.Until(next))
	defer timer.Stop()
	var failed []netip.AddrPort
	for round := 0; ; round++ {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		s.mu.Lock()
		t := s.targets[k]
		s.mu.Unlock()
		if t != nil {
			r := s.Ask(ctx, t, round, failed)
			if ctx.Err() != nil {
				return // what was cut short says nothing
			}
			r.Late = r.At.Sub(next)
			s.cfg.Note(r)
			failed = r.failed()
		}
		next = next.Add(s.cfg.Interval)
		if behind := time.Since(next); behind > 0 { // it slept, or the clock was moved: none is made up for
			next = time.Now()
		}
		timer.Reset(time.Until(next))
	}
}

// Ask makes one round: the VIP, the NodePort, and a sample of the endpoints that
// goes on from round to round; those that failed before are asked again, and
// those that may be why the Service failed.
func (s *Services) Ask(ctx context.Context, t *ServiceTarget, round int, failed []netip.AddrPort) *Round {
	outer := ctx
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	r := &Round{Target: t, At: time.Now()}
	var wg sync.WaitGroup
	var mu sync.Mutex
	start := func(p Path, e Endpoint) {
		wg.Go(func() {
			a := s.attempt(ctx, t, p, e.Address)
			a.Node, a.Host = e.Node, e.Host
			mu.Lock()
			defer mu.Unlock()
			r.Attempts = append(r.Attempts, a)
		})
	}
	if t.VIP.IsValid() {
		start(PathVIP, Endpoint{Address: t.VIP})
	}
	if t.NodePort.IsValid() {
		start(PathNodePort, Endpoint{Address: t.NodePort})
	}
	for _, e := range sampleOf(t.Endpoints, round, failed) {
		start(PathEndpoint, e)
	}
	wg.Wait()
	if more := t.suspects(r); len(more) > 0 {
		again, cancel := context.WithTimeout(outer, s.cfg.Timeout)
		defer cancel()
		ctx = again
		for _, e := range more {
			start(PathEndpoint, e)
		}
		wg.Wait()
	}
	slices.SortFunc(r.Attempts, func(a, b Attempt) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), a.Address.Compare(b.Address))
	})
	return r
}

// maxAsked is how many endpoints are asked of a Service that failed.
const maxAsked = 8

// suspects are the endpoints that were not asked and may be why the Service or
// the node's port failed: the one that it was sent to, else any.
func (t *ServiceTarget) suspects(r *Round) (out []Endpoint) {
	asked := map[netip.AddrPort]bool{}
	for i := range r.Attempts {
		if a := &r.Attempts[i]; a.Path == PathEndpoint {
			asked[a.Address] = true
		}
	}
	for _, p := range []Path{PathVIP, PathNodePort} {
		a := r.Attempt(p)
		if a == nil || a.OK() {
			continue
		}
		for _, e := range t.Endpoints {
			if !asked[e.Address] && (e.Address == a.Backend || !a.Backend.IsValid() && len(asked) < maxAsked) {
				asked[e.Address] = true
				out = append(out, e)
			}
		}
	}
	return out
}

// failed are the endpoints that did not answer, no more than a sample.
func (r *Round) failed() (out []netip.AddrPort) {
	for i := range r.Attempts {
		if a := &r.Attempts[i]; a.Path == PathEndpoint && !a.OK() && len(out) < sample {
			out = append(out, a.Address)
		}
	}
	return out
}

// sampleOf are the endpoints whose turn it is, and those that failed before.
func sampleOf(all []Endpoint, round int, failed []netip.AddrPort) []Endpoint {
	if len(all) <= sample {
		return all
	}
	var out []Endpoint
	for i := range sample {
		out = append(out, all[(round*sample+i)%len(all)])
	}
	for _, e := range all {
		if slices.Contains(failed, e.Address) && !slices.Contains(out, e) {
			out = append(out, e)
		}
	}
	return out
}

func (s *Services) connect(ctx context.Context, t *ServiceTarget, p Path, at netip.AddrPort) Attempt {
	q := question{module: t.Module, address: at, name: t.Name, host: t.host()}
	var own netip.AddrPort
	if p != PathEndpoint && s.cfg.Backend != nil {
		q.bound = func(a netip.AddrPort) { own = a }
	}
	q.ask(ctx)
	q.out.Module, q.out.Path, q.out.Address = t.Module, p, at
	if own.IsValid() {
		if b, ok := s.cfg.Backend(own, at, t.Module.UDP()); ok && b != at {
			q.out.Backend = b
		}
	}
	return q.out
}
