package cause

import (
	"fmt"
	"strings"
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
	// Reach is from where the configuration lets the port be reached.
	Reach Reach
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

// Reach is from where a port can be reached, by the address to which kube-proxy's
// flags or ConfigMap bind it.
type Reach string

// Values of Reach.
const (
	ReachAll      Reach = ""         // from everywhere
	ReachLoopback Reach = "loopback" // from the node alone
	ReachUnknown  Reach = "unknown"
)

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

// closed reports whether the port refused connections although its
// configuration lets it be reached from outside.
func (p Port) closed(started time.Time) bool {
	return p.Reach == ReachAll && p.says(PortRefused, started)
}

// deaf reports whether a running container serves neither of its ports.
// kube-proxy opens both once the API server has answered it. A port that is bound
// to the loopback address, or may be, refuses everyone outside and proves
// nothing: the answer is Unknown if the other port does not decide.
func (p *Ports) deaf(pod *Pod) State {
	c := pod.Container
	if p == nil || c == nil || !c.Running() {
		return Inactive
	}
	m, h := p.Metrics, p.Healthz
	silent := func(p Port) bool { return p.Reach != ReachLoopback && p.says(PortSilent, c.Started) }
	closed := func(p Port) bool { return p.Reach != ReachLoopback && p.says(PortRefused, c.Started) }
	switch {
	case m.Outcome == PortAnswered || h.Outcome == PortAnswered:
		return Inactive
	case silent(m) && silent(h), m.closed(c.Started) && h.closed(c.Started):
		return Active
	case m.Reach == ReachLoopback && (silent(h) || h.closed(c.Started)) && pod.Current != nil && !strings.HasPrefix(pod.Current.Class, "port_conflict/"):
		return Active // another program does not have the port: the log would show it
	case silent(m) || silent(h) || closed(m) || closed(h):
		return Unknown
	}
	return Inactive
}

// Unwell reports whether the log of a pod's running container is needed.
func Unwell(now time.Time, p *Pod, ports *Ports) bool {
	c := p.Container
	if p.Deleting || c == nil || !c.Running() || now.Sub(c.Started) < startup {
		return false
	}
	if p.Ready != nil && p.Ready.Status != "True" && now.Sub(p.Ready.Since) >= startup || ports.deaf(p) == Active {
		return true
	}
	return ports != nil && (ports.Metrics.closed(c.Started) || ports.Healthz.closed(c.Started) ||
		ports.Metrics.Reach == ReachLoopback && ports.Healthz.Reach == ReachAll && ports.Healthz.says(PortSilent, c.Started) ||
		ports.Healthz.says(PortAnswered, c.Started) && ports.Healthz.Status == statusUnavailable)
}

// running is the container that does the job on a node, nil if none runs.
func (s *Snapshot) running() *Container {
	if p := s.runningPod(); p != nil {
		return p.Container
	}
	return nil
}
