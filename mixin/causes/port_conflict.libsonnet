{
  name: 'port_conflict',
  owner: 'platform',
  severity: 'info',
  'for': '10m',
  summary: 'Another process holds a port of kube-proxy on a node.',
  description: 'The detail says which of its two ports.',
}
