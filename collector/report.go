package collector

import (
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
	Node     string        `json:"node"`
	Expected *bool         `json:"expected"`
	Reason   string        `json:"reason,omitempty"`
	Healthy  *bool         `json:"healthy"`
	Primary  *CauseReport  `json:"primary"`
	Causes   []CauseReport `json:"causes"`
	// Unknown are the causes that could not be judged.
	Unknown []string `json:"unknown"`
}

// CauseReport is an active cause: one for each detail.
type CauseReport struct {
	Cause    string    `json:"cause"`
	Detail   string    `json:"detail"`
	Since    time.Time `json:"since"`
	Evidence []string  `json:"evidence"`
	Action   string    `json:"action"`
}

// Report judges every node now.
func (c *Cluster) Report() Report {
	out := Report{Nodes: []NodeReport{}}
	for _, s := range c.snapshots(time.Now()) {
		out.Nodes = append(out.Nodes, c.nodeReport(s))
	}
	return out
}

func (c *Cluster) nodeReport(s *cause.Snapshot) NodeReport {
	j := cause.Judge(s)
	n := NodeReport{Node: s.Name, Causes: []CauseReport{}, Unknown: []string{}}
	if s.Expected != nil {
		n.Expected, n.Reason = &s.Expected.Yes, s.Expected.Reason
	}
	if j.Healthy != cause.Unknown {
		healthy := j.Healthy == cause.Active
		n.Healthy = &healthy
	}
	for i, v := range j.Verdicts {
		k := &cause.All[i]
		since := c.history.begin(s.Name, k.Name, v, s.Now)
		switch v.State {
		case cause.Unknown:
			n.Unknown = append(n.Unknown, k.Name)
		case cause.Active:
			for _, f := range v.Findings {
				n.Causes = append(n.Causes, CauseReport{k.Name, f.Detail, since.UTC(), f.Evidence, k.Action(f.Detail)})
			}
		case cause.Inactive:
		}
	}
	if j.Primary >= 0 {
		n.Primary = &n.Causes[0]
	}
	return n
}
