// What the alerts of the SLOs and the dashboards ask of often, recorded.
{
  local c = $._config,
  local q = (import 'lib/query.libsonnet')(c),
  local result = 'node_path_result:kproxy_probes:increase5m',
  // What tells of Services: not that the prober itself could not try.
  local tried = 'result!~"local|panic"',
  local failed = 'result!~"ok|local|panic"',
  prometheusRules+:: {
    groups+: [
      {
        name: 'kproxy-exporter.rules',
        rules: [
          { record: 'cluster:kproxy_node_agents:count', expr: 'count by (%s) (group by (%s) (kproxy_reader_success{%s, node!="", reader="process"}))' % [q.cluster, q.node, q.sel] },
          { record: 'cluster:kproxy_pod_probers:count', expr: 'count by (%s) (group by (%s) (kproxy_probe_delay_seconds_count{%s, vantage="pod"}))' % [q.cluster, q.node, q.sel] },
        ],
      },
      {
        name: 'kproxy-slo.rules',
        rules: [
          {
            // The counters are read once, and only what grew goes on. A Service that
            // fails by the fault of others does not count, unless the rules were at
            // fault too meanwhile.
            record: result,
            expr: 'sum by (%(vantage)s, path, result) (\n  increase(kproxy_probes_total{%(sel)s}[%(five)s]) > 0\n  unless on (%(target)s)\n  (\n    max by (%(target)s) (max_over_time(kproxy_probe_verdict{%(sel)s, verdict=~"backend|network|no_endpoints"}[%(five)s])) == 1\n    unless on (%(target)s)\n    max by (%(target)s) (max_over_time(kproxy_probe_verdict{%(sel)s, verdict="dataplane"}[%(five)s])) == 1\n  )\n)' % {
              vantage: q.vantage,
              target: q.target,
              sel: q.sel,
              five: c.time('5m'),
            },
          },
          { record: 'node:kproxy_probe_vip_attempts:increase5m', expr: 'sum by (%s) (%s{path=~"vip|nodeport", %s})' % [q.vantage, result, tried] },
          { record: 'node:kproxy_probe_vip_failures:increase5m', expr: 'sum by (%s) (%s{path=~"vip|nodeport", %s})\nor 0 * node:kproxy_probe_vip_attempts:increase5m' % [q.vantage, result, failed] },
          {
            record: 'node:kproxy_probe_endpoint_failure:ratio_rate5m',
            expr: 'sum by (%(vantage)s) (%(result)s{path="endpoint", %(failed)s})\n/ on (%(vantage)s)\nsum by (%(vantage)s) (%(result)s{path="endpoint", %(tried)s})\nor 0 * sum by (%(vantage)s) (%(result)s{path="endpoint", %(tried)s})' % { vantage: q.vantage, result: result, failed: failed, tried: tried },
          },
          { record: 'cluster:kproxy_probe_vip_attempts:increase5m', expr: 'sum by (%s) (node:kproxy_probe_vip_attempts:increase5m)' % q.cluster },
          { record: 'cluster:kproxy_probe_vip_failures:increase5m', expr: 'sum by (%s) (node:kproxy_probe_vip_failures:increase5m)' % q.cluster },
          { record: 'cluster:kproxy_probe_vip_failure:ratio_rate5m', expr: 'cluster:kproxy_probe_vip_failures:increase5m / cluster:kproxy_probe_vip_attempts:increase5m' },
        ] + [
          {
            record: 'cluster:kproxy_probe_vip_failure:ratio_rate%s' % w,
            expr: 'sum_over_time(cluster:kproxy_probe_vip_failures:increase5m[%(w)s]) / sum_over_time(cluster:kproxy_probe_vip_attempts:increase5m[%(w)s])' % { w: c.time(w) },
          }
          for w in std.setDiff(std.set(std.flattenArrays([[w.long, w.short] for w in c.SLOs.vip.windows])), ['5m'])
        ],
      },
      {
        name: 'kproxy-programming.rules',
        rules: std.flattenArrays([
          [
            {
              record: '%s:changes1h' % s.record,
              expr: 'sum by (%s) (increase(%s_count{%s}[%s]))' % [q.cluster, s.metric, s.selector, c.time('1h')],
            },
          ] + [
            {
              record: '%s:ratio_rate%s' % [s.record, w],
              expr: '1 - sum by (%(cluster)s) (increase(%(metric)s_bucket{%(selector)s, le=~"%(seconds)s(\\\\.0)?"}[%(w)s]))\n/\nsum by (%(cluster)s) (increase(%(metric)s_count{%(selector)s}[%(w)s]))' % (s { cluster: q.cluster, seconds: std.strReplace('%g' % c.SLOs.programming.seconds, '.', '\\\\.'), w: c.time(w) }),
            }
            for w in [c.SLOs.programming.short, '1h']
          ]
          for s in (import 'lib/programming.libsonnet')(c)
        ]),
      },
    ],
  },
}
