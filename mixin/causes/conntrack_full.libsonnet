{
  name: 'conntrack_full',
  owner: 'node',
  severity: 'critical',
  'for': '5m',
  summary: 'The connection table of a node is full.',
  description: 'New connections are dropped.',
}
