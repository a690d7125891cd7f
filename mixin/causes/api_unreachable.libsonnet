{
  name: 'api_unreachable',
  owner: 'platform',
  severity: 'warning',
  'for': '5m',
  summary: 'kube-proxy on a node does not get answers from the API server.',
  description: 'Its rules are as old as its last answer. The detail is the reason that its log gives.',
}
