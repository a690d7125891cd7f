{
  name: 'resource_exhausted',
  owner: 'node',
  severity: 'warning',
  'for': '5m',
  summary: 'kube-proxy ran into a limit of a node.',
  description: 'The detail says which.',
}
