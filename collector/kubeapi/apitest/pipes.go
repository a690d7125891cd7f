package apitest

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"

	"k8s.io/client-go/rest"
)

// Pipes serves a Server over connections in memory: they work where a clock is not
// the real one.
type Pipes struct {
	server *http.Server
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once

	mu sync.Mutex
	// mu protects following.
	away bool
	open map[net.Conn]bool
}

var errRefused = errors.New("connect: connection refused")

// NewPipes begins to serve, until Close.
func NewPipes(s *Server) *Pipes {
	p := &Pipes{server: &http.Server{Handler: s}, conns: make(chan net.Conn), closed: make(chan struct{}), open: map[net.Conn]bool{}}
	go func() { _ = p.server.Serve(p) }()
	return p
}

// Config is how a client reaches it.
func (p *Pipes) Config() *rest.Config {
	return &rest.Config{Host: "http://api", Dial: p.dial, QPS: 1000, Burst: 1000}
}

func (p *Pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.away {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errRefused}
	}
	mine, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		p.open[theirs] = true
		return mine, nil
	case <-p.closed:
	case <-ctx.Done():
	}
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errRefused}
}

// Away closes all connections and refuses new ones, until it is set back.
func (p *Pipes) Away(away bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.away = away; away {
		for c := range p.open {
			c.Close()
		}
		clear(p.open)
	}
}

// IsAway is whether it is.
func (p *Pipes) IsAway() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.away
}

// Accept is for the HTTP server.
func (p *Pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Addr is for the HTTP server.
func (p *Pipes) Addr() net.Addr { return &net.UnixAddr{Name: "api"} }

// Close ends it.
func (p *Pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	p.Away(true)
	return nil
}
