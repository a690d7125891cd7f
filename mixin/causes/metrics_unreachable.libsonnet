{
  name: 'metrics_unreachable',
  yields: true,
  owner: 'monitoring',
  severity: 'info',
  'for': '10m',
  summary: 'Monitoring cannot reach the metrics of kube-proxy on a node.',
  description: 'kube-proxy itself may well work. The detail says what is in the way.',
}
