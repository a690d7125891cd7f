{
  name: 'image_pull',
  owner: 'platform',
  severity: 'warning',
  'for': '5m',
  summary: 'A node cannot get the image that kube-proxy needs.',
  description: 'See the message of the waiting container.',
}
