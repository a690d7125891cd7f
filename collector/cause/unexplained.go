package cause

import (
	"fmt"
	"time"
)

// How long a pod may be not Ready, or have no container, before that needs a
// name: an image pull on a slow line takes minutes, and so does a first start.
const unexplainedAfter = 5 * time.Minute

var unexplained = Cause{
	Name:     "unexplained",
	Meaning:  "kube-proxy is not well and no cause explains it.",
	Residual: true,
	Details: []Detail{
		{"unhealthy", "Look at the pod (kubectl -n kube-system describe pod, logs), and report what it was: the exporter should have known."},
		{"probe_failing", "A Service does not answer from this node and nobody can tell whose fault that is: see on /causes where it was sent, and ask its endpoints from here."},
	},
	Node: func(s *Snapshot) Verdict {
		if p := s.Local.Proxy; p == nil || !p.Seen || s.Local.Probes == nil {
			return unknown("Services that are asked from this node")
		}
		for i := range s.Local.Probes {
			p := &s.Local.Probes[i]
			if v, evidence := JudgeProbe(p, s.Local.Probes); v == ProbeUnknown && p.fails() {
				return active(p.Rounds[0].At, Finding{"probe_failing", append([]string{"Service " + p.Name}, evidence...)})
			}
		}
		return inactive()
	},
	Eval: func(s *Snapshot) Verdict {
		switch healthy(s) {
		case Unknown:
			return unknown("what tells whether kube-proxy is well")
		case Active:
			return inactive()
		}
		for i := range s.Pods.List {
			p := &s.Pods.List[i]
			since := p.Created
			if p.Ready != nil {
				since = p.Ready.Since
			}
			if s.Ports.deaf(p) == Active {
				since = s.Ports.Healthz.Since
			}
			if p.Deleting || since.IsZero() || s.Now.Sub(since) < unexplainedAfter {
				continue
			}
			says := fmt.Sprintf("pod %s: phase %s", p.Name, p.Phase)
			if p.Ready != nil {
				says += ", " + describeCondition(p.Ready)
			}
			if c := p.Container; c != nil && c.WaitingReason != "" {
				says += fmt.Sprintf("; container waits with %s: %s", c.WaitingReason, quote(c.WaitingMessage))
			}
			evidence := []string{says}
			if len(p.Events) > 0 {
				e := p.Events[0]
				evidence = append(evidence, fmt.Sprintf("pod %s: event %s %s, %d times: %s", p.Name, e.Reason, stamp(e.Time), e.Count, quote(e.Message)))
			}
			if s.Ports != nil && s.Ports.Healthz.Outcome != "" {
				evidence = append(evidence, s.Ports.Healthz.String(), s.Ports.Metrics.String())
			}
			return active(since, Finding{"unhealthy", evidence})
		}
		return inactive()
	},
}
