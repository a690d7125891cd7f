package cause

import (
	"fmt"
	"time"
)

const (
	// A node that has just joined is not Ready until its network is set up:
	// that is a start, not a fault.
	nodeStartup = 2 * time.Minute
	// A node that is starting has not been Ready since it registered; one that
	// went from Ready to not Ready did so later than this.
	registration = 20 * time.Second
)

var nodeNotReady = Cause{
	Name:    "node_not_ready",
	Meaning: "The node itself is not Ready; kube-proxy on it is a consequence.",
	Details: []Detail{
		{"not_ready", "The kubelet runs and says why in the Ready condition: fix that (container runtime, network plugin, disk). Start with: kubectl describe node."},
		{"unknown", "The kubelet stopped reporting: see that the machine is up and reachable, then 'systemctl status kubelet' and its journal on the node."},
	},
	Eval: func(s *Snapshot) Verdict {
		if s.Node == nil {
			return unknown("the Node object")
		}
		ready := s.Node.Ready
		starting := s.Now.Sub(s.Node.Created) < nodeStartup && (ready == nil || ready.Since.Sub(s.Node.Created) < registration)
		switch {
		case ready == nil && starting, ready != nil && ready.Status == "True", ready != nil && ready.Status == "False" && starting:
			return inactive()
		case ready == nil:
			return active(s.Node.Created, Finding{"unknown", []string{"the Node has no Ready condition: no kubelet ever reported (created " + stamp(s.Node.Created) + ")"}})
		}
		detail := "not_ready"
		if ready.Status == "Unknown" {
			detail = "unknown"
		}
		v := active(ready.Since, Finding{detail, []string{describeCondition(ready)}})
		if runtimeDown.MatchString(ready.Message) {
			v.Because = "container_runtime"
		}
		return v
	},
}

func describeCondition(c *Condition) string {
	return fmt.Sprintf("condition %s=%s %s: %s: %s", c.Type, c.Status, stamp(c.Since), c.Reason, quote(c.Message))
}
