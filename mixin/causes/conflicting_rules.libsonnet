{
  name: 'conflicting_rules',
  owner: 'network',
  severity: 'warning',
  'for': '10m',
  summary: 'Two proxies own the Service rules of a node.',
  description: 'The detail says which two.',
}
