package prober

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
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

// handle lets do speak with whoever connects, one after the other, and closes.
func handle(t *testing.T, do func(net.Conn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			do(c)
			c.Close()
		}
	}()
	return address(t, l.Addr().String())
}

// say says its words to whoever connects, and closes.
func say(t *testing.T, words string) netip.AddrPort {
	t.Helper()
	return handle(t, func(c net.Conn) {
		_, _ = bufio.NewReader(c).ReadString('\n') // or it is reset before it is read
		_, _ = io.WriteString(c, words)
	})
}

// babble begins a header and never ends it.
func babble(t *testing.T) netip.AddrPort {
	t.Helper()
	return handle(t, func(c net.Conn) {
		_, err := io.WriteString(c, "HTTP/1.1 200 OK\r\n")
		for err == nil {
			_, err = io.WriteString(c, "X: y\r\n"+strings.Repeat("Z: z\r\n", 100))
			time.Sleep(time.Millisecond) // not all at once: who reads on waits for his timeout
		}
	})
}

func TestOutcomes(t *testing.T) {
	p := NewPorts(PortConfig{Interval: time.Second, Timeout: 300 * time.Millisecond, Rate: 1000})
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
	}{
		{"answered", ok, Answered, 200, 0},
		{"unwell, and asked again", sick, Answered, 503, 200},
		{"a redirect is not followed", moved, Answered, 302, 0},
		{"a long answer", flood, Answered, 200, 0},
		{"no HTTP", say(t, "220 mail.example ESMTP\r\n"), Failed, 0, 0},
		{"endless headers", babble(t), Failed, 0, 0},
		{"closed at once", say(t, ""), Failed, 0, 0},
		{"refused", closed(t), Refused, 0, 0},
		{"silent", deaf(t), Silent, 0, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := p.ask(t.Context(), PortTarget{Node: "n", Address: tc.at, Path: "/healthz", After: "/livez"})
			if r.Outcome != tc.want || r.Status != tc.status || r.AfterStatus != tc.after {
				t.Errorf("got %s %d %d (%s)", r.Outcome, r.Status, r.AfterStatus, r.Error)
			}
			if (r.Outcome == Answered) != (r.Error == "") {
				t.Errorf("error is %q", r.Error)
			}
		})
	}
}

// Nobody answers for the address, as behind a firewall that drops.
func TestTimeoutIsNotSilence(t *testing.T) {
	for err, want := range map[error][2]Outcome{
		os.ErrDeadlineExceeded: {Timeout, Silent},
		syscall.EHOSTUNREACH:   {Timeout, Timeout},
		syscall.ECONNREFUSED:   {Refused, Refused},
		io.ErrUnexpectedEOF:    {Failed, Failed},
	} {
		for i, connected := range []bool{false, true} {
			if got := outcome(t.Context(), &net.OpError{Err: err}, connected); got != want[i] {
				t.Errorf("%v, connected %v: %s", err, connected, got)
			}
		}
	}
}

// Who stops while he waits has learned nothing.
func TestCancelledSaysNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if a := get(ctx, deaf(t), "/", time.Minute, 0); a.outcome != Cancelled {
		t.Errorf("got %+v", a)
	}
	p := NewPorts(PortConfig{})
	target := PortTarget{Node: "n", Address: closed(t)}
	p.Note(target, PortResult{Outcome: Refused})
	p.Note(target, PortResult{Outcome: Cancelled})
	if r, _ := p.Result("n", target.Address.Port()); r.Outcome != Refused || r.Times != 1 {
		t.Errorf("got %+v", r)
	}
}

// Pages are read once in a life, whole or again.
func TestPages(t *testing.T) {
	var asked, broken atomic.Int32
	broken.Store(2)
	at := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/one":
			asked.Add(1)
			_, _ = w.Write([]byte(strings.Repeat("1", 1<<20)))
		case "/two":
			switch broken.Add(-1) {
			case 1:
				panic(http.ErrAbortHandler)
			case 0:
				w.WriteHeader(http.StatusTeapot)
			default:
				w.WriteHeader(http.StatusNotFound)
			}
		}
	})
	var got []string
	p := NewPorts(PortConfig{Timeout: time.Second, Rate: 10000, Page: func(t PortTarget, path string, status int, body []byte) bool {
		got = append(got, fmt.Sprintf("%s %s %s %d %d", t.Node, t.Life, path, status, len(body)))
		return status != http.StatusTeapot
	}})
	target := PortTarget{Node: "n", Life: "a", Address: at, Path: "/", Pages: []string{"/one", "/two"}}
	for range 4 { // broken, not enough, read, known
		p.readPages(t.Context(), target)
	}
	target.Life = "b"
	p.readPages(t.Context(), target)
	want := []string{"n a /one 200 65536", "n a /one 200 65536", "n a /two 418 0", "n a /one 200 65536", "n a /two 404 0", "n b /one 200 65536", "n b /two 404 0"}
	if !slices.Equal(got, want) || asked.Load() != 4 {
		t.Errorf("asked %d times: %q", asked.Load(), got)
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
	p.mu.Lock()
	p.read["n1"] = "a"
	p.mu.Unlock()
	await("it is not forgotten", func() bool {
		p.mu.Lock()
		_, read := p.read["n1"]
		p.mu.Unlock()
		_, ok := p.Result("n1", refused.Address.Port())
		return !ok && !read
	})
	cancel()
	<-done
}

// However many nodes are new at once, so many attempts start in a second.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many, inASecond = 100, 10
		p := NewPorts(PortConfig{Interval: time.Second, Timeout: time.Nanosecond, Rate: inASecond})
		var targets []PortTarget
		for i := range many {
			targets = append(targets, PortTarget{Node: fmt.Sprint(i), Address: netip.MustParseAddrPort("192.0.2.1:1")})
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { p.Run(ctx, func() []PortTarget { return targets }); close(done) }()
		asked := func() (n int) {
			p.mu.Lock()
			defer p.mu.Unlock()
			return len(p.results)
		}
		for second := range 5 {
			synctest.Wait()
			if n := asked(); n > second*inASecond+inASecond/10+1 {
				t.Fatalf("%d were asked after %ds", n, second)
			}
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if n := asked(); n < 4*inASecond {
			t.Errorf("only %d were asked after 5s", n)
		}
		cancel()
		<-done
	})
}

// BenchmarkAsk is what an attempt costs beside bare dialling, the server's
// side of each in the same process.
func BenchmarkAsk(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() {
		buffer := make([]byte, 512)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if n, _ := c.Read(buffer); n > 0 {
				_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
			}
			c.Close()
		}
	}()
	at, err := netip.ParseAddrPort(l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	b.Run("dial", func(b *testing.B) {
		for b.Loop() {
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			c.Close()
		}
	})
	b.Run("ask", func(b *testing.B) {
		p := NewPorts(PortConfig{Timeout: time.Second})
		for b.Loop() {
			if r := p.ask(b.Context(), PortTarget{Address: at, Path: "/healthz"}); r.Outcome != Answered {
				b.Fatal(r.Error)
			}
		}
	})
}
