package cause

import (
	"fmt"
	"net/netip"
	"time"
)

var metricsUnreachable = Cause{
	Name:    "metrics_unreachable",
	Meaning: "kube-proxy may well work, but monitoring cannot reach its metrics.",
	Details: []Detail{
		{"localhost_bind", "Set metricsBindAddress: 0.0.0.0:10249 in the kube-proxy ConfigMap and restart its pods; the default is the loopback address."},
		{"firewall", "Open the port from the monitoring's network to the nodes: nobody answers, not even to refuse."},
		{"no_target", "Correct the selector of the Service that is scraped: it matches no kube-proxy pod (AKS labels them component=kube-proxy)."},
	},
	Eval: func(s *Snapshot) Verdict {
		if s.Pods == nil {
			return unknown("the kube-proxy pods")
		}
		if s.NoTarget != "" && s.Pods.live() {
			return active(time.Time{}, Finding{"no_target", []string{fmt.Sprintf("Service %s selects no kube-proxy pod, and no other Service does", s.NoTarget)}})
		}
		c := s.running()
		if s.Ports == nil || s.Ports.Metrics.Outcome == "" || s.Ports.Healthz.Outcome == "" {
			return unknown("an attempt at kube-proxy's ports")
		}
		if c == nil {
			return inactive() // nothing to reach: other causes tell
		}
		m, h := s.Ports.Metrics, s.Ports.Healthz
		evidence := func() []string {
			out := []string{m.String(), h.String()}
			switch p := s.runningPod(); {
			case p.Flags != nil:
				out = append(out, fmt.Sprintf("--metrics-bind-address of pod %s is %q", p.Name, p.Flags.Metrics))
			case s.Config != nil && !s.Config.Missing:
				out = append(out, fmt.Sprintf("metricsBindAddress in %s is %q", s.Config.Name, s.Config.MetricsBind))
			}
			return out
		}
		switch {
		case m.Reach == ReachLoopback && m.says(PortTimeout, c.Started):
			return active(m.Since, Finding{"localhost_bind", evidence()})
		case m.Reach == ReachLoopback && s.Ports.deaf(s.runningPod()) == Unknown:
			return unknown("whether kube-proxy works")
		case m.says(PortRefused, c.Started) && (h.Outcome == PortAnswered || m.Reach == ReachLoopback && s.Ports.deaf(s.runningPod()) == Inactive):
			v := active(m.Since, Finding{"localhost_bind", evidence()})
			v.Because = "port_conflict" // if its log says that somebody else was there
			return v
		case m.says(PortTimeout, c.Started) && (h.Outcome == PortAnswered || h.says(PortTimeout, c.Started) || h.Reach == ReachLoopback):
			return active(m.Since, Finding{"firewall", evidence()})
		}
		return inactive()
	},
	Node: func(s *Snapshot) Verdict {
		p := s.Local.Proxy
		if p == nil || !p.Seen || s.Running == nil || s.Running.Settings == nil {
			return unknown("what kube-proxy runs with")
		}
		bind, told := s.Running.Settings.Settings["metricsbindaddress"]
		if !told {
			return unknown("metricsBindAddress")
		}
		if a, err := netip.ParseAddrPort(bind); err == nil && a.Addr().IsLoopback() {
			return active(p.began(), Finding{"localhost_bind", []string{"metricsBindAddress of /configz is " + bind + ", which only this node reaches"}})
		}
		return inactive()
	},
}
