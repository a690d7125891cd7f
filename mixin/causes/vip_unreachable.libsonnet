{
  name: 'vip_unreachable',
  owner: 'platform',
  severity: 'critical',
  'for': '3m',
  summary: 'Services do not answer on a node although their backends do.',
  description: 'The rules on the node are broken; network and backends are not.',
}
