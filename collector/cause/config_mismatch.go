package cause

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

var configMismatch = Cause{
	Name:    "config_mismatch",
	Meaning: "kube-proxy's configuration does not fit this node or cluster.",
	Details: []Detail{
		{"mode", "The mode that runs is not the one that is configured: see the line; since 1.26 there is no fallback."},
		{"cluster_cidr", "Set clusterCIDR in the kube-proxy ConfigMap to the cluster's pod range, then restart its pods: what is outside is masqueraded."},
		{"ip_family", "Give clusterCIDR and bindAddress the IP families of the nodes and Services."},
		{"hostname", "Start kube-proxy with --hostname-override=$(NODE_NAME) from spec.nodeName: under another name it never finds its Node."},
		{"not_applied", "Restart kube-proxy's pods (kubectl -n kube-system rollout restart daemonset kube-proxy): they do not read a changed ConfigMap again."},
		{"node_ip", "The Node had no address when kube-proxy started: restart its pod now that it has one."},
	},
	Eval: func(s *Snapshot) Verdict {
		if v := fromLogs(s, "config_mismatch"); v.State == Active {
			return v
		}
		if v := notEligible(s); v.State == Active {
			return v
		}
		if v := otherName(s); v.State == Active {
			return v
		}
		if s.Config == nil || s.Node == nil || s.Pods == nil {
			return unknown("the kube-proxy ConfigMap, the Node and the pods")
		}
		for i := range s.Pods.List {
			if v := wrongName(s, &s.Pods.List[i]); v.State == Active {
				return v
			}
		}
		if (s.Config.Missing || s.Config.Error != "" || !s.configured()) && !s.Running.versioned() {
			return unknown("a configuration that can be read, of a kube-proxy that uses it")
		}
		if v := wrongRange(s); v.State == Active {
			return v
		}
		return notApplied(s)
	},
	Node: func(s *Snapshot) Verdict {
		if s.Local.Proxy == nil || !s.Local.Proxy.Seen || s.Running == nil || s.Running.Settings == nil {
			return unknown("what kube-proxy runs with")
		}
		if v := otherName(s); v.State == Active {
			return v
		}
		p := s.Local.Proxy
		if p.Eligible != nil && !*p.Eligible && p.Ports.Healthz.Livez == statusOK && s.Running.Hostname == "" {
			return unknown("whether the node is being drained")
		}
		if len(p.FileDiffers) > 0 && s.Now.Sub(p.FileSince) >= editing {
			return active(p.FileSince, Finding{"not_applied", []string{fmt.Sprintf("%s differs from /configz in %s", p.File, strings.Join(p.FileDiffers, ", "))}})
		}
		return inactive()
	},
}

// notEligible is for a kube-proxy that lives and calls its node not eligible,
// while nobody drains it: it never found a Node of the name that it looks for.
func notEligible(s *Snapshot) Verdict {
	c := s.running()
	if c == nil || s.Ports == nil || s.Node == nil || s.Node.Draining {
		return inactive()
	}
	h := s.Ports.Healthz
	if !h.says(PortAnswered, c.Started) || h.Status != statusUnavailable || h.Livez != statusOK || h.At.Sub(c.Started) < 2*startup {
		return inactive()
	}
	return active(h.Since, Finding{"hostname", []string{h.String(), "kube-proxy lives, its node is not being drained, and it calls it not eligible: it does not find a Node of the name that it looks for"}})
}

// configured is whether the node's kube-proxy reads the ConfigMap, as far as
// the pods tell.
func (s *Snapshot) configured() bool {
	if len(s.Pods.List) == 0 {
		return true
	}
	return slices.ContainsFunc(s.Pods.List, func(p Pod) bool { return !p.ArgsKnown || p.ConfigFrom == s.Config.Name })
}

// otherName is for a kube-proxy that says itself by which name it looks.
func otherName(s *Snapshot) Verdict {
	if s.Running == nil || s.Running.Hostname == "" || s.Running.Hostname == s.Name {
		return inactive()
	}
	return active(time.Time{}, Finding{"hostname", []string{fmt.Sprintf("hostnameOverride of /configz is %q and the node is %q", s.Running.Hostname, s.Name)}})
}

// wrongName is for a kube-proxy that looks for another Node than the one it is on.
func wrongName(s *Snapshot, p *Pod) Verdict {
	if p.Deleting || p.HostnameFlag && p.Hostname == "" || s.Running != nil && s.Running.Hostname == s.Name {
		return inactive() // a variable fills it, or it says itself that it is right
	}
	name, from := p.Hostname, "its --hostname-override is "
	if name == "" && !s.Config.Missing && (!p.ArgsKnown || p.ConfigFrom == s.Config.Name) {
		name, from = strings.ToLower(strings.TrimSpace(s.Config.Hostname)), "hostnameOverride in "+s.Config.Name+" is "
	}
	if name == "" || name == s.Name {
		return inactive()
	}
	return active(time.Time{}, Finding{"hostname", []string{fmt.Sprintf("pod %s: %s%q and the node is %q", p.Name, from, name, s.Name)}})
}

// wrongRange compares clusterCIDR with the node's pod ranges. It matters only
// where kube-proxy tells local traffic by it.
func wrongRange(s *Snapshot) Verdict {
	if !s.Running.versioned() && s.Now.Sub(s.Config.Since) < editing {
		return inactive() // nobody says yet that it runs with this
	}
	clusters, from, ok := s.ranges()
	if !ok || len(clusters) == 0 || len(s.Node.PodCIDRs) == 0 {
		return inactive()
	}
	var outside []string
	sameFamily := false
	for _, pods := range s.Node.PodCIDRs {
		for _, cluster := range clusters {
			sameFamily = sameFamily || pods.Addr().Is4() == cluster.Addr().Is4()
		}
		if !covered(pods, clusters) {
			outside = append(outside, pods.String())
		}
	}
	says := fmt.Sprintf("%s is %v, the node's pod ranges are %v", from, clusters, s.Node.PodCIDRs)
	switch {
	case !sameFamily:
		return active(time.Time{}, Finding{"ip_family", []string{says}})
	case len(outside) > 0:
		return active(time.Time{}, Finding{"cluster_cidr", []string{says, fmt.Sprintf("outside: %v", outside)}})
	}
	return inactive()
}

// covered is whether a pod range lies in one of the cluster's, or the cluster
// has none of its family: then kube-proxy does without.
func covered(pods netip.Prefix, cluster []netip.Prefix) bool {
	family := false
	for _, c := range cluster {
		if c.Addr().Is4() != pods.Addr().Is4() {
			continue
		}
		family = true
		if c.Bits() <= pods.Bits() && c.Contains(pods.Addr()) {
			return true
		}
	}
	return !family
}
