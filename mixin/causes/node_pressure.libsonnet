{
  name: 'node_pressure',
  owner: 'node',
  severity: 'warning',
  'for': '5m',
  summary: 'The node under kube-proxy is short of memory, disk or process ids.',
  description: 'The kubelet evicts pods and starts none; see the pressure conditions of the node.',
}
