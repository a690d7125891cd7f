{
  name: 'evicted',
  owner: 'node',
  severity: 'warning',
  'for': '5m',
  summary: 'The kubelet evicted kube-proxy from a node.',
  description: 'It has not come back. The detail is the resource that lacked.',
}
