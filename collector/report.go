package collector

import (
	"slices"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
)

// Report is what is known about all nodes, for people and their tools.
type Report struct {
	Nodes []NodeReport `json:"nodes"`
}

// NodeReport is what is known about a node. Expected and Healthy are null
// while unknown.
type NodeReport struct {
	Node     string `json:"node"`
	Expected *bool  `json:"expected"`
	Reason   string `json:"reason,omitempty"`
	// NotFound is where kube-proxy was looked for, if neither it nor a replacement
	// was found.
	NotFound string        `json:"not_found,omitempty"`
	Healthy  *bool         `json:"healthy"`
	Primary  *CauseReport  `json:"primary"`
	Causes   []CauseReport `json:"causes"`
	// Pending says that a log is being read that will decide.
	Pending bool `json:"-"`
	// Unknown are the causes that could not be judged.
	Unknown []string `json:"unknown"`
	// Probes are the Services that are asked from the node, by the node role.
	Probes []ProbeReport `json:"probes,omitempty"`
}

// States of a node in one word: a closed set.
const (
	StateSick    = "sick"    // a cause is active
	StateAbsent  = "absent"  // kube-proxy is not expected here
	StateHealthy = "healthy" // no cause is active and kube-proxy does its job
	StateUnwell  = "unwell"  // it does not, and no cause is known yet
	StateUnknown = "unknown" // nobody can tell
)

// State is the node in one word.
func (n NodeReport) State() string {
	switch {
	case n.Primary != nil:
		return StateSick
	case n.Expected != nil && !*n.Expected:
		return StateAbsent
	case n.Healthy == nil:
		return StateUnknown
	case *n.Healthy:
		return StateHealthy
	}
	return StateUnwell
}

// CauseReport is an active cause: one for each detail.
type CauseReport struct {
	Cause    string    `json:"cause"`
	Detail   string    `json:"detail"`
	Since    time.Time `json:"since,omitzero"`
	Evidence []string  `json:"evidence"`
	Action   string    `json:"action"`
}

// Add puts what the other role says of a node to what is known of it: all causes of
// both, the first of them in their common order, and unknown only what neither knows.
func (n *NodeReport) Add(other NodeReport) {
	for _, c := range other.Causes {
		if !slices.ContainsFunc(n.Causes, func(o CauseReport) bool { return o.Cause == c.Cause && o.Detail == c.Detail }) {
			n.Causes = append(n.Causes, c)
		}
	}
	rank := func(name string) int {
		i := slices.IndexFunc(cause.All, func(k cause.Cause) bool { return k.Name == name })
		if i < 0 {
			return len(cause.All) // a newer exporter's
		}
		return i
	}
	slices.SortStableFunc(n.Causes, func(a, b CauseReport) int { return rank(a.Cause) - rank(b.Cause) })
	n.Primary = nil
	if len(n.Causes) > 0 {
		n.Primary = &n.Causes[0]
	}
	n.Unknown = slices.DeleteFunc(n.Unknown, func(name string) bool { return !slices.Contains(other.Unknown, name) })
	if n.Healthy == nil || other.Healthy != nil && !*other.Healthy {
		n.Healthy = other.Healthy
	}
	n.Probes = append(n.Probes, other.Probes...)
}

// Report judges every node now.
func (c *Cluster) Report() Report {
	out := Report{Nodes: []NodeReport{}}
	for s := range c.snapshots(time.Now()) {
		out.Nodes = append(out.Nodes, nodeReport(s, c.history))
	}
	return out
}

func nodeReport(s *cause.Snapshot, h *history) NodeReport {
	j := cause.Judge(s)
	n := NodeReport{Node: s.Name, Causes: []CauseReport{}, Unknown: []string{}}
	if s.Expected != nil {
		n.Expected, n.Reason = &s.Expected.Yes, s.Expected.Reason
	}
	n.NotFound, n.Pending = s.NotFound, j.Pending
	if j.Healthy != cause.Unknown {
		healthy := j.Healthy == cause.Active
		n.Healthy = &healthy
	}
	since := h.note(s.Name, j.Verdicts, s.Now)
	for i, v := range j.Verdicts {
		if s.Dump && v.State == cause.Active {
			since[i] = v.Since // nobody watched: only the facts tell
		}
		k := &cause.All[i]
		switch v.State {
		case cause.Unknown:
			n.Unknown = append(n.Unknown, k.Name)
		case cause.Active:
			for _, f := range v.Findings {
				n.Causes = append(n.Causes, CauseReport{k.Name, f.Detail, since[i].UTC(), f.Evidence, k.Action(f.Detail)})
			}
		case cause.Inactive:
		}
	}
	if j.Primary >= 0 {
		n.Primary = &n.Causes[slices.IndexFunc(n.Causes, func(c CauseReport) bool { return c.Cause == cause.All[j.Primary].Name })]
	}
	return n
}
