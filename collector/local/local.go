// Package local reads what a node shows to a process that runs on it: processes
// and tables of the kernel, kube-proxy's ports on the loopback address, the API
// server as this node reaches it. It writes nothing and judges nothing.
package local

import "time"

// Streak counts how often something went the same way in a row.
type Streak struct {
	// Since and At are the first and the newest time, Times how often.
	Since, At time.Time
	Times     int
	way       string
}

// Note notes a time at which it went this way.
func (s *Streak) Note(way string, at time.Time) {
	if s.Times == 0 || s.way != way {
		*s = Streak{Since: at, way: way}
	}
	s.At = at
	s.Times++
}
