{
  name: 'oom_killed',
  owner: 'platform',
  severity: 'warning',
  'for': '5m',
  summary: 'The kernel killed kube-proxy on a node for want of memory.',
  description: 'The detail says whose memory ran out.',
}
