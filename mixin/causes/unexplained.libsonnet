{
  name: 'unexplained',
  alert: 'KubeProxyDownUnknownCause',
  owner: 'platform',
  severity: 'warning',
  'for': '10m',
  summary: 'kube-proxy on a node is not well and no cause explains it.',
  description: 'Look at the pod, and report what it was.',
}
