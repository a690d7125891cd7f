// Who measures how soon rules follow.
function(c) [
  { source: 'canary', record: 'cluster:kproxy_canary_slow', metric: 'kproxy_canary_latency_seconds', selector: c.kproxySelector, says: 'measured with the canary Service' },
] + (if c.kubeProxySelector == '' then [] else [
       { source: 'kube_proxy', record: 'cluster:kubeproxy_programming_slow', metric: 'kubeproxy_network_programming_duration_seconds', selector: c.kubeProxySelector, says: "by kube-proxy's own account" },
     ])
