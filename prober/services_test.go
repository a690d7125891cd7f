package prober

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/net/dns/dnsmessage"
	"maps"
)

// answerDNS answers a query with a code.
func answerDNS(t *testing.T, query []byte, code dnsmessage.RCode) []byte {
	t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		t.Error(err)
	}
	m.Response, m.RCode = true, code
	b, err := m.Pack()
	if err != nil {
		t.Error(err)
	}
	return b
}

// serveUDP answers each datagram with what answer makes of it; nothing if nil.
func serveUDP(t *testing.T, answer func([]byte) []byte) netip.AddrPort {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { c.Close(); <-done })
	go func() {
		defer close(done)
		buffer := make([]byte, 2048)
		for {
			n, from, err := c.ReadFrom(buffer)
			if err != nil {
				return
			}
			if b := answer(slices.Clone(buffer[:n])); b != nil {
				_, _ = c.WriteTo(b, from)
			}
		}
	}()
	return address(t, c.LocalAddr().String())
}

// serveDNSTCP answers one query on each connection.
func serveDNSTCP(t *testing.T) netip.AddrPort {
	t.Helper()
	return handle(t, func(c net.Conn) {
		head := make([]byte, 2)
		if _, err := io.ReadFull(c, head); err != nil {
			return
		}
		query := make([]byte, int(head[0])<<8|int(head[1]))
		if _, err := io.ReadFull(c, query); err != nil {
			return
		}
		b := answerDNS(t, query, dnsmessage.RCodeSuccess)
		_, _ = c.Write(append([]byte{byte(len(b) >> 8), byte(len(b))}, b...))
	})
}

func TestModules(t *testing.T) {
	status := func(code int) netip.AddrPort {
		return serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
	}
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	secure.Config.ErrorLog = nil
	rcode := func(code dnsmessage.RCode) netip.AddrPort {
		return serveUDP(t, func(q []byte) []byte { return answerDNS(t, q, code) })
	}
	lossy := 0
	echo := func(b []byte) []byte { return append([]byte("n1 "), b...) }
	for _, tc := range []struct {
		name   string
		module Module
		at     netip.AddrPort
		want   Reason
		phase  Phase
	}{
		{"somebody listens", ModuleTCP, status(200), ReasonOK, ""},
		{"nobody listens", ModuleTCP, closed(t), ReasonRefused, PhaseConnect},
		{"a page", ModuleHTTP, status(200), ReasonOK, ""},
		{"a page that moved, and is not followed", ModuleHTTP, serve(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		}), ReasonOK, ""},
		{"a page that may not be seen", ModuleHTTP, status(403), ReasonOK, ""},
		{"a server's own error", ModuleHTTP, status(503), ReasonBadAnswer, PhaseAnswer},
		{"no HTTP", ModuleHTTP, say(t, "SSH-2.0\r\n"), ReasonBadAnswer, PhaseAnswer},
		{"it says nothing", ModuleHTTP, deaf(t), ReasonTimeout, PhaseAnswer},
		{"a page over TLS", ModuleHTTPS, address(t, strings.TrimPrefix(secure.URL, "https://")), ReasonOK, ""},
		{"no TLS", ModuleHTTPS, say(t, "hello there\r\n"), ReasonTLS, PhaseTLS},
		{"DNS answers", ModuleDNS, rcode(dnsmessage.RCodeSuccess), ReasonOK, ""},
		{"DNS knows no such name", ModuleDNS, rcode(dnsmessage.RCodeNameError), ReasonOK, ""},
		{"DNS fails", ModuleDNS, rcode(dnsmessage.RCodeServerFailure), ReasonBadAnswer, PhaseAnswer},
		{"DNS answers nonsense", ModuleDNS, serveUDP(t, func([]byte) []byte { return []byte("x") }), ReasonBadAnswer, PhaseAnswer},
		{"DNS answers somebody else", ModuleDNS, serveUDP(t, func(q []byte) []byte { q[0]++; return answerDNS(t, q, 0) }), ReasonTimeout, PhaseAnswer},
		{"the first packet to DNS is lost", ModuleDNS, serveUDP(t, func(q []byte) []byte {
			if lossy++; lossy == 1 {
				return nil
			}
			return answerDNS(t, q, 0)
		}), ReasonOK, ""},
		{"DNS over TCP", ModuleDNSTCP, serveDNSTCP(t), ReasonOK, ""},
		{"DNS over TCP is closed", ModuleDNSTCP, say(t, ""), ReasonReset, PhaseAnswer},
		{"an echo", ModuleUDP, serveUDP(t, echo), ReasonOK, ""},
		{"another echo", ModuleUDP, serveUDP(t, func([]byte) []byte { return []byte("kproxy 00") }), ReasonTimeout, PhaseAnswer},
		{"no echo", ModuleUDP, serveUDP(t, func([]byte) []byte { return nil }), ReasonTimeout, PhaseAnswer},
		{"nobody is there", ModuleUDP, closedUDP(t), ReasonRefused, PhaseAnswer},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := NewServices(ServiceConfig{Interval: time.Minute, Timeout: time.Second})
			a := s.connect(deadline(t, time.Second), &ServiceTarget{Module: tc.module, Name: "kubernetes.default.svc.cluster.local."}, PathVIP, tc.at)
			if a.Reason != tc.want || a.Phase != tc.phase || (a.Error == "") != (tc.want == ReasonOK) {
				t.Errorf("%+v, want %s in phase %q", a, tc.want, tc.phase)
			}
			if a.Path != PathVIP || a.Address != tc.at || a.Total <= 0 || len(a.Took) == 0 {
				t.Errorf("it does not say what was asked: %+v", a)
			}
		})
	}
}

func deadline(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// closedUDP is a port of which the kernel says that nobody is there.
func closedUDP(t *testing.T) netip.AddrPort {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return address(t, c.LocalAddr().String())
}

func TestReasonOf(t *testing.T) {
	for want, errs := range map[Reason][]error{
		ReasonUnreachable: {syscall.EHOSTUNREACH, syscall.ENETUNREACH},
		ReasonLocal:       {syscall.EMFILE, syscall.EADDRNOTAVAIL, syscall.EPERM, fmt.Errorf("dial: %w", syscall.ENOBUFS)},
		ReasonReset:       {syscall.ECONNRESET, io.EOF, io.ErrUnexpectedEOF},
		ReasonTimeout:     {context.DeadlineExceeded},
		ReasonTLS:         {tls.AlertError(40)},
		ReasonBadAnswer:   {errors.New("x"), errAnswer},
	} {
		for _, err := range errs {
			if got := reasonOf(err); got != want {
				t.Errorf("%v: %s, want %s", err, got, want)
			}
		}
	}
}

// A panic is a failed attempt, and nothing more.
func TestAskPanics(t *testing.T) {
	q := question{module: ModuleTCP, address: closed(t), bound: func(netip.AddrPort) { panic("oh") }}
	if q.ask(deadline(t, time.Second)); q.out.Reason != ReasonPanic || !strings.Contains(q.out.Error, "oh") {
		t.Errorf("%+v", q.out)
	}
}

// The kernel's word on where a connection went is asked with the socket's own port.
func TestBackendIsAsked(t *testing.T) {
	at := closed(t)
	backend := netip.MustParseAddrPort("10.1.0.1:80")
	var own netip.AddrPort
	s := NewServices(ServiceConfig{Interval: time.Minute, Timeout: time.Second, Backend: func(o, to netip.AddrPort, udp bool) (netip.AddrPort, bool) {
		if own = o; to != at || udp {
			t.Errorf("asked for %s udp %v", to, udp)
		}
		return backend, true
	}})
	a := s.connect(deadline(t, time.Second), &ServiceTarget{Module: ModuleTCP}, PathVIP, at)
	if a.Reason != ReasonRefused || a.Backend != backend || own.Port() == 0 {
		t.Errorf("%+v from %s", a, own)
	}
	if a := s.connect(deadline(t, time.Second), &ServiceTarget{Module: ModuleTCP}, PathEndpoint, at); a.Backend.IsValid() {
		t.Errorf("of an endpoint nobody asks: %+v", a)
	}
}

func endpoints(n int) (out []Endpoint) {
	for i := range n {
		out = append(out, Endpoint{Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}), 80), Node: fmt.Sprint("n", i)})
	}
	return out
}

func TestSampleOf(t *testing.T) {
	if got := sampleOf(endpoints(1), 7, nil); len(got) != 1 {
		t.Errorf("of one: %v", got)
	}
	all := endpoints(5)
	times := map[Endpoint]int{}
	for round := range 5 {
		got := sampleOf(all, round, nil)
		if len(got) != sample || got[0] == got[1] {
			t.Errorf("round %d: %v", round, got)
		}
		for _, e := range got {
			times[e]++
		}
	}
	gone := netip.MustParseAddrPort("10.1.0.200:80")
	if got := sampleOf(all, 0, []netip.AddrPort{all[4].Address, all[0].Address, gone}); !slices.Equal(got, []Endpoint{all[0], all[1], all[4]}) {
		t.Errorf("those that failed before: %v", got)
	}
	for _, e := range all {
		if times[e] != sample {
			t.Errorf("%v had its turn %d times", e, times[e])
		}
	}
}

// A VIP that fails by an endpoint that was not in the sample has that one asked.
func TestAskTheBackendToo(t *testing.T) {
	all := endpoints(5)
	s := NewServices(ServiceConfig{Interval: time.Minute, Timeout: time.Second})
	s.attempt = func(_ context.Context, _ *ServiceTarget, p Path, at netip.AddrPort) Attempt {
		a := Attempt{Path: p, Address: at, Reason: ReasonOK}
		if p == PathVIP {
			a.Reason, a.Backend = ReasonTimeout, all[4].Address
		}
		return a
	}
	r := s.Ask(t.Context(), &ServiceTarget{VIP: netip.MustParseAddrPort("10.96.0.1:80"), NodePort: netip.MustParseAddrPort("10.0.0.1:30080"), Endpoints: all}, 0, nil)
	var asked []string
	for _, a := range r.Attempts {
		asked = append(asked, string(a.Path)+" "+a.Address.String()+a.Node)
	}
	want := []string{"endpoint 10.1.0.0:80n0", "endpoint 10.1.0.1:80n1", "endpoint 10.1.0.4:80n4", "nodeport 10.0.0.1:30080", "vip 10.96.0.1:80"}
	if !slices.Equal(asked, want) {
		t.Errorf("asked %q, want %q", asked, want)
	}
	s.attempt = func(_ context.Context, _ *ServiceTarget, p Path, at netip.AddrPort) Attempt {
		a := Attempt{Path: p, Address: at, Reason: ReasonOK}
		if p == PathNodePort {
			a.Reason = ReasonTimeout
		}
		return a
	}
	many := endpoints(20)
	if r := s.Ask(t.Context(), &ServiceTarget{NodePort: netip.MustParseAddrPort("10.0.0.1:30080"), Endpoints: many}, 0, nil); len(r.Attempts) != 1+maxAsked {
		t.Errorf("nobody knows where it was sent, and %d of 20 endpoints were asked", len(r.Attempts)-1)
	}
	if got := r.failed(); len(got) != 0 {
		t.Errorf("of the endpoints %v failed", got)
	}
	for i := range r.Attempts {
		r.Attempts[i].Reason = ReasonTimeout
	}
	if got := r.failed(); !slices.Equal(got, []netip.AddrPort{all[0].Address, all[1].Address}) {
		t.Errorf("of the endpoints %v failed", got)
	}
}

// The turns are spread over the whole interval, and differ from node to node.
func TestTurns(t *testing.T) {
	of := func(node string) (quarters [4]int, first time.Duration) {
		s := NewServices(ServiceConfig{Interval: time.Minute, Node: node})
		for port := range uint16(1000) {
			at := s.turn(TargetKey{Service: "default/web", Port: port, Module: ModuleTCP})
			if at < 0 || at >= time.Minute {
				t.Fatalf("port %d at %s", port, at)
			}
			quarters[at/(15*time.Second)]++
		}
		return quarters, s.turn(TargetKey{Service: "default/web"})
	}
	one, first := of("n1")
	for _, n := range one {
		if n < 150 || n > 350 {
			t.Errorf("of 1000 turns in each quarter: %v", one)
		}
	}
	if _, second := of("n2"); first == second {
		t.Errorf("two nodes ask at once, %s after the start", first)
	}
}

// Each target is asked once in an interval, in its own turn, while it is one.
func TestRepeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		rounds := map[string][]*Round{}
		s := NewServices(ServiceConfig{Interval: 10 * time.Second, Timeout: time.Second, Note: func(r *Round) {
			mu.Lock()
			defer mu.Unlock()
			rounds[r.Target.Service] = append(rounds[r.Target.Service], r)
		}})
		slow := time.Duration(0)
		s.attempt = func(ctx context.Context, _ *ServiceTarget, p Path, at netip.AddrPort) Attempt {
			select {
			case <-time.After(slow):
			case <-ctx.Done():
			}
			return Attempt{Path: p, Address: at, Reason: ReasonOK}
		}
		names := []string{"default/a", "default/b", "default/c"}
		targets := func() (out []ServiceTarget) {
			mu.Lock()
			defer mu.Unlock()
			for _, n := range names {
				out = append(out, ServiceTarget{Service: n, Port: 80, Module: ModuleTCP, VIP: netip.MustParseAddrPort("10.96.0.1:80"), Endpoints: endpoints(len(rounds[n]))})
			}
			return out
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { s.Run(ctx, targets); close(done) }()
		time.Sleep(100*time.Second + time.Millisecond)
		mu.Lock()
		starts := map[time.Duration]bool{}
		for _, n := range names {
			if len(rounds[n]) != 10 {
				t.Errorf("%s was asked %d times in ten intervals", n, len(rounds[n]))
			}
			for i, r := range rounds[n] {
				if r.Late > time.Millisecond || i > 0 && r.At.Sub(rounds[n][i-1].At) != 10*time.Second {
					t.Errorf("%s: round %d at %v, %v late", n, i, r.At, r.Late)
				}
			}
			if last := rounds[n][9]; len(last.Target.Endpoints) < 8 {
				t.Errorf("%s: what was asked is old: %d endpoints", n, len(last.Target.Endpoints))
			}
			starts[rounds[n][0].At.Sub(rounds[names[0]][0].At)] = true
		}
		if len(starts) != 3 {
			t.Errorf("they begin together: %v", starts)
		}
		names = names[:1]
		mu.Unlock()
		time.Sleep(2 * time.Second)
		mu.Lock()
		b := len(rounds["default/b"])
		mu.Unlock()
		time.Sleep(time.Minute)
		mu.Lock()
		if len(rounds["default/b"]) != b {
			t.Error("what is no target any more is asked")
		}
		mu.Unlock()
		cancel()
		<-done
	})
}

func TestServiceMetrics(t *testing.T) {
	m := NewServiceMetrics("n1", "host")
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(m)
	target := &ServiceTarget{Service: "default/web", Port: 80, Module: ModuleHTTP, VIP: netip.MustParseAddrPort("10.96.0.1:80")}
	m.Note(&Round{Target: target, Late: time.Millisecond, Attempts: []Attempt{
		{Path: PathVIP, Reason: ReasonOK, Took: []PhaseTime{{PhaseConnect, 2 * time.Millisecond}, {PhaseAnswer, 20 * time.Millisecond}}},
		{Path: PathEndpoint, Reason: ReasonOK}, {Path: PathEndpoint, Reason: ReasonTimeout}, {Path: PathEndpoint, Reason: ReasonOK},
	}})
	const want = `# HELP kproxy_probe_success 1 if the newest attempt at a Service by this path was answered, 0 if not; of endpoints, if all that were asked did.
# TYPE kproxy_probe_success gauge
kproxy_probe_success{ip_family="IPv4",module="http",node="n1",path="endpoint",port="80",service="default/web",vantage="host"} 0
kproxy_probe_success{ip_family="IPv4",module="http",node="n1",path="vip",port="80",service="default/web",vantage="host"} 1
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "kproxy_probe_success"); err != nil {
		t.Error(err)
	}
	count := func(path Path, reason Reason) float64 {
		return testutil.ToFloat64(m.attempts.WithLabelValues(target.Key().Labels(string(path), string(reason))...))
	}
	if count(PathEndpoint, ReasonOK) != 2 || count(PathEndpoint, ReasonTimeout) != 1 || count(PathVIP, ReasonOK) != 1 {
		t.Error("the attempts are counted wrongly")
	}
	if n, err := testutil.GatherAndCount(registry, "kproxy_probes_total"); err != nil || n != 2*len(Reasons) {
		t.Errorf("%d counters %v: they begin at 0, of the paths that are asked", n, err)
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
	m.Keep(map[TargetKey]bool{target.Key(): true})
	if n, err := testutil.GatherAndCount(registry, "kproxy_probe_success"); err != nil || n != 2 {
		t.Errorf("%d %v", n, err)
	}
	m.Keep(nil)
	if n, err := testutil.GatherAndCount(registry, "kproxy_probe_success", "kproxy_probes_total", "kproxy_probe_duration_seconds"); err != nil || n != 0 {
		t.Errorf("a target that is gone has %d series: %v", n, err)
	}
}

func FuzzCheckDNS(f *testing.F) {
	f.Add([]byte{0, 1, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0}, byte(0), byte(1))
	f.Fuzz(func(t *testing.T, answer []byte, high, low byte) {
		err := checkDNS(answer, [2]byte{high, low})
		if err == nil && (len(answer) < 12 || answer[0] != high || answer[1] != low || answer[2]&0x80 == 0) {
			t.Errorf("%x is taken for an answer to %x%x", answer, high, low)
		}
	})
}

// Who accepts a connection was reached, even if he says no more.
func TestConnected(t *testing.T) {
	hangs, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts for it
	if err != nil {
		t.Fatal(err)
	}
	defer hangs.Close()
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	var mu sync.Mutex
	hosts := map[string]bool{}
	wrong := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		hosts[r.Host] = true
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer wrong.Close()
	at := func(a net.Addr) netip.AddrPort { return netip.MustParseAddrPort(a.String()) }
	for _, tc := range []struct {
		name                string
		module              Module
		address             netip.AddrPort
		connected, answered bool
	}{
		{"it hangs", ModuleHTTP, at(hangs.Addr()), true, true},
		{"it hangs before TLS", ModuleHTTPS, at(hangs.Addr()), true, true},
		{"it answers wrongly", ModuleHTTP, at(wrong.Listener.Addr()), true, true},
		{"nobody listens", ModuleHTTP, netip.MustParseAddrPort("127.0.0.1:1"), false, true},
		{"a datagram is not answered", ModuleUDP, at(silent.LocalAddr()), false, false},
	} {
		s := NewServices(ServiceConfig{Interval: time.Minute, Timeout: 100 * time.Millisecond})
		r := s.Ask(t.Context(), &ServiceTarget{Service: "web/shop", Port: 80, Module: tc.module, VIP: tc.address, Endpoints: []Endpoint{{Address: tc.address}}}, 0, nil)
		for i := range r.Attempts {
			if a := &r.Attempts[i]; a.OK() || a.Connected() != tc.connected || a.Answered() != tc.answered {
				t.Errorf("%s: connected %v, answered %v: %+v", tc.name, a.Connected(), a.Answered(), a)
			}
		}
	}
	if want := map[string]bool{"shop.web:80": true}; !maps.Equal(hosts, want) {
		t.Errorf("asked for %v, want %v by each path", hosts, want)
	}
}
