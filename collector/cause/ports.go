package cause

import (
	"fmt"
	"time"
)

// Ports is what kube-proxy's two ports answered from where the exporter stands,
// which is where monitoring stands.
type Ports struct {
	Metrics, Healthz Port
}

// Port is the newest attempt at a port, and how long it has been so.
type Port struct {
	Number uint16
	// Outcome is empty until the first attempt has ended; else answered,
	// refused, timeout (no word at all), silent (connected, no answer) or failed.
	Outcome string
	// Status is that of the answer. Livez is that of /livez, asked only when
	// /healthz was answered with 503.
	Status, Livez int
	Error         string
	// Since and At are the ends of the first and of the newest of the Times
	// attempts in a row that went the same way.
	Since, At time.Time
	Times     int
}

// Outcomes of an attempt at a port.
const (
	PortAnswered = "answered"
	PortRefused  = "refused"
	PortTimeout  = "timeout"
	PortSilent   = "silent"
)

// HTTP statuses (RFC 9110) with which kube-proxy answers for its health.
const (
	statusOK          = 200
	statusUnavailable = 503
)

// confirmed is how many attempts in a row must agree before they say something.
const confirmed = 2

// says is whether the port has gone this way often enough, and lately enough in
// the life of a container that began at started.
func (p Port) says(outcome string, started time.Time) bool {
	return p.Outcome == outcome && p.Times >= confirmed && !started.IsZero() && p.At.Sub(started) >= startup
}

func (p Port) String() string {
	switch {
	case p.Outcome == PortAnswered && p.Livez != 0:
		return fmt.Sprintf("port %d: /healthz %d, /livez %d, %d times in a row %s", p.Number, p.Status, p.Livez, p.Times, stamp(p.At))
	case p.Outcome == PortAnswered:
		return fmt.Sprintf("port %d: answered with %d %s", p.Number, p.Status, stamp(p.At))
	}
	return fmt.Sprintf("port %d: %s %d times in a row, last %s: %s", p.Number, p.Outcome, p.Times, stamp(p.At), quote(p.Error))
}

// deaf is whether a container that runs has its ports closed, or lets nobody
// have an answer: kube-proxy opens them once it has heard from the API server.
func (p *Ports) deaf(c *Container) bool {
	if p == nil || c == nil || !c.Running() {
		return false
	}
	m, h := p.Metrics, p.Healthz
	return m.says(PortRefused, c.Started) && h.says(PortRefused, c.Started) ||
		m.says(PortSilent, c.Started) && h.says(PortSilent, c.Started)
}

// Unwell is whether a pod's running container needs its log read.
func Unwell(now time.Time, p *Pod, ports *Ports) bool {
	c := p.Container
	if p.Deleting || c == nil || !c.Running() || now.Sub(c.Started) < startup {
		return false
	}
	if p.Ready != nil && p.Ready.Status != "True" && now.Sub(p.Ready.Since) >= startup || ports.deaf(c) {
		return true
	}
	return ports != nil && (ports.Metrics.says(PortRefused, c.Started) || ports.Healthz.says(PortRefused, c.Started) ||
		ports.Healthz.says(PortAnswered, c.Started) && ports.Healthz.Status == statusUnavailable)
}

// running is the container that does the job on a node, nil if none runs.
func (s *Snapshot) running() *Container {
	if p := s.runningPod(); p != nil {
		return p.Container
	}
	return nil
}
