{
  name: 'port_conflict',
  yields: true,
  owner: 'platform',
  severity: 'warning',
  'for': '10m',
  summary: 'Another process holds a port of kube-proxy on a node.',
  description: 'The detail says which of its two ports.',
}
