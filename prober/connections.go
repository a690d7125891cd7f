package prober

import (
	"container/list"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// Connections bounds how many clients an http.Server has, each of which takes memory: who comes when there are too many takes the
// place of who has been silent for longest or, where all others are being served, of who
// has been for longest: nobody holds what others need, not by a request without an end
// either.
type Connections struct {
	most int

	mu sync.Mutex
	// mu protects following.
	open map[net.Conn]place
	// silent are those that wait for a request, served those that have one, the longest
	// first.
	silent, served list.List
}

// place is where a connection is; on no list if it was closed from here.
type place struct {
	on *list.List
	at *list.Element
}

// NewConnections bounds them to most.
func NewConnections(most int) *Connections {
	return &Connections{most: most, open: map[net.Conn]place{}}
}

// State is for http.Server's ConnState.
func (c *Connections) State(conn net.Conn, s http.ConnState) {
	if victim := c.note(conn, s); victim != nil {
		if t, ok := victim.(*tls.Conn); ok {
			victim = t.NetConn() // at once, without a word that nobody may read
		}
		_ = victim.Close()
	}
}

// note notes a connection's state and returns one to close, or nil.
func (c *Connections) note(conn net.Conn, s http.ConnState) (victim net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was, known := c.open[conn]
	if was.on != nil {
		was.on.Remove(was.at)
	}
	switch {
	case s == http.StateClosed || s == http.StateHijacked:
		delete(c.open, conn)
		return nil
	case known && was.on == nil: // it is being closed
		return nil
	}
	if s == http.StateNew && len(c.open) >= c.most {
		from := &c.silent
		if from.Len() == 0 {
			from = &c.served
		}
		if front := from.Front(); front != nil {
			victim = from.Remove(front).(net.Conn)
			c.open[victim] = place{}
		}
	}
	on := &c.silent
	if s == http.StateActive {
		on = &c.served
	}
	c.open[conn] = place{on, on.PushBack(conn)}
	return victim
}
