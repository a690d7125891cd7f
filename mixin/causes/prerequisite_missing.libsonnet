{
  name: 'prerequisite_missing',
  owner: 'node',
  severity: 'warning',
  'for': '5m',
  summary: 'The kernel or the image lacks what kube-proxy needs on a node.',
  description: 'The detail says what; the log line is on /causes of the exporter.',
}
