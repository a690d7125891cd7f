package prober

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func address(t *testing.T, s string) netip.AddrPort {
	t.Helper()
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// serve answers on a port of its own.
func serve(t *testing.T, handler http.HandlerFunc) netip.AddrPort {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return address(t, strings.TrimPrefix(s.URL, "http://"))
}

// closed is a port on which nobody listens.
func closed(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return address(t, l.Addr().String())
}

// deaf accepts in the kernel and never answers.
func deaf(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return address(t, l.Addr().String())
}

func TestOutcomes(t *testing.T) {
	p := NewPorts(PortConfig{Interval: time.Second, Timeout: 300 * time.Millisecond, Rate: 10})
	ok := serve(t, func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(r.URL.Path)) })
	sick := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	moved := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
	})
	flood := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(strings.Repeat("x", 1<<20)))
	})
	for _, tc := range []struct {
		name          string
		at            netip.AddrPort
		want          Outcome
		status, after int
		body          int
	}{
		{"answered", ok, Answered, 200, 0, len("/healthz")},
		{"unwell, and asked again", sick, Answered, 503, 200, 0},
		{"a redirect is not followed", moved, Answered, 302, 0, -1},
		{"a long answer is cut", flood, Answered, 200, 0, bodyLimit},
		{"refused", closed(t), Refused, 0, 0, 0},
		{"silent", deaf(t), Silent, 0, 0, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := p.ask(t.Context(), PortTarget{Node: "n", Address: tc.at, Path: "/healthz", After: "/livez"})
			if r.Outcome != tc.want || r.Status != tc.status || r.AfterStatus != tc.after || tc.body >= 0 && len(r.Body) != tc.body {
				t.Errorf("got %s %d %d with %d bytes (%s)", r.Outcome, r.Status, r.AfterStatus, len(r.Body), r.Error)
			}
			if (r.Outcome == Answered) != (r.Error == "") {
				t.Errorf("error is %q", r.Error)
			}
		})
	}
}

// Nobody answers for the address, as behind a firewall that drops.
func TestTimeoutIsNotSilence(t *testing.T) {
	ctx, cancel := context.WithDeadlineCause(t.Context(), time.Now(), nil)
	defer cancel()
	if got := outcome(ctx.Err(), false); got != Timeout {
		t.Errorf("no connection is %s", got)
	}
	if got := outcome(ctx.Err(), true); got != Silent {
		t.Errorf("no answer is %s", got)
	}
}

func TestRunCountsAndForgets(t *testing.T) {
	p := NewPorts(PortConfig{Interval: 20 * time.Millisecond, Timeout: time.Second, Rate: 10000})
	targets := make(chan []PortTarget, 1)
	refused := PortTarget{Node: "n1", Address: closed(t), Path: "/"}
	answered := PortTarget{Node: "n2", Address: serve(t, func(http.ResponseWriter, *http.Request) {}), Path: "/"}
	targets <- []PortTarget{refused, answered}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Run(ctx, func() []PortTarget {
			now := <-targets
			targets <- now
			return now
		})
	}()
	await := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal(what)
			}
		}
	}
	await("no three attempts", func() bool {
		a, _ := p.Result("n1", refused.Address.Port())
		b, _ := p.Result("n2", answered.Address.Port())
		if a.Outcome == "" && b.Outcome == "" && p.Reaches() {
			t.Fatal("it reaches somebody before it asked")
		}
		return p.Reaches() && a.Outcome == Refused && a.Times >= 3 && a.At.After(a.Since) && b.Outcome == Answered && b.Times >= 3
	})
	<-targets
	targets <- []PortTarget{answered}
	await("it is not forgotten", func() bool { _, ok := p.Result("n1", refused.Address.Port()); return !ok })
	cancel()
	<-done
}
