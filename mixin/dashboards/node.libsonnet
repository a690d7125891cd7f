// One node: the verdict, and all that speaks for it.
function(d)
  local c = d.c, q = d.q, g = d.g;
  local node = 'node="$node"';
  local sel(more='') = d.sel(node + (if more == '' then '' else ', ' + more));
  // kube-proxy's own metrics: of a target that has a label node, or whose instance
  // is called as the node is.
  local rate(metric) = std.join(' or ', [
    'rate(%s{%s, %s, %s}[%s])' % [metric, c.kubeProxySelector, d.inCluster, of, d.interval]
    for of in [node, 'node="", instance=~"${node:regex}(:[0-9]+)?"']
  ]);
  g.dashboard(c, c.dashboards.uids.node, 'Node', 'What keeps kube-proxy on one node from its job, and what speaks for it.', [d.variables.cluster, d.variables.node], [
    g.stat('kube-proxy works',
           'By the word of whoever knows: 1 if it does its job there.',
           4,
           4,
           'min(kproxy_healthy{%s})' % sel(),
           'none',
           [[null, 'red'], [1, 'green']],
           { mappings: [{ type: 'value', options: { '0': { text: 'no', color: 'red' }, '1': { text: 'yes', color: 'green' } } }] }),
    g.stat('Expected here',
           'Whether kube-proxy should run on the node at all.',
           4,
           4,
           'max(kproxy_expected{%s})' % sel(),
           'none',
           [[null, 'blue']],
           { mappings: [{ type: 'value', options: { '0': { text: 'absent by design', color: 'blue' }, '1': { text: 'yes', color: 'blue' } } }] }),
    g.stat('Changes wait for',
           'How long rules have waited to be written: the newest change that kube-proxy heard of, and the last time it wrote.',
           4,
           4,
           'max(time() - kproxy_sync_last_queued_timestamp_seconds{%(sel)s} and kproxy_sync_last_queued_timestamp_seconds{%(sel)s} > kproxy_sync_last_timestamp_seconds{%(sel)s}) or max(0 * kproxy_sync_last_timestamp_seconds{%(sel)s})' % { sel: sel() },
           's',
           [[null, 'green'], [30, 'orange'], [60, 'red']]),
    g.stat('Canary behind for', 'For how long the canary Service has led elsewhere than the API says, from this node.', 4, 4, 'max(kproxy_canary_behind_seconds{%s})' % sel(), 's', [[null, 'green'], [10, 'orange'], [60, 'red']]),
    g.stat('API server from here',
           'Whether the API server answers at the address that kube-proxy uses.',
           4,
           4,
           'min(max by (endpoint) (kproxy_api_up{%s}))' % sel('endpoint="kube-proxy"'),
           'none',
           [[null, 'red'], [1, 'green']],
           { mappings: [{ type: 'value', options: { '0': { text: 'does not answer', color: 'red' }, '1': { text: 'answers', color: 'green' } } }] }),
    g.stat('Services answer',
           "Of the probes from this node by Services' addresses, those that were answered.",
           4,
           4,
           '1 - sum(%s) / sum(%s)' % [d.recorded('node:kproxy_probe_vip_failures:increase5m', node), d.recorded('node:kproxy_probe_vip_attempts:increase5m', node)],
           'percentunit',
           [[null, 'red'], [0.99, 'orange'], [0.999, 'green']],
           { decimals: 1 }),

    g.table('Active causes',
            'Every cause that is active, of both roles. The first verdict is what the alert is about; /causes of the exporter has the evidence in words.',
            12,
            8,
            'sort(1000 * (max by (%s) (kproxy_cause_info{%s}) * on (%s) group_left () %s))' % [q.nodeDetail, sel(), q.nodeCause, d.since],
            [['cause', 'Cause', { links: [d.toRunbook] }], ['detail', 'Detail', {}]],
            hidden=['node', c.clusterLabel],
            value=['Since', { unit: 'dateTimeAsIso' }]),
    g.table('Probes from here',
            'Whose fault it is if a Service does not answer from this node.',
            12,
            8,
            'max by (service, port, module, ip_family, vantage, verdict) (kproxy_probe_verdict{%s}) == 1' % sel(),
            [['service', 'Service', {}], ['port', 'Port', {}], ['module', 'Module', {}], ['ip_family', 'Family', {}], ['vantage', 'From', {}], ['verdict', 'Verdict', {}]]),

    g.timeseries('Causes over time', 'Which causes were active.', 12, 7, [['max by (cause) (kproxy_cause_active{%s}) == 1' % sel(), '{{cause}}']], 'none', { decimals: 0, min: 0, max: 1 }, { lineInterpolation: 'stepAfter' }),
    g.timeseries("Lines of kube-proxy's log, by class", 'How often kube-proxy said that something is wrong.', 12, 7, [['sum by (pattern) (rate(kproxy_log_errors_total{%s}[%s])) > 0' % [sel(), d.interval], '{{pattern}}']], 'ops', { min: 0 }),

    g.timeseries('API server from here, by phase', 'How long the API server took to answer the node itself, at each address.', 12, 7, [['max by (endpoint, phase) (kproxy_api_request_duration_seconds{%s})' % sel(), '{{endpoint}} {{phase}}']], 's', { min: 0 }),
    g.timeseries("kube-proxy's own ports", '1 if the port answered, by where it was asked from.', 12, 7, [['max by (port, vantage) (kproxy_endpoint_up{%s})' % sel(), '{{port}} from {{vantage}}']], 'none', { min: 0, max: 1, decimals: 0 }, { lineInterpolation: 'stepAfter' }),

    g.timeseries('Services whose rules differ', "How many Services' rules in the kernel are not what the API wants, by how. /causes of the node role says which and how.", 12, 7, [['max by (kind) (kproxy_audit_drift{%s})' % sel(), '{{kind}}']], 'none', { min: 0, decimals: 0 }, { lineInterpolation: 'stepAfter' }),
    g.timeseries('The rule audit', 'How long the newest comparison took, how old it is, and for how long the oldest difference has been there.', 12, 7, [
      ['max(kproxy_audit_duration_seconds{%s})' % sel(), 'took'],
      ['max(time() - kproxy_audit_last_timestamp_seconds{%s})' % sel(), 'age'],
      ['max(time() - kproxy_audit_oldest_drift_timestamp_seconds{%s})' % sel(), 'oldest difference'],
    ], 's', { min: 0 }),

    g.timeseries("Backends that answered through Services' addresses", 'Distinct endpoints in the last ten minutes, and how many may.', 12, 7, [
      ['max by (service, port, module) (kproxy_probe_backends_seen{%s})' % sel(), '{{service}}:{{port}} {{module}} seen'],
      ['max by (service, port, module) (kproxy_probe_backends_expected{%s})' % sel(), '{{service}}:{{port}} {{module}} expected'],
    ], 'none', { min: 0, decimals: 0 }),
    g.timeseries('How long connecting takes', 'Median and 99th percentile of probes that were answered, by path.', 12, 7, [
      ['histogram_quantile(%g, sum by (path, le) (rate(kproxy_probe_duration_seconds_bucket{%s}[%s])))' % [p, sel('phase="connect"'), d.interval], '{{path}} p%d' % (p * 100)]
      for p in [0.5, 0.99]
    ], 's', { min: 0 }),
  ] + (if c.kubeProxySelector == '' then [] else [
         g.timeseries('Writing the rules', 'How long kube-proxy took to write rules: median and 99th percentile. Of targets with a label node, or whose instance is the name of the node.', 12, 7, [
           ['histogram_quantile(%g, sum by (le) (%s))' % [p, rate('kubeproxy_sync_proxy_rules_duration_seconds_bucket')], 'p%d' % (p * 100)]
           for p in [0.5, 0.99]
         ], 's', { min: 0 }),
         g.timeseries('Failures to write the rules', "By kube-proxy's own account.", 12, 7, [
           ['sum(%s)' % rate('kubeproxy_sync_proxy_rules_iptables_restore_failures_total'), 'iptables-restore'],
           ['sum(%s)' % rate('kubeproxy_sync_proxy_rules_nftables_sync_failures_total'), 'nftables'],
         ], 'ops', { min: 0 }),
       ]))
