package cause

import "time"

var apiUnreachable = Cause{
	Name:    "api_unreachable",
	Meaning: "kube-proxy does not get what it needs from the API server; its rules are as old as its last answer.",
	Details: []Detail{
		{"refused", "Nobody listens at the address in kube-proxy's kubeconfig: see that the API server and its load balancer are up."},
		{"timeout", "The node does not reach the API server: check route, firewall and load balancer from the node (curl -k https://SERVER/livez)."},
		{"dns", "The node cannot resolve the API server's name: see /etc/resolv.conf on the node; it must not be the cluster's DNS."},
		{"tls", "The certificate is not the one that kube-proxy's CA signed, or not for this name: compare the CA in its kubeconfig with the API server's."},
		{"cert_expired", "Renew the certificate (kubeadm certs renew), check the node's clock, then restart kube-proxy."},
		{"unauthorized", "Its token or certificate is not accepted: restart the pod for a new token; see that all API servers share the service account key."},
		{"forbidden", "Restore the ClusterRoleBinding of system:node-proxier to kube-proxy's service account."},
		{"wrong_endpoint", "Correct the server in kube-proxy's kubeconfig: on this node nobody listens there."},
	},
	Eval: func(s *Snapshot) Verdict { return fromLogs(s, "api_unreachable") },
	Node: func(s *Snapshot) Verdict {
		var own *APIAddress
		for i := range s.Local.API {
			if a := &s.Local.API[i]; a.Kind == KindKubeProxy {
				own = a
			}
		}
		if own == nil {
			return deadEndpoints(s)
		}
		switch {
		case own.Class == APIClassOK:
			return inactive()
		case own.Class == "" || own.Class == "failed" || own.Times < confirmed:
			return unknown("an answer from the address in kube-proxy's kubeconfig, or two failures alike")
		case own.restarting(s):
			return inactive()
		}
		evidence := []string{own.String()}
		for i := range s.Local.API {
			if a := &s.Local.API[i]; a != own {
				evidence = append(evidence, a.String())
			}
		}
		return active(own.Since, Finding{own.Class, evidence})
	},
}

// apiRestart is how long an API server or its load balancer may take to start
// again: kube-proxy's rules are good meanwhile.
const apiRestart = 30 * time.Second

// restarting is whether nobody answers, and not for long yet.
func (a *APIAddress) restarting(s *Snapshot) bool {
	return (a.Class == "refused" || a.Class == "timeout") && s.Now.Sub(a.Since) < apiRestart
}

// deadEndpoints is for a node on which kube-proxy's own address is not known:
// if no API server answers, its address cannot help it.
func deadEndpoints(s *Snapshot) Verdict {
	var first *APIAddress
	var evidence []string
	for i := range s.Local.API {
		a := &s.Local.API[i]
		if a.Kind == KindVIP && a.Class == APIClassOK {
			return unknown("the address in kube-proxy's kubeconfig") // one answers, behind it
		}
		if a.Kind != KindEndpoint {
			continue
		}
		if a.Class == APIClassOK || a.Class == "" || a.Class == "failed" || a.Times < confirmed {
			return unknown("the address in kube-proxy's kubeconfig")
		}
		if first == nil || a.Since.After(first.Since) {
			first = a // they are all dead since the last one died
		}
		evidence = append(evidence, a.String())
	}
	switch {
	case first == nil:
		return unknown("the addresses of the API server")
	case first.restarting(s):
		return inactive()
	}
	return active(first.Since, Finding{first.Class, append(evidence, "kube-proxy's own address is not known, and no API server answers")})
}
