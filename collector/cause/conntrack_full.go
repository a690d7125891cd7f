package cause

import (
	"fmt"
	"regexp"
	"time"
)

// The kernel's words (net/netfilter/nf_conntrack_core.c), as a problem detector
// passes them on; it repeats itself while it lasts.
var tableFull = regexp.MustCompile(`nf_conntrack: (nf_conntrack: )?table full|ip_conntrack: table full`)

const tableFullAge = 10 * time.Minute

var conntrackFull = Cause{
	Name:    "conntrack_full",
	Meaning: "The node's connection table is full: new connections are dropped, kube-proxy's or not.",
	Details: []Detail{
		{"near", "The table is nearly full: raise conntrack.maxPerCore or min in the kube-proxy ConfigMap before it is; find who opens so many connections."},
		{"full", "Raise conntrack.maxPerCore or min in the kube-proxy ConfigMap; find who opens so many connections."},
	},
	Eval: func(s *Snapshot) Verdict {
		if s.Node == nil {
			return unknown("the Node object")
		}
		for i := range s.Node.Problems {
			if c := &s.Node.Problems[i]; tableFull.MatchString(c.Message) {
				return active(c.Since, Finding{"full", []string{describeCondition(c)}})
			}
		}
		for i := range s.Node.Events {
			if e := &s.Node.Events[i]; tableFull.MatchString(e.Message) && s.Now.Sub(e.Time) < tableFullAge {
				return active(e.Time, Finding{"full", []string{fmt.Sprintf("node: event %s %s: %s", e.Reason, stamp(e.Time), quote(e.Message))}})
			}
		}
		return unknown(onlyTheNode)
	},
	Node: func(s *Snapshot) Verdict {
		c := s.Local.Conntrack
		if c == nil || c.Max <= 0 {
			return unknown("nf_conntrack_count and nf_conntrack_max")
		}
		says := fmt.Sprintf("%.0f of %.0f entries are in use, %.0f connections found no room so far", c.Entries, c.Max, c.Drops)
		switch used := c.Entries / c.Max; {
		case used >= tableFullAt, !c.DropsSince.IsZero() && used >= tableNearAt:
			return active(c.DropsSince, Finding{"full", []string{says}})
		case used >= tableNearAt:
			return active(time.Time{}, Finding{"near", []string{says}})
		}
		return inactive()
	},
}

// The kernel drops what is new when the table is full, and begins to drop what
// is young shortly before.
const (
	tableFullAt = 0.99
	tableNearAt = 0.9
)
