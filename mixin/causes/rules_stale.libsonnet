{
  name: 'rules_stale',
  owner: 'platform',
  severity: 'critical',
  // Rules of a Service that nobody may be using; a page where probes fail too.
  severities: { drift: 'warning' },
  escalates: { drift: 'critical' },
  'for': '5m',
  summary: 'The Service rules on a node are not what the API says.',
  description: 'The detail says what kube-proxy fails at, or how the rules differ.',
}
