{
  name: 'node_not_ready',
  owner: 'node',
  severity: 'info',
  'for': '5m',
  summary: 'The node under kube-proxy is not Ready.',
  description: 'See the Ready condition of the node; the node has its own alerts.',
}
