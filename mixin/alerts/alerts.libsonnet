{
  local config = $._config,
  // What every alert of ours has; a is what one says of itself.
  local alert(name, a) = {
    alert: name,
    expr: a.expr,
    'for': config.time(a['for']),
    [if !std.member(['symptom', 'exporter'], a.cause) || std.get(a, 'silences', false) then 'keep_firing_for']: config.time(config.keepFiringFor),
    labels: {
      severity: a.severity,
      component: 'kube-proxy',
      kube_proxy_cause: a.cause,
      kube_proxy_owner: a.owner,
      kube_proxy_scope: a.scope,
    } + (if a.scope == 'node' then { instance: '{{ $labels.node }}' } else {}) + std.get(a, 'labels', {}),
    annotations: {
      summary: a.summary,
      description: a.description,
      runbook_url: config.runbookURLPattern % a.page,
    } + (if config.grafanaURL == '' then {} else {
           dashboard_url: '%s/d/%s?var-cluster={{ $labels.%s }}' % [config.grafanaURL, config.dashboards.uids[a.dashboard], config.clusterLabel] +
                          (if a.dashboard == 'node' then '&var-node={{ $labels.node }}' else ''),
         }),
  },
  prometheusAlerts+:: {
    groups+: [
      { name: 'kproxy-causes', rules: (import 'verdicts.libsonnet')(config) + (import 'causes.libsonnet')(config, alert) + (import 'exporter.libsonnet')(config, alert) },
      { name: 'kproxy-slo', rules: (import 'slo.libsonnet')(config, alert) },
    ],
  },
}
