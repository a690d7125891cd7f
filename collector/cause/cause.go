// Package cause names the causes of a kube-proxy that does not do its job. A
// cause is a pure function of a Snapshot: no IO, no clock, no state, and no
// knowledge of where the facts came from or where a verdict goes.
package cause

import (
	"fmt"
	"strings"
	"time"
)

// State is what is known about a cause. Its zero value is the safe one.
type State int

// States of a verdict.
const (
	Unknown State = iota
	Inactive
	Active
)

// Verdict is the answer of one cause about one node.
type Verdict struct {
	State State
	// Findings are what was found, the most important first; set if Active.
	Findings []Finding
	// Since is when it began as far as the facts tell; zero if they do not.
	Since time.Time
	// Lacks says what an Unknown verdict would need.
	Lacks string
	// Because names the cause that explains this one, if it is known: that one
	// is primary then, whatever its rank.
	Because string
}

// Finding is one thing that is wrong, with what proves it.
type Finding struct {
	// Detail is one of the cause's Details.
	Detail string
	// Evidence are facts that a person can check: quoted, with their time.
	Evidence []string
}

// Detail is one of the ways in which a cause shows.
type Detail struct {
	Name string
	// Action is what to do about it.
	Action string
}

// Cause is a reason why kube-proxy does not do its job on a node.
type Cause struct {
	// Name is the label value, file name and page name.
	Name string
	// Meaning is one sentence for people.
	Meaning string
	// Details is the closed set of what Eval may find.
	Details []Detail
	// Kubelet says that it rests on a pod's status, which is the kubelet's word:
	// it is unknown when the kubelet stopped reporting.
	Kubelet bool
	// Residual says that it counts only while no other cause is active.
	Residual bool
	// Eval judges a Snapshot of the API's view.
	Eval func(*Snapshot) Verdict
	// Node judges a Snapshot of the node's own view; nil if the node cannot see
	// this cause.
	Node func(*Snapshot) Verdict
}

// All holds every cause in the order of rank: of several that are active, the
// first is the primary one. What takes the ground away stands before what it
// makes fall.
var All = []Cause{
	nodeNotReady,
	containerRuntime,
	evicted,
	nodePressure,
	securityPolicy,
	missingOnNode,
	imagePull,
	prerequisiteMissing,
	configMismatch,
	versionSkew,
	apiUnreachable,
	oomKilled,
	resourceExhausted,
	portConflict,
	crashLoop,
	conflictingRules,
	rulesStale,
	conntrackFull,
	vipUnreachable,
	metricsUnreachable,
	unexplained,
}

// Action returns what to do about a detail.
func (c *Cause) Action(detail string) string {
	for _, d := range c.Details {
		if d.Name == detail {
			return d.Action
		}
	}
	return ""
}

// lacksLog is what a verdict waits for while a log is being read.
const lacksLog = "the log of the container that ended"

// onlyTheNode is what the API does not show.
const onlyTheNode = "what only the node can see"

// fromLogs is the verdict on a cause of which, without the node, only a log
// tells: what no log says may still be so.
func fromLogs(s *Snapshot, name string) Verdict {
	if s.Pods == nil {
		return unknown("the kube-proxy pods")
	}
	for i := range s.Pods.List {
		p := &s.Pods.List[i]
		l := p.says(s)
		if p.Deleting || l == nil {
			continue
		}
		if detail, ok := strings.CutPrefix(l.Class, name+"/"); ok {
			return active(time.Time{}, Finding{detail, []string{fmt.Sprintf("pod %s: log: %s", p.Name, quote(l.Line))}})
		}
	}
	return unknown(onlyTheNode)
}

// startup is how long a process may wait for the API server before its silence
// says something.
const startup = 30 * time.Second

// says is the log of a pod that tells what is wrong with it now; nil if none does.
func (p *Pod) says(s *Snapshot) *Log {
	c := p.Container
	loops := c != nil && looping(s.Now, c)
	switch {
	case p.Log != nil && p.Log.Class != "" && loops:
		return p.Log
	case p.Current != nil && p.Current.Class != "" && p.current(s):
		return p.Current
	case p.Log != nil && p.Log.Class != "" && s.Dump && !p.recovered(s):
		return p.Log
	}
	return nil
}

// said is how long what a running container said counts: what lasts it says
// again.
const said = 10 * time.Minute

// current is whether what the running container said is about now.
func (p *Pod) current(s *Snapshot) bool {
	l, c := p.Current, p.Container
	switch {
	case strings.Contains(l.Line, "Waiting for caches to sync"): // its last word
		return c != nil && c.Running() && s.Now.Sub(c.Started) >= startup
	case s.Dump:
		return !p.resumed(s)
	case !l.At.IsZero() && s.Now.Sub(l.At) > said:
		return false
	}
	// Of one that is well by every account it can only explain a closed port.
	well := p.Ready != nil && p.Ready.Status == "True" && s.Ports != nil && s.Ports.Healthz.Outcome == PortAnswered && s.Ports.Healthz.Status == statusOK
	return !well || strings.HasPrefix(l.Class, "port_conflict/")
}

// resumed is whether a watch that failed has worked since, as far as a dump can
// tell: the pod is well, and what lasts would have been said again.
func (p *Pod) resumed(s *Snapshot) bool {
	const (
		again   = 2 * time.Minute
		sameDay = 24 * time.Hour // more is another clock, or another time
	)
	c, ago := p.Container, s.Now.Sub(p.Current.At)
	return strings.HasPrefix(p.Current.Class, "api_unreachable/") && !p.Current.At.IsZero() && ago >= again && ago <= sameDay &&
		c != nil && c.Running() && p.Ready != nil && p.Ready.Status == "True"
}

// recovered is whether the pod says that its container has run well for long
// since another ended.
func (p *Pod) recovered(s *Snapshot) bool {
	c := p.Container
	return c != nil && c.Running() && c.Last != nil && p.Ready != nil && p.Ready.Status == "True" && s.Now.Sub(c.Started) > said
}

func unknown(lacks string) Verdict { return Verdict{Lacks: lacks} }

func inactive() Verdict { return Verdict{State: Inactive} }

func active(since time.Time, findings ...Finding) Verdict {
	return Verdict{State: Active, Since: since, Findings: findings}
}

// stamp renders a moment for evidence.
func stamp(t time.Time) string {
	if t.IsZero() {
		return "at an unknown time"
	}
	return "at " + t.UTC().Format(time.RFC3339)
}

// quote shortens foreign text for evidence to a length that a person reads.
func quote(s string) string {
	const limit = 400
	r := []rune(s)
	if len(r) > limit {
		return string(r[:limit]) + "..."
	}
	return s
}
