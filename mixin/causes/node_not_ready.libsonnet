{
  name: 'node_not_ready',
  // A kubelet that is not heard of any more, where the node itself says that the
  // API server cannot be reached, is a consequence of that.
  behind: { unknown: 'api_unreachable' },
  owner: 'node',
  severity: 'info',
  'for': '5m',
  summary: 'The node under kube-proxy is not Ready.',
  description: 'See the Ready condition of the node; the node has its own alerts.',
}
