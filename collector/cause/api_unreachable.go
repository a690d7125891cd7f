package cause

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
}
