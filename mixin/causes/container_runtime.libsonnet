{
  name: 'container_runtime',
  owner: 'node',
  severity: 'warning',
  'for': '5m',
  summary: 'The container runtime of a node does not run kube-proxy.',
  description: 'The detail says how; see the Ready condition of the node and the events of the pod.',
}
