{
  name: 'crash_loop',
  owner: 'platform',
  severity: 'warning',
  'for': '5m',
  summary: 'kube-proxy starts and ends again and again on a node.',
  description: 'The detail is the reason that its log gives; see /causes of the exporter for the line.',
}
