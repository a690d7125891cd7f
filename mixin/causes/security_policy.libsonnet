{
  name: 'security_policy',
  owner: 'security',
  severity: 'warning',
  'for': '5m',
  summary: 'A security policy keeps kube-proxy from running on a node.',
  description: 'The detail says which kind of policy; the event or message names it.',
}
