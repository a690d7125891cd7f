package main

import (
	"container/list"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// mostConnections is how many clients may be connected: each takes memory, of which
// the exporter has little.
const mostConnections = 256

// connections bounds how many there are: who comes when there are too many takes the
// place of who has been silent for longest, so that nobody holds what others need.
type connections struct {
	most int

	mu sync.Mutex
	// mu protects following.
	open map[net.Conn]*list.Element // in silent; nil while it is being served
	// silent are those that wait for a request, the longest first.
	silent list.List
}

func newConnections(most int) *connections {
	return &connections{most: most, open: map[net.Conn]*list.Element{}}
}

// state is for http.Server's ConnState.
func (c *connections) state(conn net.Conn, s http.ConnState) {
	if victim := c.note(conn, s); victim != nil {
		if t, ok := victim.(*tls.Conn); ok {
			victim = t.NetConn() // at once, without a word that nobody may read
		}
		_ = victim.Close()
	}
}

// note notes a connection's state and returns one to close, or nil.
func (c *connections) note(conn net.Conn, s http.ConnState) (victim net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.open[conn]; e != nil {
		c.silent.Remove(e)
	}
	switch s {
	case http.StateActive:
		c.open[conn] = nil
	case http.StateClosed, http.StateHijacked:
		delete(c.open, conn)
	case http.StateNew, http.StateIdle:
		c.open[conn] = c.silent.PushBack(conn)
		if s == http.StateNew && len(c.open) > c.most {
			victim = c.silent.Remove(c.silent.Front()).(net.Conn)
			c.open[victim] = nil
		}
	}
	return victim
}
