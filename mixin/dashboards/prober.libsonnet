// The objectives: Services that answer, rules that follow; and the prober itself.
function(d)
  local c = d.c, q = d.q, g = d.g;
  local vip = c.SLOs.vip;
  g.dashboard(c, c.dashboards.uids.prober, 'Prober and SLO', 'Whether Services answer by their addresses, how fast rules follow, and what the prober itself takes.', [d.variables.cluster], [
    g.bars('Burn rate by window',
           'How many times faster than the objective allows failures come, in each window.',
           8,
           8,
           std.join('\nor ', ['label_replace(max(%s) / %.6g, "window", "%s", "", "")' % [d.recorded('cluster:kproxy_probe_vip_failure:ratio_rate' + w), 1 - vip.target, w] for w in d.windows(std.flattenArrays([[w.long, w.short] for w in vip.windows]))]),
           '{{window}}',
           'none',
           [[null, 'green'], [1, 'orange'], [std.foldl(std.max, [w.factor for w in vip.windows], 1), 'red']],
           { decimals: 1 }),
    g.timeseries('Error budget left', 'What is left of the failures that %d days allow, counted in the last %d days; no lower than -100%%. It looks back as far as Prometheus keeps what is recorded.' % [vip.days, vip.days], 8, 8, [
      [d.budgetLeft, 'left'],
    ], 'percentunit', { max: 1 }),
    g.timeseries('Probes by result', "Attempts by Services' addresses, each over a new connection.", 8, 8, [
      ['sum by (result) (rate(kproxy_probes_total{%s}[%s])) > 0' % [d.sel('path="vip"'), d.interval], '{{result}}'],
    ], 'ops', { min: 0 }, { stacking: { mode: 'normal' } }),

    g.timeseries('Failures by target', "Attempts by Services' addresses that failed; the ten worst.", 12, 8, [
      ['topk(10, sum by (service, port, module, ip_family) (rate(kproxy_probes_total{%s}[%s])) / sum by (service, port, module, ip_family) (rate(kproxy_probes_total{%s}[%s])) > 0)' % [d.sel('path="vip", result!="ok"'), d.interval, d.sel('path="vip"'), d.interval], '{{service}}:{{port}} {{module}} {{ip_family}}'],
    ], 'percentunit', { min: 0, max: 1 }),
    g.table('Services that fail',
            'From which nodes and networks, and whose fault it is.',
            12,
            8,
            'max by (%s, verdict) (kproxy_probe_verdict{%s}) == 1' % [q.target, d.sel('verdict=~"dataplane|backend|network"')],
            [['node', 'Node', { links: [d.toNode] }], ['service', 'Service', {}], ['port', 'Port', {}], ['module', 'Module', {}], ['ip_family', 'Family', {}], ['vantage', 'From', {}], ['verdict', 'Verdict', {}], [c.clusterLabel, 'Cluster', { 'custom.hidden': !c.showMultiCluster }]]),

    g.timeseries('How long probes take, by phase', "99th percentile of answered attempts by Services' addresses.", 12, 8, [
      ['histogram_quantile(0.99, sum by (phase, le) (rate(kproxy_probe_duration_seconds_bucket{%s}[%s])))' % [d.sel('path="vip"'), d.interval], '{{phase}}'],
    ], 's', { min: 0 }),
    g.timeseries("By a Service's address and directly", "Median time of answered attempts: what kube-proxy's rules cost is between the lines.", 12, 8, [
      ['histogram_quantile(0.5, sum by (path, le) (rate(kproxy_probe_duration_seconds_bucket{%s}[%s])))' % [d.sel('phase="connect"'), d.interval], '{{path}}'],
    ], 's', { min: 0 }),

    g.timeseries('How soon rules follow', "99th percentile over the last hour, from the change of the API to the rules: measured with the canary Service, and by kube-proxy's own account.", 12, 8, [
      ['histogram_quantile(0.99, sum by (le) (increase(kproxy_canary_latency_seconds_bucket{%s}[1h])))' % d.sel(), 'canary'],
    ] + (if c.kubeProxySelector == '' then [] else [
           ['histogram_quantile(0.99, sum by (le) (increase(kubeproxy_network_programming_duration_seconds_bucket{%s, %s}[1h])))' % [c.kubeProxySelector, d.inCluster], 'kube-proxy'],
         ]), 's', { min: 0 }),
    g.timeseries('Nodes whose rules do not follow', 'For how long the canary Service has led elsewhere than the API says; the ten worst.', 12, 8, [
      ['topk(10, max by (%s) (kproxy_canary_behind_seconds{%s}) > 1)' % [q.node, d.sel()], d.nodeLegend],
    ], 's', { min: 0 }),

    g.timeseries('The exporter: sources', '99th percentile of how long its sources took to answer.', 8, 8, [
      ['quantile by (reader) (0.99, kproxy_reader_duration_seconds{%s})' % d.sel(), '{{reader}}'],
    ], 's', { min: 0 }),
    g.timeseries('The exporter: lateness of probes', '99th percentile of how much later than planned attempts began.', 8, 8, [
      ['histogram_quantile(0.99, sum by (vantage, le) (rate(kproxy_probe_delay_seconds_bucket{%s}[%s])))' % [d.sel(), d.interval], '{{vantage}}'],
    ], 's', { min: 0 }),
    g.timeseries('The exporter: memory and CPU', 'The largest instance.', 8, 8, [
      ['max(process_resident_memory_bytes{%s})' % d.sel(), 'resident memory'],
      ['max(rate(process_cpu_seconds_total{%s}[%s]))' % [d.sel(), d.interval], 'cores'],
    ], 'bytes', { min: 0 }) + { fieldConfig+: { overrides: [{ matcher: { id: 'byName', options: 'cores' }, properties: [{ id: 'unit', value: 'percentunit' }, { id: 'custom.axisPlacement', value: 'right' }] }] } },
  ])
