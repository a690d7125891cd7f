package prober

import (
	"net"
	"net/http"
	"testing"
)

// TestConnections is of who has to go when there are too many.
func TestConnections(t *testing.T) {
	c := NewConnections(2)
	conn := func() net.Conn { a, b := net.Pipe(); t.Cleanup(func() { a.Close(); b.Close() }); return a }
	asks, silent, third, fourth := conn(), conn(), conn(), conn()
	for _, step := range []struct {
		what   string
		conn   net.Conn
		state  http.ConnState
		victim net.Conn
	}{
		{"one comes", asks, http.StateNew, nil}, {"and asks", asks, http.StateActive, nil},
		{"another comes and is silent", silent, http.StateNew, nil},
		{"a third takes its place", third, http.StateNew, silent}, {"which is gone", silent, http.StateClosed, nil},
		{"the first has its answer", asks, http.StateIdle, nil}, {"the third asks", third, http.StateActive, nil},
		{"a fourth takes the place of the first", fourth, http.StateNew, asks}, {"which is gone", asks, http.StateClosed, nil},
		{"the fourth asks", fourth, http.StateActive, nil},
		{"where all ask who has for longest goes", silent, http.StateNew, third}, {"whatever it does then", third, http.StateActive, nil},
		{"one more comes, before that is gone", asks, http.StateNew, silent},
	} {
		if victim := c.note(step.conn, step.state); victim != step.victim {
			t.Errorf("%s: %v goes, want %v", step.what, victim, step.victim)
		}
	}
}
