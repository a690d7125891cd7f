package collector

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
	"github.com/kproxy-exporter/kproxy-exporter/prober"
)

// Annotations of the canary's EndpointSlice: the number of the turn, how many
// responders there are, and how soon the next turn comes.
const (
	canaryTurn       = "kproxy-exporter/canary-turn"
	canaryResponders = "kproxy-exporter/canary-responders"
	canaryInterval   = "kproxy-exporter/canary-interval"
)

// canaryWord is what an EndpointSlice says of a turn; a number of 0 is none.
type canaryWord struct {
	number     int64
	responders int
	interval   time.Duration
}

// canaryOf reads the annotations; what cannot be read is 0.
func canaryOf(s *discoveryv1.EndpointSlice) canaryWord {
	var w canaryWord
	var err error
	if w.number, err = strconv.ParseInt(s.Annotations[canaryTurn], 10, 64); err != nil || w.number < 0 {
		return canaryWord{}
	}
	if w.responders, err = strconv.Atoi(s.Annotations[canaryResponders]); err != nil || w.responders < 0 {
		w.responders = 0
	}
	if w.interval, err = time.ParseDuration(s.Annotations[canaryInterval]); err != nil || w.interval < 0 {
		w.interval = 0
	}
	return w
}

// turn is whose turn it is, as this node heard from the API.
type turn struct {
	canaryWord
	address netip.Addr
	// at is when this node heard of it: it is so at least since then. live says that
	// it was listening, so that it is hardly longer.
	at   time.Time
	live bool
}

// over is whether the next turn is so late that nobody moves the canary any more.
func (t turn) over(now time.Time) bool {
	return t.number == 0 || now.Sub(t.at) > 3*max(t.interval, time.Minute)
}

// noteTurn notes what the canary's EndpointSlice says; the caller holds mu.
func (d *desired) noteTurn(previous, current *wish, live bool, now time.Time) {
	is := func(w *wish) bool { return w != nil && w.slice != nil && w.slice.service == d.canary }
	if is(previous) && !is(current) {
		d.turn = turn{}
	}
	if !is(current) || current.slice.canary.number == d.turn.number {
		return
	}
	s := current.slice
	i := slices.IndexFunc(s.endpoints, func(e wantedEndpoint) bool { return e.ready })
	if s.canary.number == 0 || i < 0 {
		return
	}
	d.turn = turn{s.canary, s.endpoints[i].address, now, live}
	select {
	case d.turned <- struct{}{}:
	default: // it has not looked yet
	}
}

// canaryNow is whose turn it is, and where the Service is to be asked; invalid
// if there is none.
func (d *desired) canaryNow() (turn, netip.AddrPort) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.services[d.canary]
	if s == nil || len(s.vips) == 0 || len(s.ports) == 0 || !dialable(s.vips[0]) {
		return d.turn, netip.AddrPort{}
	}
	return d.turn, netip.AddrPortFrom(s.vips[0], s.ports[0].port)
}

// respond answers anybody until the context ends; it tries again while somebody
// else has the port.
func (n *Node) respond(ctx context.Context) {
	r := prober.Responder{Node: n.cfg.Name, Knows: func() prober.Turn {
		t, _ := n.desired.canaryNow()
		if t.over(time.Now()) {
			return prober.Turn{}
		}
		return prober.Turn{Number: t.number, Current: t.address, Seconds: time.Since(t.at).Seconds()}
	}}
	const again = 30 * time.Second
	for {
		if err := r.Serve(ctx, n.cfg.Responder, func() { n.responder.succeeded(0) }); err != nil {
			n.responder.failedUnlessStopped(ctx, err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(again):
		}
	}
}

// canary asks the Service whose backend the cluster role moves, and measures how
// long it takes until the rules here follow.
//
// No clock is compared with another node's: a responder says for how long it has
// been its turn, since it heard so itself.
type canary struct {
	node    string
	desired *desired
	// every is how often it is asked while nothing changes, timeout how long an
	// answer may take.
	every, timeout time.Duration
	ask            func(context.Context, netip.AddrPort) (prober.Said, error)
	latency        prometheus.Histogram

	mu sync.Mutex
	// mu protects following.
	seen     cause.Canary
	followed int64 // the turn that the rules were last seen to follow
}

func newCanary(cfg *NodeConfig, d *desired) *canary {
	return &canary{
		node: cfg.Name, desired: d, every: cfg.Probe.Interval, timeout: cfg.Probe.Timeout, ask: prober.AskResponder,
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "kproxy_canary_latency_seconds", ConstLabels: prometheus.Labels{"node": cfg.Name},
			Help:    "How long after the canary Service was moved, by its EndpointSlice, it led to its new backend from this node.",
			Buckets: []float64{.025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120}, NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100,
		}),
	}
}

// run asks until the context ends: now and then, and often from when the API says
// that it was moved until the rules follow.
func (c *canary) run(ctx context.Context) {
	timer := time.NewTimer(c.every)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.desired.turned:
			now, _ := c.desired.canaryNow() // each node begins at another moment
			timer.Reset(time.Duration(float64(now.gap(0)) * prober.Share(fmt.Sprint(c.node, " ", now.number))))
			continue
		case <-timer.C:
		}
		now, vip := c.desired.canaryNow()
		if now.number != 0 && vip.IsValid() {
			c.look(ctx, now, vip)
		}
		timer.Reset(c.wait(now))
	}
}

// wait is how long to wait before it is asked again.
func (c *canary) wait(now turn) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	age := time.Since(now.at)
	if c.followed == now.number || age > time.Minute {
		return c.steady(now)
	}
	return min(c.steady(now), now.gap(age))
}

// steady is how often it is asked while nothing changes: all nodes ask the same
// responder, so less often where there are many.
func (c *canary) steady(now turn) time.Duration {
	const each = 10 * time.Millisecond
	return max(c.every, time.Duration(now.responders)*each)
}

// gap is how often it is asked while the rules do not follow yet: as often as the
// one responder can bear whom all nodes ask then.
func (t turn) gap(age time.Duration) time.Duration {
	shortest, each := 25*time.Millisecond, 500*time.Microsecond
	if age > 10*time.Second {
		shortest, each = time.Second, 5*time.Millisecond
	}
	return max(shortest, time.Duration(t.responders)*each)
}

// look asks once.
func (c *canary) look(ctx context.Context, now turn, vip netip.AddrPort) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	began := time.Now()
	said, err := c.askSafely(ctx, vip)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil { // whether it is the right one nobody can tell
		c.seen = cause.Canary{}
		return
	}
	c.note(now, said, began, time.Since(began))
}

// askSafely makes an error of a panic.
func (c *canary) askSafely(ctx context.Context, vip netip.AddrPort) (said prober.Said, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return c.ask(ctx, vip)
}

// ahead is how far a turn's number, which is a time, may be ahead of our clock.
const ahead = 24 * time.Hour

// note notes an answer; the caller holds mu.
func (c *canary) note(now turn, said prober.Said, began time.Time, took time.Duration) {
	current, age := now.address, began.Sub(now.at)
	theirs := time.Duration(said.Seconds*float64(time.Second)) - took
	more := said.Number > now.number && said.Number <= began.Add(ahead).Unix()
	switch {
	case more: // it heard more than we
		current, age = said.Current, theirs
	case now.over(began):
		c.seen = cause.Canary{} // nobody moves it any more
		return
	case said.Number == now.number:
		age = max(age, theirs) // who heard first knows better
	}
	age = max(0, age)
	before := c.seen.Answers
	answers := said.Address.String()
	moved := answers != before
	c.seen.At = began
	if c.seen.Times++; moved {
		c.seen = cause.Canary{At: began, Answers: answers, Node: said.Node, Times: 1}
	}
	switch {
	case !moved && !c.seen.Behind.IsZero():
		// It missed a turn and has not moved since, even if it is its turn again.
	case said.Address != current:
		c.seen.Behind, c.seen.Missed = began.Add(-age), current.String()
	case !more:
		if moved && before != "" && now.live && now.number != c.followed {
			c.latency.Observe(age.Seconds())
		}
		c.followed = now.number
	}
}

// snapshot is what was seen last, if it still counts.
func (c *canary) snapshot(now time.Time) *cause.Canary {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, _ := c.desired.canaryNow()
	if c.seen.At.IsZero() || now.Sub(c.seen.At) > believed*c.steady(t)+c.timeout {
		return nil
	}
	out := c.seen
	return &out
}

var canaryBehind = family{"kproxy_canary_behind_seconds",
	"For how long the canary Service has led from this node to another backend than the API says; 0 if it leads to the right one.", []string{"node"}}

func writeCanary(e *exposition, c *cause.Canary, node string, now time.Time) {
	if c == nil {
		return
	}
	behind := 0.0
	if !c.Behind.IsZero() {
		behind = now.Sub(c.Behind).Seconds()
	}
	e.begin(&canaryBehind)
	e.sample(behind, node)
}
