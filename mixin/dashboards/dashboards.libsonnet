{
  local c = $._config,
  local q = (import '../lib/query.libsonnet')(c),
  local g = import '../lib/grafana.libsonnet',
  local time = import '../lib/time.libsonnet',
  local cluster = g.variable('cluster', 'Cluster', 'label_values(kproxy_expected{%s}, %s)' % [c.kproxySelector, c.clusterLabel], all=true, hide=!c.showMultiCluster),
  local node = g.variable('node', 'Node', 'label_values(kproxy_expected{%s, %s=~"$cluster"}, node)' % [c.kproxySelector, c.clusterLabel]),
  local runbook = function(page) c.runbookURLPattern % page,
  // What all of them share.
  local d = {
    c: c,
    q: q,
    g: g,
    // Selector of our series in the chosen cluster, with more.
    sel(more=''):: std.join(', ', [c.kproxySelector, '%s=~"$cluster"' % c.clusterLabel] + (if more == '' then [] else [more])),
    inCluster:: '%s=~"$cluster"' % c.clusterLabel,
    recorded(name, more=''):: '%s{%s}' % [name, std.join(', ', [self.inCluster] + (if more == '' then [] else [more]))],
    runbook: runbook,
    toNode: g.link('Node ${__data.fields.node}', '/d/%s?var-datasource=${datasource}&var-cluster=%s&var-node=${__data.fields.node}&${__url_time_range}' % [c.dashboards.uids.node, if c.showMultiCluster then '${__data.fields["%s"]}' % c.clusterLabel else '${cluster}']),
    toRunbook: g.link('What to do about ${__data.fields.cause}', runbook('causes/${__data.fields.cause}.md')),
    interval: c.dashboards.intervalVariable,
    // Whose a line is, in its legend.
    nodeLegend: if c.showMultiCluster then '{{%s}} {{node}}' % c.clusterLabel else '{{node}}',
    // The windows of the objective by length, and the error budget that is left.
    windows(list):: std.set(['5m'] + list, time.milliseconds),
    budgetLeft:: 'clamp_min(1 - (sum(sum_over_time(%s[%dd])) / sum(sum_over_time(%s[%dd]))) / %.6g, -1)' % [
      self.recorded('cluster:kproxy_probe_vip_failures:increase5m'),
      c.SLOs.vip.days,
      self.recorded('cluster:kproxy_probe_vip_attempts:increase5m'),
      c.SLOs.vip.days,
      1 - c.SLOs.vip.target,
    ],
    ok: [[null, 'green']],
    anyIsBad: [[null, 'green'], [1, 'red']],
    // The verdicts, with the owner of each cause as a label.
    verdictsWithOwner(more):: std.join('\nor ', [
      'label_replace(node:kproxy_verdict:primary{%s}, "owner", "%s", "", "")' % [
        std.join(', ', [self.inCluster] + (if more == '' then [] else [more]) + ['cause=~"%s"' % std.join('|', [k.name for k in q.causes if k.owner == o])]),
        o,
      ]
      for o in std.set([k.owner for k in q.causes])
    ]),
    // Those that are not well and have none, since when and with the same labels.
    downSince:: std.foldl(
      function(expr, l) 'label_replace(%s, "%s", "%s", "", "")' % [expr, l[0], l[1]],
      [['cause', 'unexplained'], ['detail', 'unhealthy'], ['owner', c.causes.unexplained.owner]],
      'max by (%s) (ALERTS_FOR_STATE{%s, kube_proxy_cause="unexplained", detail="unhealthy"}) and on (%s) %s' % [q.node, self.inCluster, q.node, self.recorded('node:kproxy_down:bool')]
    ),
    since:: 'min by (%s) (last_over_time(kproxy_cause_start_timestamp_seconds{%s}[%s]))' % [q.nodeCause, self.sel(), q.window],
    variables: { cluster: cluster, node: node },
  },
  grafanaDashboards+:: {
    'kproxy-on-call.json': (import 'on-call.libsonnet')(d),
    'kproxy-node.json': (import 'node.libsonnet')(d),
    'kproxy-prober.json': (import 'prober.libsonnet')(d),
  },
}
