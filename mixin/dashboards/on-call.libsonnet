// Is it real, where, why, since when: on the first screen.
function(d)
  local c = d.c, q = d.q, g = d.g;
  local vip = c.SLOs.vip;
  local expected = 'sum(%s)' % d.recorded('cluster:kproxy_expected:count');
  local unhealthy = 'count(group by (%s) (%s) or on (%s) %s)' % [q.node, d.recorded('node:kproxy_verdict:primary', 'cause=~"%s"' % q.seriousNames), q.node, d.recorded('node:kproxy_unhealthy:bool')];
  g.dashboard(c, c.dashboards.uids['on-call'], 'On-call', 'Is it real, where, why, since when.', [d.variables.cluster], [
    g.stat('Services answer',
           "How many of the probes by Services' addresses were answered in the last five minutes, leaving out those that fail by the fault of a backend or of the network.",
           4,
           4,
           '1 - sum(%s) / sum(%s)' % [d.recorded('cluster:kproxy_probe_vip_failures:increase5m'), d.recorded('cluster:kproxy_probe_vip_attempts:increase5m')],
           'percentunit',
           [[null, 'red'], [0.99, 'orange'], [vip.target, 'green']],
           { decimals: 2 }),
    g.stat('Error budget left',
           'What is left of the failures that the objective of %g %% allows in %d days; -100%% is as much again as it allows, or more. It looks back as far as Prometheus keeps what is recorded.' % [vip.target * 100, vip.days],
           4,
           4,
           d.budgetLeft,
           'percentunit',
           [[null, 'red'], [0, 'orange'], [0.25, 'green']],
           { decimals: 0 }),
    g.stat('Nodes in trouble',
           'Nodes with a cause that wants somebody to act, or whose kube-proxy is not well.',
           4,
           4,
           '%s or 0 * %s' % [unhealthy, expected],
           'none',
           d.anyIsBad),
    g.stat('Nodes that should run kube-proxy',
           'Nodes where kube-proxy is expected. Where it is absent by design (Cilium, k3s and others) nothing fires.',
           4,
           4,
           '%s or vector(0)' % expected,
           'none',
           [[null, 'blue']]),
    g.stat('Cause unknown',
           'Nodes whose kube-proxy is not well, and nobody knows why.',
           4,
           4,
           'count(%s or on (%s) %s) or 0 * %s' % [d.recorded('node:kproxy_verdict:primary', 'cause="unexplained"'), q.node, d.recorded('node:kproxy_down:bool'), expected],
           'none',
           d.anyIsBad),
    g.stat('Nodes with a verdict',
           'Of the nodes where kube-proxy is expected, those of which somebody knows whether it works. What lacks is unknown, not well.',
           4,
           4,
           'count(group by (%(node)s) (last_over_time(kproxy_primary_cause{%(sel)s}[%(window)s])) and on (%(node)s) (max by (%(node)s) (kproxy_expected{%(sel)s}) == 1)) / %(expected)s' % { node: q.node, sel: d.sel(), window: q.window, expected: expected },
           'percentunit',
           [[null, 'red'], [0.9, 'orange'], [1, 'green']],
           { decimals: 0 }),

    g.bars('Causes by nodes',
           'The first cause of each node, by the number of nodes.',
           8,
           9,
           'sort_desc(count by (cause) (group by (%s) (%s)))' % [q.nodeCause, d.recorded('node:kproxy_verdict:primary')],
           '{{cause}}',
           'none',
           [[null, 'orange']],
           { decimals: 0, noValue: 'no cause' }),
    g.table('Nodes in trouble',
            'The first cause of each node, what exactly, since when, and whose it is. The node leads to its dashboard, the cause to what to do.',
            16,
            9,
            'sort(1000 * (\n(%s)\n* on (%s) group_left () %s\nor on (%s)\n%s))' % [d.verdictsWithOwner(''), q.nodeCause, d.since, q.node, d.downSince],
            [
              ['node', 'Node', { links: [d.toNode] }],
              ['cause', 'Cause', { links: [d.toRunbook] }],
              ['detail', 'Detail', {}],
              ['owner', 'Owner', {}],
              [c.clusterLabel, 'Cluster', { 'custom.hidden': !c.showMultiCluster }],
            ],
            value=['Since', { unit: 'dateTimeAsIso' }]),

    g.timeseries("Failures by Services' addresses and by their endpoints' own", 'Probes that fail. Both lines up: the network or the backends. Only the first: the rules of that node.', 12, 9, [
      ['topk(10, sum by (%s) (%s) / sum by (%s) (%s))' % [q.node, d.recorded('node:kproxy_probe_vip_failures:increase5m'), q.node, d.recorded('node:kproxy_probe_vip_attempts:increase5m')], d.nodeLegend + ' by Service'],
      ['topk(10, max by (%s) (%s))' % [q.node, d.recorded('node:kproxy_probe_endpoint_failure:ratio_rate5m')], d.nodeLegend + ' by endpoint'],
    ], 'percentunit', { min: 0, max: 1 }),
    g.timeseries('Burn rate', 'How many times faster than the objective allows failures come. Above the line of its window an alert pages.', 12, 9, [
      ['max(%s) / %.6g' % [d.recorded('cluster:kproxy_probe_vip_failure:ratio_rate' + w), 1 - vip.target], w]
      for w in d.windows([w.long for w in vip.windows])
    ], 'none', { min: 0, thresholds: g.steps([[null, 'transparent']] + [[factor, 'red'] for factor in std.set([w.factor for w in vip.windows if w.severity == 'critical'])]) }, { thresholdsStyle: { mode: 'line' } }),

    g.timeseries('Causes over time', 'How many nodes each cause is the first one of.', 12, 8, [
      ['count by (cause) (group by (%s) (%s))' % [q.nodeCause, d.recorded('node:kproxy_verdict:primary')], '{{cause}}'],
    ], 'none', { decimals: 0, min: 0 }, { lineInterpolation: 'stepAfter', stacking: { mode: 'normal' }, fillOpacity: 60 }),
    g.timeseries('What the exporter could not read', 'Sources that fail. What they would show is unknown.', 6, 8, [
      ['count by (reader) (max by (%s, reader) (kproxy_reader_success{%s}) == 0)' % [q.node, d.sel()], '{{reader}}'],
    ], 'none', { decimals: 0, min: 0 }),
    g.text('What now', 'Three steps.', 6, 8, |||
      1. **Many nodes, one cause?** Look for what they share: a rollout, an image, the API server. Not for one node.
      2. **One node?** Follow it in the table: its dashboard has the evidence, the cause's page says what to do.
      3. **Services fail and no cause?** By Service only: the rules of the node; restart its kube-proxy pod and keep its log. By endpoints too: network or backend, not kube-proxy.

      All alerts: [what they mean](%s)
    ||| % d.runbook('alerts.md')),
  ])
