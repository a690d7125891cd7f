{
  name: 'rules_stale',
  owner: 'platform',
  severity: 'critical',
  'for': '5m',
  summary: 'The Service rules on a node are not what the API says.',
  description: 'The detail says what kube-proxy fails at.',
}
