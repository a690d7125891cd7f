package cause

import "time"

var vipUnreachable = Cause{
	Name:    "vip_unreachable",
	Meaning: "A Service does not answer on the node although everything behind it does: the rules are broken, not the network and not the backend.",
	Details: []Detail{
		{"dataplane", "Restart the node's kube-proxy pod. If that does not help in mode nftables, run 'nft delete table ip kube-proxy' (and ip6) on the node, then restart it again. If it does not last, find what else writes rules on the node (nft monitor, iptables-save)."},
	},
	Eval: func(*Snapshot) Verdict { return unknown(onlyTheNode) },
	Node: func(s *Snapshot) Verdict {
		if p := s.Local.Proxy; p == nil || !p.Seen {
			return unknown("kube-proxy on this node")
		}
		if found := dataplane(s); len(found) > 0 {
			return active(time.Time{}, Finding{"dataplane", found[:min(len(found), 5)]})
		}
		return kubernetesVIP(s)
	},
}

// kubernetesVIP judges the Service kubernetes, which every cluster has, without
// the API's word: from the same node at the same moments, by its own address and
// by that of each API server.
func kubernetesVIP(s *Snapshot) Verdict {
	var vip *APIAddress
	var behind []string
	all := true
	for i := range s.Local.API {
		switch a := &s.Local.API[i]; a.Kind {
		case KindVIP:
			vip = a
		case KindEndpoint:
			behind = append(behind, a.String())
			all = all && a.Class == APIClassOK && a.Times >= confirmed
		}
	}
	switch {
	case vip == nil || vip.Class == "":
		return unknown("an answer from the Service kubernetes")
	case vip.Class == APIClassOK:
		return inactive()
	case len(behind) == 0 || !all:
		return unknown("two answers in a row from every API server")
	case vip.Phase != "connect" || vip.Times < confirmed || s.Now.Sub(vip.Since) < apiRestart:
		return unknown("two failures in a row to connect to the Service kubernetes, over half a minute")
	}
	return active(vip.Since, Finding{"dataplane", append([]string{vip.String()}, behind...)})
}
