package prober

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

// Outcome is what became of an attempt.
type Outcome string

// The outcomes: a closed set.
const (
	Answered  Outcome = "answered"  // an HTTP response, whatever its status
	Refused   Outcome = "refused"   // the host is there and nobody listens
	Timeout   Outcome = "timeout"   // no word at all: a firewall, or no host
	Silent    Outcome = "silent"    // connected, and no answer came
	Failed    Outcome = "failed"    // anything else
	Cancelled Outcome = "cancelled" // we stopped, which says nothing
)

// pageLimit is how much of a page is read.
const pageLimit = 64 << 10

// answer is what became of a request.
type answer struct {
	outcome Outcome
	status  int
	body    []byte
	err     error
}

// Page asks for a path over a new connection and returns at most limit bytes of
// the answer.
func Page(ctx context.Context, address netip.AddrPort, path string, timeout time.Duration, limit int64) (status int, body []byte, err error) {
	a := get(ctx, address, path, timeout, limit)
	return a.status, a.body, a.err
}

// get makes a new connection and asks for a path once. It does without
// http.Transport, whose pools and goroutines are for connections that are used
// again: here none is, and there are thousands of nodes to ask.
func get(ctx context.Context, address netip.AddrPort, path string, timeout time.Duration, limit int64) answer {
	deadline := time.Now().Add(timeout)
	dialer := net.Dialer{Deadline: deadline}
	conn, err := dialer.DialContext(ctx, "tcp", address.String())
	if err != nil {
		return answer{outcome: outcome(ctx, err, false), err: err}
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	failed := func(err error) answer { return answer{outcome: outcome(ctx, err, true), err: err} }
	if err := conn.SetDeadline(deadline); err != nil {
		return failed(err)
	}
	if _, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: "+address.String()+"\r\nUser-Agent: kproxy-exporter\r\nConnection: close\r\n\r\n"); err != nil {
		return failed(err)
	}
	// Headers count too: nobody needs more to say how he is.
	res, err := http.ReadResponse(bufio.NewReaderSize(io.LimitReader(conn, limit+headerLimit), 1024), nil)
	if err != nil {
		return failed(err)
	}
	defer res.Body.Close()
	a := answer{outcome: Answered, status: res.StatusCode}
	if limit > 0 {
		if a.body, err = io.ReadAll(io.LimitReader(res.Body, limit)); err != nil {
			return failed(err)
		}
	}
	return a
}

const headerLimit = 16 << 10

func outcome(ctx context.Context, err error, connected bool) Outcome {
	var timeout net.Error
	switch {
	case ctx.Err() != nil:
		return Cancelled
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
