// One alert for each cause, and those for many nodes and for no known cause.
function(c, alert)
  local q = (import '../lib/query.libsonnet')(c);
  local time = import '../lib/time.libsonnet';
  local camel(name) = std.join('', [std.asciiUpper(part[0]) + part[1:] for part in std.split(name, '_')]);
  // Of a cause whose details want different haste, the label is a template.
  local severity(cause) =
    local by = std.get(cause, 'severities', {});
    if by == {} then cause.severity else
      std.join('', ['{{ if eq $labels.detail "%s" }}%s{{ else }}' % [d, by[d]] for d in std.objectFields(by)]) +
      cause.severity + std.repeat('{{ end }}', std.length(by));
  local name(cause) = std.get(cause, 'alert', 'KubeProxy' + camel(cause.name));
  // The part of the nodes that x is about, of those that are not new.
  local part(x) = 'count by (%s) ((%s) %s)\n/ on (%s) cluster:kproxy_expected:count' % [q.cluster, x, q.settled, q.cluster];
  local unwell = 'node:kproxy_unhealthy:bool unless on (%s) %s' % [q.node, q.verdict('cause="node_not_ready"')];
  local unexplained = c.causes.unexplained;
  // Nodes of which probes by Services' addresses fail, as the detail that is graver then.
  local failing(detail) = 'label_replace(sum by (%s) (node:kproxy_probe_vip_failures:increase5m) > 0, "detail", "%s", "", "")' % [q.node, detail];
  [
    assert time.milliseconds(c.window) < time.milliseconds(cause['for']) : "%s: 'for' must be longer than the window, %s" % [cause.name, c.window];
    alert(name(cause), {
      expr: 'max by (%s, detail) (%s) == 1' % [q.node, q.verdict('cause="%s"' % cause.name)] +
            // What no role explains is what neither its word nor its health explain.
            (if cause.name != 'unexplained' then '' else '\nor on (%s) label_replace(node:kproxy_down:bool, "detail", "unhealthy", "", "")' % q.node) +
            std.join('', ['\nunless on (%s, detail) %s' % [q.node, failing(d)] for d in std.objectFields(std.get(cause, 'escalates', {}))]),
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
    alert(name(cause), {
      expr: 'max by (%s, detail) (%s) == 1\nand on (%s, detail) %s' % [q.node, q.verdict('cause="%s", detail="%s"' % [cause.name, d]), q.node, failing(d)],
      'for': cause['for'],
      severity: cause.escalates[d],
      cause: cause.name,
      owner: cause.owner,
      scope: 'node',
      summary: cause.summary,
      description: "kube-proxy on node {{ $labels.node }}: %s / {{ $labels.detail }}, and probes by Services' addresses fail there. %s" % [cause.name, cause.description],
      page: 'causes/%s.md' % cause.name,
      dashboard: 'node',
    })
    for cause in q.causes
    for d in std.objectFields(std.get(cause, 'escalates', {}))
  ] + [
    // Where causes take turns none may last long enough to fire.
    alert(name(unexplained), {
      expr: 'node:kproxy_unhealthy:bool\nunless on (%(node)s) ALERTS{alertstate="firing", kube_proxy_scope="node", kube_proxy_cause!~"symptom|exporter", severity!="info", detail!="changing"}\nunless on (%(node)s) %(notReady)s' % {
        node: q.node,
        notReady: q.verdict('cause="node_not_ready"'),
      },
      'for': c.changingFor,
      severity: unexplained.severity,
      cause: unexplained.name,
      owner: unexplained.owner,
      scope: 'node',
      labels: { detail: 'changing' },
      summary: unexplained.summary,
      description: 'kube-proxy on node {{ $labels.node }} has not done its job for a while, and no cause has lasted: see Causes over time on the dashboard of the node.',
      page: 'causes/%s.md' % unexplained.name,
      dashboard: 'node',
    }),
  ] + [
    alert('KubeProxyMassCause', {
      expr: 'sum by (%(cluster)s) (cluster_cause:kproxy_nodes:count{cause="%(cause)s"} >= %(nodes)d)\n/ on (%(cluster)s) cluster:kproxy_expected:count > %(ratio)g' % {
        cluster: q.cluster,
        cause: cause.name,
        nodes: c.massCauseNodes,
        ratio: c.massCauseRatio,
      },
      'for': '5m',
      severity: cause.severity,
      cause: cause.name,
      owner: cause.owner,
      scope: 'cluster',
      summary: 'One cause keeps kube-proxy from its job on many nodes.',
      description: '%s on {{ $value | humanizePercentage }} of the nodes: look for what they have in common before you look at one of them. %s' % [cause.name, cause.summary],
      page: 'causes/%s.md' % cause.name,
      dashboard: 'on-call',
    })
    for cause in q.serious
  ] + [
    alert('KubeProxyDownClusterWide', {
      // Only nodes whose kube-proxy does not work: causes beside which it works are
      // KubeProxyMassCause.
      expr: '%s > %g\nor on (%s)\n(%s > %g\nand on (%s) count by (%s) ((%s) %s) >= %d)' % [
        part(unwell),
        c.clusterWideRatio,
        q.cluster,
        part(unwell),
        c.massCauseRatio,
        q.cluster,
        q.cluster,
        unwell,
        q.settled,
        c.massCauseNodes,
      ],
      'for': '5m',
      severity: 'critical',
      cause: 'many',
      owner: 'platform',
      scope: 'cluster',
      summary: 'kube-proxy does not work on many nodes.',
      description: 'kube-proxy does not work on {{ $value | humanizePercentage }} of the nodes, whatever the cause. The alerts of the nodes and the dashboard name the causes.',
      page: 'alerts.md#kubeproxydownclusterwide',
      dashboard: 'on-call',
    }),
    alert('KubeProxyApiCertificateExpiring', {
      expr: 'min by (%s, endpoint) (last_over_time(kproxy_api_certificate_expiry_timestamp_seconds{%s}[%s])) - time() < %d * 86400' % [q.cluster, q.sel, c.time('15m'), c.certificateDays],
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
