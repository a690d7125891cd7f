package cause

import (
	"fmt"
	"time"
)

var rulesStale = Cause{
	Name:    "rules_stale",
	Meaning: "The rules on the node are not what the API says.",
	Details: []Detail{
		{"never_synced", "kube-proxy has never written the rules of this IP family and does not try again by itself: read its log for the first failed sync, mend that, restart the pod."},
		{"sync_failing", "Each try to write the rules fails: see the line; the same line number each time is one bad Service."},
		{"sync_stuck", "Rules have waited for long to be written: read kube-proxy's log for failed syncs, look for a blocked iptables or nft on the node, restart the pod."},
		{"watch_stale", "kube-proxy, or what stands in its place, does not follow what changes in the API although others do: its connection is dead. Restart the pod; look for a firewall or load balancer that forgets connections in silence."},
		{"flushed", "Another program removes the rules: look for a firewall service that reloads at that time. Restart the node's kube-proxy pod. If the rules stay incomplete in mode nftables, run 'nft delete table ip kube-proxy' (and ip6) on the node, then restart it again."},
		{"drift", "The kernel's rules are not what the API wants, and kube-proxy does not notice: restart its pod. If the drift stays in mode nftables, run 'nft delete table ip kube-proxy' (and ip6) on the node, then restart it again. Find out what else changes rules on the node."},
	},
	Eval: func(s *Snapshot) Verdict {
		v := fromLogs(s, "rules_stale")
		c := s.running()
		if v.State == Active || s.Ports == nil || c == nil {
			return v
		}
		// /livez fails when rules have waited for twice the sync period.
		if h := s.Ports.Healthz; h.says(PortAnswered, c.Started) && h.Livez == statusUnavailable {
			return active(h.Since, Finding{"sync_stuck", []string{h.String()}})
		}
		return v
	},
	Node: func(s *Snapshot) Verdict {
		p := s.Local.Proxy
		if p == nil || !p.Seen {
			if v := s.Local.Canary.stale(s); v.State == Active {
				return v // whichever proxy it is
			}
			return unknown("kube-proxy on this node")
		}
		switch {
		case p.stopped():
			return active(p.Process.Since, Finding{"sync_stuck", []string{fmt.Sprintf("process %d is stopped by a signal (state %s): it hears of no change and writes no rule", p.Process.PID, p.Process.State)}})
		case p.silent():
			return active(p.Ports.Healthz.Since, Finding{"sync_stuck", []string{p.Ports.Healthz.String(), "kube-proxy accepts connections and answers none"}})
		}
		for i := range p.Families {
			if v := p.Families[i].stale(s, p); v.State == Active {
				return v
			}
		}
		// /livez fails when rules have waited for twice the sync period.
		if h := p.Ports.Healthz; p.says(h, PortAnswered) && h.Livez == statusUnavailable {
			return active(h.Since, Finding{"sync_stuck", []string{h.String()}})
		}
		audited := s.Local.Audit.drifted()
		if audited.State == Active {
			return audited // it was looked at, whatever kube-proxy says
		}
		if v := s.Local.Canary.stale(s); v.State == Active {
			return v
		}
		switch {
		case audited.State != Unknown:
		case s.Local.Audit != nil && s.Local.Audit.Found:
			return audited // kube-proxy does not know that it is gone
		case p.Families == nil:
			return unknown("kube-proxy's metrics on the node")
		}
		return inactive()
	},
}

const (
	// firstSync is how long the first writing of the rules may take.
	firstSync = time.Minute
	// waiting is how long a change may wait: twice the sync period, as /livez counts.
	waiting = time.Minute
	// hearing is how long a change may be unheard of: client-go waits for up to a
	// minute before it watches again, and then lists.
	hearing = 90 * time.Second
)

// unheard is whether a change of that time should have been heard of by now: not while
// the API server does not answer, nor before it has for a while.
func (s *Snapshot) unheard(at time.Time) bool {
	if s.Local.HeardSince.After(at) {
		at = s.Local.HeardSince
	}
	return s.Now.Sub(at) >= hearing
}

// stale is whether the rules do not follow the Service that is moved, whatever
// kube-proxy says, and whatever stands in its place.
func (c *Canary) stale(s *Snapshot) Verdict {
	if c == nil || c.Behind.IsZero() || c.Times < confirmed || !s.unheard(c.Behind) {
		return inactive()
	}
	return active(c.Behind, Finding{"watch_stale", []string{
		fmt.Sprintf("the canary Service was moved to %s %s, and from here it still leads to %s, node %s, as seen last %s", c.Missed, stamp(c.Behind), c.Answers, c.Node, stamp(c.At))}})
}

// stale is whether the rules of an IP family are not current. In a cluster
// where nothing changes nothing is queued, and nothing is stale.
func (f *Family) stale(s *Snapshot, p *Proxy) Verdict {
	began := p.began()
	says := fmt.Sprintf("%s: last change heard of %s, rules last written %s, %.0f failed tries", f.Name, stamp(f.Queued), stamp(f.Synced), f.Failures)
	switch {
	case f.Unheard != "" && s.unheard(f.UnheardSince) && f.UnheardSince.Sub(began) >= startup:
		return active(f.UnheardSince, Finding{"watch_stale", []string{
			fmt.Sprintf("%s: the API changed %s %s, and kube-proxy has not heard of it; it last heard of a change %s", f.Name, f.Unheard, stamp(f.UnheardSince), stamp(f.Queued))}})
	case f.Queued.IsZero():
		return inactive() // a family that it does not serve, or nothing yet
	case f.Synced.IsZero() && !began.IsZero() && s.Now.Sub(began) >= firstSync && s.Now.Sub(f.Queued) >= firstSync:
		return active(began, Finding{"never_synced", []string{says}})
	case f.Synced.IsZero():
		return inactive()
	case !f.Failing.IsZero() && s.Now.Sub(f.Failing) >= waiting/2 && f.Synced.Before(f.Failing):
		return active(f.Failing, Finding{"sync_failing", []string{says}})
	case f.Queued.After(f.Synced) && s.Now.Sub(f.Queued) >= waiting:
		return active(f.Queued, Finding{"sync_stuck", []string{says}})
	}
	return inactive()
}
