{
  name: 'config_mismatch',
  owner: 'platform',
  severity: 'warning',
  severities: { not_applied: 'info' },  // it works as it did before
  'for': '10m',
  summary: 'The configuration of kube-proxy does not fit a node.',
  description: 'The detail says what does not fit.',
}
