{
  name: 'conntrack_full',
  owner: 'node',
  severity: 'critical',
  severities: { near: 'warning' },
  'for': '5m',
  summary: 'The connection table of a node is full, or nearly.',
  description: 'Where it is full new connections are dropped.',
}
