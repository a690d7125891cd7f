{
  name: 'missing_on_node',
  owner: 'platform',
  severity: 'warning',
  'for': '5m',
  summary: 'A node that should run kube-proxy has no pod for it.',
  description: 'The detail says what keeps it off; see the events of the DaemonSet.',
}
