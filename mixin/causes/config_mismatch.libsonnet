{
  name: 'config_mismatch',
  owner: 'platform',
  severity: 'warning',
  'for': '10m',
  summary: 'The configuration of kube-proxy does not fit a node.',
  description: 'The detail says what does not fit.',
}
