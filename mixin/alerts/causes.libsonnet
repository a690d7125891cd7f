// One alert for each cause, and those for many nodes and for no known cause.
function(c, alert)
  local q = (import '../lib/query.libsonnet')(c);
  local camel(name) = std.join('', [std.asciiUpper(part[0]) + part[1:] for part in std.split(name, '_')]);
  // Of a cause whose details want different haste, the label is a template.
  local severity(cause) =
    local by = std.get(cause, 'severities', {});
    if by == {} then cause.severity else
      std.join('', ['{{ if eq $labels.detail "%s" }}%s{{ else }}' % [d, by[d]] for d in std.objectFields(by)]) +
      cause.severity + std.repeat('{{ end }}', std.length(by));
  local name(cause) = std.get(cause, 'alert', 'KubeProxy' + camel(cause.name));
  local bad = 'group by (%s) (%s)\nor on (%s) node:kproxy_down:bool' % [q.node, q.verdict('cause=~"%s"' % q.seriousNames), q.node];
  [
    alert(name(cause), {
      expr: 'max by (%s, detail) (%s) == 1' % [q.node, q.verdict('cause="%s"' % cause.name)] +
            // What no role explains is what neither its word nor its health explain.
            (if cause.name != 'unexplained' then '' else '\nor on (%s) label_replace(node:kproxy_down:bool, "detail", "unhealthy", "", "")' % q.node),
      'for': cause['for'],
      severity: severity(cause),
      cause: cause.name,
      owner: cause.owner,
      scope: 'node',
      summary: cause.summary,
      description: 'kube-proxy on node {{ $labels.node }}: %s / {{ $labels.detail }}. %s' % [cause.name, cause.description],
      page: 'causes/%s.md' % cause.name,
      dashboard: 'node',
    })
    for cause in q.causes
  ] + [
    alert('KubeProxyMassCause', {
      expr: 'count by (%(cluster)s) (group by (%(node)s) (%(verdict)s)) >= %(nodes)d\nand on (%(cluster)s)\ncount by (%(cluster)s) (group by (%(node)s) (%(verdict)s)) / on (%(cluster)s) cluster:kproxy_expected:count > %(ratio)g' % {
        cluster: q.cluster,
        node: q.node,
        verdict: q.verdict('cause="%s"' % cause.name),
        nodes: c.massCauseNodes,
        ratio: c.massCauseRatio,
      },
      'for': '5m',
      severity: 'critical',
      cause: cause.name,
      owner: cause.owner,
      scope: 'cluster',
      summary: 'One cause keeps kube-proxy from its job on many nodes.',
      description: '%s on {{ $value }} nodes: look for what they have in common before you look at one of them. %s' % [cause.name, cause.summary],
      page: 'causes/%s.md' % cause.name,
      dashboard: 'on-call',
    })
    for cause in q.serious
  ] + [
    alert('KubeProxyDownClusterWide', {
      expr: 'count by (%(cluster)s) (%(bad)s)\n/ on (%(cluster)s) cluster:kproxy_expected:count > %(ratio)g' % { cluster: q.cluster, bad: bad, ratio: c.clusterWideRatio },
      'for': '5m',
      severity: 'critical',
      cause: 'many',
      owner: 'platform',
      scope: 'cluster',
      summary: 'Most nodes have something wrong with kube-proxy.',
      description: '{{ $value | humanizePercentage }} of the nodes have something wrong with kube-proxy, by whatever cause; the alerts of the nodes and the dashboard name them.',
      page: 'alerts.md#kubeproxydownclusterwide',
      dashboard: 'on-call',
    }),
    alert('KubeProxyApiCertificateExpiring', {
      expr: 'min by (%s, endpoint) (kproxy_api_certificate_expiry_timestamp_seconds{%s}) - time() < %d * 86400' % [q.cluster, q.sel, c.certificateDays],
      'for': '1h',
      severity: 'warning',
      cause: 'api_unreachable',
      owner: 'platform',
      scope: 'cluster',
      summary: 'A certificate of an API server ends soon.',
      description: 'A certificate that the API server shows at {{ $labels.endpoint }} ends in {{ $value | humanizeDuration }}; no kube-proxy will hear of changes after that.',
      page: 'alerts.md#kubeproxyapicertificateexpiring',
      dashboard: 'on-call',
    }),
  ]
