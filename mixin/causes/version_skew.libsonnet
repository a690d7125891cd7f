{
  name: 'version_skew',
  yields: true,
  owner: 'platform',
  severity: 'info',
  'for': '10m',
  summary: 'The version of kube-proxy on a node does not fit that of the API server.',
  description: 'kube-proxy may be up to three minor versions older, and not newer.',
}
