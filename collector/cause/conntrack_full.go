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
}
