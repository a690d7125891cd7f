// What users feel: Services that do not answer, and rules that follow late.
// These page whatever the cause is, and none of them is ever inhibited but the
// one about a single node, by an alert that pages for it with its cause.
function(c, alert)
  local q = (import '../lib/query.libsonnet')(c);
  local vip = c.SLOs.vip;
  local programming = c.SLOs.programming;
  [
    alert('KubeProxyVIPErrorBudgetBurn', {
      expr: 'cluster:kproxy_probe_vip_failure:ratio_rate%(long)s > %(limit).6g\nand on (%(cluster)s)\ncluster:kproxy_probe_vip_failure:ratio_rate%(short)s > %(limit).6g\nand on (%(cluster)s)\ncluster:kproxy_probe_vip_attempts:increase5m > %(attempts)g' % w {
        cluster: q.cluster,
        limit: w.factor * (1 - vip.target),
        attempts: c.minAttempts,
      },
      'for': w['for'],
      severity: w.severity,
      cause: 'symptom',
      owner: 'network',
      scope: 'cluster',
      labels: { long: w.long, short: w.short },
      summary: 'Services fail so often that the error budget will not last.',
      description: "{{ $value | humanizePercentage }} of the probes by Services' addresses failed in %s, other than by the fault of a backend or the network: at this rate %d days' budget lasts %s days." % [w.long, vip.days, '%.1f' % (vip.days / w.factor)],
      page: 'alerts.md#kubeproxyviperrorbudgetburn',
      dashboard: 'prober',
    })
    for w in vip.windows
  ] + [
    alert('KubeProxyNodeVIPFailing', {
      // Of what nobody asked directly nothing is known.
      expr: 'node:kproxy_probe_vip_failures:increase5m / node:kproxy_probe_vip_attempts:increase5m\n- on (%(vantage)s) node:kproxy_probe_endpoint_failure:ratio_rate5m > %(more)g\nand on (%(vantage)s) node:kproxy_probe_vip_attempts:increase5m > %(attempts)g' % {
        vantage: q.vantage,
        more: c.vipFailingRatio,
        attempts: c.minAttempts,
      },
      'for': '3m',
      severity: 'critical',
      cause: 'symptom',
      owner: 'network',
      scope: 'node',
      summary: 'Services do not answer on a node although what is behind them does.',
      description: "By Services' addresses {{ $value | humanizePercentage }} more of the probes fail on node {{ $labels.node }} ({{ $labels.vantage }} network) than by their endpoints' own. An alert with the cause for the same node says why, if anybody knows.",
      page: 'alerts.md#kubeproxynodevipfailing',
      dashboard: 'node',
    }),
  ] + [
    alert('KubeProxyProgrammingSlow', {
      expr: '%(slow)s:ratio_rate1h > %(limit).6g\nand on (%(cluster)s)\n%(slow)s:ratio_rate%(short)s > %(limit).6g\nand on (%(cluster)s)\n%(slow)s:changes1h > %(changes)g' % {
        slow: s.record,
        cluster: q.cluster,
        short: programming.short,
        limit: programming.factor * (1 - programming.target),
        changes: programming.minChanges,
      },
      'for': '15m',
      severity: 'warning',
      cause: 'symptom',
      owner: 'network',
      scope: 'cluster',
      labels: { source: s.source },
      summary: 'Rules follow the API late.',
      description: '{{ $value | humanizePercentage }} of the changes took more than %g s to reach the rules (%s).' % [programming.seconds, s.says],
      page: 'alerts.md#kubeproxyprogrammingslow',
      dashboard: 'prober',
    })
    for s in (import '../lib/programming.libsonnet')(c)
  ]
