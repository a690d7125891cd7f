package prober

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

func startResponder(t *testing.T, node string, knows func() Turn) netip.AddrPort {
	t.Helper()
	return startResponderAt(t, "127.0.0.1", node, knows)
}

// startResponderAt starts one that listens at an address, at all if it is empty.
func startResponderAt(t *testing.T, host, node string, knows func() Turn) netip.AddrPort {
	t.Helper()
	// A port that is free for both protocols.
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort(tcp.Addr().String())
	tcp.Close()
	ctx, stop := context.WithCancel(t.Context())
	listening, done := make(chan struct{}), make(chan error, 1)
	r := &Responder{Node: node, Knows: knows}
	go func() {
		done <- r.Serve(ctx, net.JoinHostPort(host, fmt.Sprint(at.Port())), func() { close(listening) })
	}()
	select {
	case <-listening:
	case err := <-done:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("it ends with %v", err)
		}
	})
	return at
}

func TestResponder(t *testing.T) {
	at := startResponder(t, "n1", func() Turn { return Turn{7, netip.MustParseAddr("10.0.0.2"), 1.5} })
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	said, err := AskResponder(ctx, at)
	if want := (Said{"n1", at.Addr(), Turn{7, netip.MustParseAddr("10.0.0.2"), 1.5}}); err != nil || said != want {
		t.Errorf("%+v, %v; want %+v", said, err, want)
	}
	for _, m := range []Module{ModuleTCP, ModuleHTTP, ModuleUDP} {
		q := question{module: m, address: at}
		q.ask(ctx)
		if !q.out.OK() {
			t.Errorf("%s: %+v", m, q.out)
		}
	}
	silent := startResponder(t, "n1", nil)
	if said, err := AskResponder(ctx, silent); err != nil || said != (Said{Node: "n1", Address: silent.Addr()}) {
		t.Errorf("one that knows of no turn: %+v, %v", said, err)
	}
	// One that listens already.
	if err := (&Responder{Node: "n1"}).Serve(ctx, at.String(), func() { t.Error("it listens where another does") }); err == nil {
		t.Error("no error")
	}
}

// A node has many addresses: it must answer from that which was asked, over
// both families.
func TestResponderEverywhere(t *testing.T) {
	for _, host := range []string{"", "0.0.0.0"} {
		at := startResponderAt(t, host, "n1", nil)
		asked := []string{"127.0.0.1", "127.0.0.5"}
		if host == "" && !noIPv6() {
			asked = append(asked, "::1")
		}
		for _, a := range asked {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			for _, m := range []Module{ModuleUDP, ModuleHTTP} {
				q := question{module: m, address: netip.AddrPortFrom(netip.MustParseAddr(a), at.Port())}
				q.ask(ctx)
				if !q.out.OK() {
					t.Errorf("at %q, asked %s over %s: %+v", host, a, m, q.out)
				}
			}
			cancel()
		}
	}
}

// noIPv6 is whether this machine has none: then nobody can be asked over it.
func noIPv6() bool {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		return true
	}
	l.Close()
	return false
}

// Nobody gains by asking a responder in another's name, and no two of them can
// be made to answer each other.
func TestResponderEcho(t *testing.T) {
	r := &Responder{Node: "a-node"}
	question := []byte("kproxy 00112233" + strings.Repeat(".", 40))
	answer := r.echo(question)
	if len(answer) != len(question) || !bytes.HasPrefix(answer, []byte("a-node: kproxy 00112233..")) {
		t.Errorf("%q", answer)
	}
	if again := (&Responder{Node: "b-node"}).echo(answer); again != nil {
		t.Errorf("an answer is answered: %q", again)
	}
	for _, q := range []string{"", "x", "kproxy", "kproxy ", "hello kproxy 0011223344556677", "KPROXY 0011223344556677"} {
		if a := r.echo([]byte(q)); a != nil {
			t.Errorf("%q is answered: %q", q, a)
		}
	}
}

// Clients that never end their questions keep nobody out, not even for as long as they
// may stay.
func TestResponderSlow(t *testing.T) {
	at := startResponder(t, "n1", nil)
	var all []net.Conn
	for range maxResponses + 10 {
		c, err := net.Dial("tcp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		all = append(all, c)
	}
	ctx, cancel := context.WithTimeout(t.Context(), responseWithin/2)
	defer cancel()
	if _, err := AskResponder(ctx, at); err != nil {
		t.Errorf("with %d clients that say nothing: %v", len(all), err)
	}
	// Those that came first had to go for it.
	if err := all[0].SetReadDeadline(time.Now().Add(responseWithin / 2)); err != nil {
		t.Fatal(err)
	}
	if _, err := all[0].Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the first is still there: %v", err)
	}
}

func TestParseSaid(t *testing.T) {
	for _, body := range []string{"", "{}", "null", "[]", `{"node":""}`, `{"node":"n1"}`, `{"node":"n1","address":"10.0.0.1","turn":-1}`, `{"node":"n1","address":"10.0.0.1","turn":1}`, `{"node":"n1","address":"10.0.0.1","seconds":-1}`,
		`{"node":"n1","address":"10.0.0.1","seconds":1e400}`, `{"node":"n1","address":"10.0.0.1","seconds":1e9}`, `{"node":"n1","address":"10.0.0.1","current":"10.0.0.2"}`, `{"node":"<b>","address":"10.0.0.1"}`, `{"node":"n1","address":"here"}`, `{"node":7}`, "<html>"} {
		if said, err := ParseSaid(http.StatusOK, []byte(body)); err == nil {
			t.Errorf("%q: %+v", body, said)
		}
	}
	if _, err := ParseSaid(http.StatusNotFound, []byte(`{"node":"n1","address":"10.0.0.1"}`)); err == nil {
		t.Error("a 404 is an answer")
	}
}

func FuzzParseSaid(f *testing.F) {
	f.Add([]byte(`{"node":"n1","address":"10.0.0.1","turn":7,"current":"10.0.0.2","seconds":1.5}`))
	f.Add([]byte(`{"node":"n1","address":"fd00::1"}`))
	f.Add([]byte(`{"turn":9223372036854775808}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		said, err := ParseSaid(http.StatusOK, body)
		if err != nil {
			if said != (Said{}) {
				t.Errorf("an error and %+v", said)
			}
			return
		}
		if said.Node == "" || said.Number < 0 || said.Seconds < 0 {
			t.Errorf("%+v", said)
		}
		text, err := json.Marshal(said)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParseSaid(http.StatusOK, text); err != nil || again != said {
			t.Errorf("%+v, read again %+v, %v", said, again, err)
		}
	})
}

func FuzzEcho(f *testing.F) {
	f.Add([]byte("kproxy 0011"), "n1")
	f.Add([]byte("kproxy kproxy : "), "kproxy")
	f.Fuzz(func(t *testing.T, question []byte, node string) {
		if strings.ContainsRune(node, ' ') || len(node) > 253 {
			return // no node has such a name
		}
		r := &Responder{Node: node}
		answer := r.echo(question)
		if len(answer) > len(question) {
			t.Errorf("%q is answered with more: %q", question, answer)
		}
		if again := r.echo(answer); again != nil {
			t.Errorf("%q is answered: %q", answer, again)
		}
	})
}
