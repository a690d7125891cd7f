package collector

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	dto "github.com/prometheus/client_model/go"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kproxy-exporter/kproxy-exporter/prober"
)

const testCanary = "kproxy-exporter/canary"

// canaryWorld is a node's canary, and where its Service leads.
type canaryWorld struct {
	t *testing.T
	*canary
	mu sync.Mutex
	// mu protects following.
	// leads is the node to which the rules lead, "" if nowhere.
	leads string
	// theirs is what the responders know.
	theirs prober.Turn
	asked  int
	// named is the node that answers, if it is not called as the API says; slow is
	// how long an answer takes.
	named string
	slow  time.Duration
}

// addressOf is the address of a node nN.
func addressOf(node string) netip.Addr {
	if node == "" {
		return netip.Addr{}
	}
	return netip.MustParseAddr("10.99.0.1" + node[1:])
}

// lead lets the rules lead to a node, whose responder says that.
func (w *canaryWorld) lead(node string, says prober.Turn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.leads, w.theirs = node, says
}

// answerAs lets the responder be called otherwise, and be slow.
func (w *canaryWorld) answerAs(named string, slow time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.named, w.slow = named, slow
}

// count is how often it was asked since the last count.
func (w *canaryWorld) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.asked
	w.asked = 0
	return n
}

func newCanaryWorld(t *testing.T) *canaryWorld {
	d := newDesired(&NodeConfig{Canary: testCanary})
	cfg := &NodeConfig{Name: "n1", Probe: ProbeConfig{Interval: 15 * time.Second, Timeout: 3 * time.Second}}
	w := &canaryWorld{t: t, canary: newCanary(cfg, d)}
	d.services[testCanary] = &wantedService{name: testCanary, vips: []netip.Addr{netip.MustParseAddr("10.96.0.9")}, ports: []wantedPort{{port: 80}}}
	w.ask = func(_ context.Context, at netip.AddrPort) (prober.Said, error) {
		w.mu.Lock()
		slow := w.slow
		w.mu.Unlock()
		time.Sleep(slow)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.asked++
		if want := netip.MustParseAddrPort("10.96.0.9:80"); at != want {
			t.Errorf("asked %s, want %s", at, want)
		}
		switch w.leads {
		case "":
			return prober.Said{}, errors.New("nobody")
		case "panic":
			panic("a fault of ours")
		}
		return prober.Said{Node: cmp.Or(w.named, w.leads), Address: addressOf(w.leads), Turn: w.theirs}, nil
	}
	return w
}

// move is what our own watch hears; every five minutes unless it is told otherwise.
func (w *canaryWorld) move(number int64, node string, live bool) {
	w.moveOf(canaryWord{number, 2, 5 * time.Minute}, node, live)
}

func (w *canaryWorld) moveOf(word canaryWord, node string, live bool) {
	s := &wantedSlice{service: testCanary, canary: word, endpoints: []wantedEndpoint{{address: addressOf(node), ready: true}}}
	w.desired.mu.Lock()
	defer w.desired.mu.Unlock()
	w.desired.noteTurn(nil, &wish{slice: s}, live, time.Now())
}

// behind is for how long it has been behind; -1 if nobody knows.
func (w *canaryWorld) behind() time.Duration {
	now := time.Now()
	switch s := w.snapshot(now); {
	case s == nil:
		return -1
	case s.Behind.IsZero():
		return 0
	default:
		return now.Sub(s.Behind)
	}
}

func (w *canaryWorld) wantBehind(what string, least, most time.Duration) {
	w.t.Helper()
	if got := w.behind(); got < least || got > most {
		w.t.Errorf("%s: behind %s, want %s to %s", what, got, least, most)
	}
}

func (w *canaryWorld) wantSamples(what string, n uint64, sum, within float64) {
	w.t.Helper()
	var m dto.Metric
	if err := w.latency.Write(&m); err != nil {
		w.t.Fatal(err)
	}
	h := m.GetHistogram()
	if got := h.GetSampleSum(); h.GetSampleCount() != n || got < sum-within || got > sum+within {
		w.t.Errorf("%s: %d samples, together %gs; want %d, %gs", what, h.GetSampleCount(), got, n, sum)
	}
}

// inCanaryWorld runs one.
func inCanaryWorld(t *testing.T, do func(*canaryWorld)) {
	synctest.Test(t, func(t *testing.T) {
		w := newCanaryWorld(t)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go w.run(ctx)
		do(w)
	})
}

func TestCanary(t *testing.T) {
	inCanaryWorld(t, func(w *canaryWorld) {
		time.Sleep(time.Minute)
		if n := w.count(); n != 0 {
			t.Errorf("it was asked %d times although nothing is ever moved", n)
		}
		w.wantBehind("nobody moves anything", -1, -1)

		w.lead("n1", prober.Turn{})
		w.move(100, "n1", false)
		time.Sleep(time.Minute)
		w.wantBehind("it leads there", 0, 0)
		w.wantSamples("where it led already says nothing of how long it took", 0, 0, 0)

		w.count()
		w.move(101, "n2", true)
		time.Sleep(200 * time.Millisecond)
		w.wantBehind("it has not followed yet", 200*time.Millisecond, 230*time.Millisecond)
		w.lead("n2", prober.Turn{})
		time.Sleep(100 * time.Millisecond)
		w.wantBehind("it follows", 0, 0)
		w.wantSamples("it took 0.2 s", 1, .2, .03)
		if n := w.count(); n < 7 || n > 10 {
			t.Errorf("asked %d times in 0.2s, want every 25ms", n)
		}

		// Who heard before us knows better.
		w.lead("n1", prober.Turn{Number: 102, Current: addressOf("n1"), Seconds: 3})
		w.move(102, "n1", true)
		time.Sleep(100 * time.Millisecond)
		w.wantSamples("the responder had heard 3 s before", 2, 3.2, .06)

		w.move(103, "n2", false)
		w.lead("n2", prober.Turn{Number: 103, Current: addressOf("n2")})
		time.Sleep(100 * time.Millisecond)
		w.wantSamples("nobody knows how long ago a turn was that was listed", 2, 3.2, .06)

		// We heard before the responder, which takes its time to answer.
		w.answerAs("", time.Second)
		w.lead("n2", prober.Turn{Number: 104, Current: addressOf("n1"), Seconds: .5})
		w.move(104, "n1", true)
		time.Sleep(5 * time.Second)
		w.lead("n1", prober.Turn{Number: 104, Current: addressOf("n1"), Seconds: 1.5})
		time.Sleep(3 * time.Second)
		w.wantSamples("a slow answer", 3, 3.2+4.6, .5)
		w.answerAs("", 0)

		// What they alone know is no sample, and its number not believed for long.
		w.lead("n3", prober.Turn{Number: time.Now().Unix(), Current: addressOf("n3"), Seconds: 1})
		time.Sleep(20 * time.Second)
		w.wantBehind("they say whose turn it is", 0, 0)
		w.lead("n3", prober.Turn{Number: 1 << 62, Current: addressOf("n9"), Seconds: 1e5})
		time.Sleep(20 * time.Second)
		w.wantSamples("nothing of our own", 3, 7.8, .5)
		w.move(105, "n2", true)
		w.lead("n2", prober.Turn{})
		time.Sleep(100 * time.Millisecond)
		w.wantSamples("the next turn", 4, 7.8, .6)
		// The same number does not count twice.
		w.lead("n1", prober.Turn{})
		time.Sleep(20 * time.Second)
		w.lead("n2", prober.Turn{})
		time.Sleep(20 * time.Second)
		w.wantSamples("it went away and came back", 4, 7.8, .6)
	})
}

// A node that does not follow: it must be found by what the others say alone, and
// not forgotten when it is the old one's turn again.
func TestCanaryStale(t *testing.T) {
	inCanaryWorld(t, func(w *canaryWorld) {
		w.lead("n2", prober.Turn{})
		w.move(100, "n2", true)
		time.Sleep(20 * time.Second)
		w.wantBehind("well", 0, 0)
		w.lead("n2", prober.Turn{Number: 101, Current: addressOf("n1"), Seconds: 40})
		time.Sleep(15 * time.Second)
		w.wantBehind("the old one says that it is another's turn", 40*time.Second, 56*time.Second)
		w.lead("n2", prober.Turn{Number: 102, Current: addressOf("n2"), Seconds: 1})
		w.move(102, "n2", true)
		time.Sleep(time.Minute)
		w.wantBehind("it is the old one's turn again", 100*time.Second, 116*time.Second)
		if s := w.snapshot(time.Now()); s.Missed != "10.99.0.11" || s.Answers != "10.99.0.12" || s.Node != "n2" {
			t.Errorf("%+v, want n1 missed", s)
		}
		w.lead("n2", prober.Turn{Number: 103, Current: addressOf("n3"), Seconds: 1})
		w.move(103, "n3", true)
		time.Sleep(10 * time.Second)
		w.wantBehind("it misses another turn", 110*time.Second, 127*time.Second)
		w.lead("n1", prober.Turn{Number: 104, Current: addressOf("n1"), Seconds: 1})
		w.move(104, "n1", true)
		time.Sleep(15 * time.Second)
		w.wantBehind("it follows", 0, 0)
		w.wantSamples("the last turn", 1, 1, .1)

		// Nobody answers: it may lead to the right one, which is dead.
		w.lead("n1", prober.Turn{})
		w.move(105, "n2", true)
		time.Sleep(time.Second)
		w.wantBehind("behind", time.Second-30*time.Millisecond, 2*time.Second)
		w.lead("", prober.Turn{})
		time.Sleep(15 * time.Second)
		w.wantBehind("nobody answers", -1, -1)
		w.lead("panic", prober.Turn{})
		time.Sleep(15 * time.Second)
		w.wantBehind("it panics", -1, -1)
		w.lead("n1", prober.Turn{})
		w.move(106, "n1", true)
		time.Sleep(15 * time.Second)
		w.wantBehind("and then the right one does", 0, 0)
		w.wantSamples("nobody knows where it led before", 1, 1, .1)

		w.count()
		w.move(107, "n2", true)
		time.Sleep(10 * time.Minute)
		if n := w.count(); n > 400+51+40 { // every 25 ms for 10 s, every second for a minute, then every 15 s
			t.Errorf("asked %d times in 10 minutes", n)
		}
		w.wantBehind("it never follows", 9*time.Minute+30*time.Second, 10*time.Minute)
	})
}

// A canary that nobody moves any more is nobody's fault, nor is a node that was
// made anew with the address of another.
func TestCanaryOver(t *testing.T) {
	inCanaryWorld(t, func(w *canaryWorld) {
		w.lead("n1", prober.Turn{})
		w.answerAs("a-new-node", 0)
		w.move(100, "n1", true)
		time.Sleep(2 * time.Minute)
		w.wantBehind("it has another name", 0, 0)
		w.answerAs("", 0)
		w.move(101, "n2", true)
		time.Sleep(10 * time.Minute)
		w.wantBehind("it does not follow", 9*time.Minute+45*time.Second, 10*time.Minute)
		time.Sleep(10 * time.Minute)
		w.wantBehind("no turn has come for four intervals", -1, -1)
		w.lead("n1", prober.Turn{Number: time.Now().Unix(), Current: addressOf("n2"), Seconds: 30})
		time.Sleep(time.Minute)
		w.wantBehind("but they have heard of one", 30*time.Second, 91*time.Second)

		// A number that is none, and the next that is less.
		w.moveOf(canaryWord{math.MaxInt64, 2, time.Minute}, "n3", true)
		w.lead("n2", prober.Turn{})
		w.move(102, "n2", true)
		time.Sleep(time.Second)
		w.wantBehind("the next turn", 0, 0)
		slice := &wish{slice: &wantedSlice{service: testCanary}}
		w.desired.mu.Lock()
		w.desired.noteTurn(slice, nil, true, time.Now())
		w.desired.mu.Unlock()
		time.Sleep(20 * time.Minute)
		w.wantBehind("it was deleted", -1, -1)
	})
}

// With many nodes all ask the one responder: not more often than it can bear.
func TestCanaryGap(t *testing.T) {
	for _, tc := range []struct {
		responders        int
		age, want, steady time.Duration
	}{
		{0, 0, 25 * time.Millisecond, 15 * time.Second},
		{50, 0, 25 * time.Millisecond, 15 * time.Second},
		{5000, 0, 2500 * time.Millisecond, 50 * time.Second},
		{2, 11 * time.Second, time.Second, 15 * time.Second},
		{5000, 11 * time.Second, 25 * time.Second, 50 * time.Second},
	} {
		now := turn{canaryWord: canaryWord{responders: tc.responders}}
		if got := now.gap(tc.age); got != tc.want {
			t.Errorf("%d responders, after %s: every %s, want %s", tc.responders, tc.age, got, tc.want)
		}
		if got := (&canary{every: 15 * time.Second}).steady(now); got != tc.steady {
			t.Errorf("%d responders: every %s, want %s", tc.responders, got, tc.steady)
		}
	}
}

func TestCanarySlice(t *testing.T) {
	slice := func(service, turn string, ready bool) *discoveryv1.EndpointSlice {
		node, port := "n2", int32(19250)
		return &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: "kproxy-exporter", Name: service + "-ipv4", Labels: map[string]string{discoveryv1.LabelServiceName: service}, Annotations: map[string]string{canaryTurn: turn, canaryResponders: "7", canaryInterval: "90s"}},
			AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Port: &port}},
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.99.0.12"}, NodeName: &node, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
		}
	}
	for _, tc := range []struct {
		name  string
		slice *discoveryv1.EndpointSlice
		want  int64
	}{
		{"a turn", slice("canary", "12", true), 12},
		{"another Service's", slice("other", "13", true), 0},
		{"nobody is ready", slice("canary", "13", false), 0},
		{"no number", slice("canary", "soon", true), 0},
		{"less than nothing", slice("canary", "-3", true), 0},
		{"more than a number can be", slice("canary", "99999999999999999999", true), 0},
		{"less than what is known", slice("canary", "3", true), 3},
		{"what is known", slice("canary", "5", true), 5},
	} {
		d := newDesired(&NodeConfig{Canary: testCanary})
		if tc.want == 3 || tc.want == 5 {
			d.turn.number = 5
		}
		w, ok := d.convertSlice(tc.slice)
		if !ok {
			t.Fatal("it is no EndpointSlice of a Service")
		}
		now := time.Now()
		d.noteTurn(nil, &w, true, now)
		if d.turn.number != tc.want {
			t.Errorf("%s: turn %+v, want %d", tc.name, d.turn, tc.want)
		}
		if want := (turn{canaryWord{12, 7, 90 * time.Second}, addressOf("n2"), now, true}); tc.want == 12 && d.turn != want {
			t.Errorf("%s: %+v, want %+v", tc.name, d.turn, want)
		}
	}
}

// What a list says, or a watch that has just begun, may be old.
func TestCanaryLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesired(&NodeConfig{Canary: testCanary})
		c := &contact{logger: log.NewNopLogger()}
		c.open(time.Now())
		c.markSynced()
		changed := func(number int64, listed bool) bool {
			w := &wish{slice: &wantedSlice{service: testCanary, canary: canaryWord{number: number}, endpoints: []wantedEndpoint{{address: addressOf("n1"), ready: true}}}}
			d.changed(c, listed, nil, w, time.Now())
			if d.turn.number != number {
				t.Errorf("turn %d, want %d", d.turn.number, number)
			}
			return d.turn.live
		}
		if changed(1, false) {
			t.Error("what a watch says at once is taken for new")
		}
		time.Sleep(justOpened + 1)
		if !changed(2, false) {
			t.Error("what a watch says later is taken for old")
		}
		if changed(3, true) {
			t.Error("what is listed is taken for new")
		}
		d.services[testCanary] = &wantedService{name: testCanary, vips: []netip.Addr{netip.MustParseAddr("169.254.1.1")}, ports: []wantedPort{{port: 80}}}
		if _, at := d.canaryNow(); at.IsValid() {
			t.Errorf("%s is asked", at)
		}
	})
}

func TestCanaryMetric(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newCanaryWorld(t)
		w.lead("n2", prober.Turn{})
		w.move(1, "n1", true)
		now, vip := w.desired.canaryNow()
		w.look(t.Context(), now, vip)
		time.Sleep(20 * time.Second)
		var out strings.Builder
		e := newExposition(&out)
		writeCanary(e, w.snapshot(time.Now()), "n1", time.Now())
		writeCanary(e, nil, "n9", time.Now())
		if err := e.end(); err != nil {
			t.Fatal(err)
		}
		if want := `kproxy_canary_behind_seconds{node="n1"} 20`; !strings.HasSuffix(strings.TrimSpace(out.String()), want) {
			t.Errorf("%s\nwant only %s", out.String(), want)
		}
		time.Sleep(believed * w.every)
		if s := w.snapshot(time.Now()); s != nil {
			t.Error(fmt.Sprint("what is old is believed: ", s))
		}
	})
}
