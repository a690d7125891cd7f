{
  local c = $._config,
  local q = (import '../lib/query.libsonnet')(c),
  local g = import '../lib/grafana.libsonnet',
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
    toNode: g.link('Node ${__data.fields.node}', '/d/%s?var-datasource=${datasource}&var-cluster=${cluster}&var-node=${__data.fields.node}&${__url_time_range}' % c.dashboards.uids.node),
    toRunbook: g.link('What to do about ${__data.fields.cause}', runbook('causes/${__data.fields.cause}.md')),
    interval: c.dashboards.intervalVariable,
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
    since:: 'min by (%s) (last_over_time(kproxy_cause_start_timestamp_seconds{%s}[%s]))' % [q.nodeCause, self.sel(), q.window],
    variables: { cluster: cluster, node: node },
  },
  grafanaDashboards+:: {
    'kproxy-on-call.json': (import 'on-call.libsonnet')(d),
    'kproxy-node.json': (import 'node.libsonnet')(d),
    'kproxy-prober.json': (import 'prober.libsonnet')(d),
  },
}
