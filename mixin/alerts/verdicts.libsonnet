// One verdict for each node, of both roles' words: the cause of the highest
// rank. It is recorded in the group of the alerts that rest on it, before them.
function(c)
  local q = (import '../lib/query.libsonnet')(c);
  local behind(k) = std.get(k, 'behind', {});
  // Selectors in the order of rank; a detail may come behind a later cause.
  local parts = std.flattenArrays([
    ['cause="%s"%s' % [k.name, std.join('', [', detail!="%s"' % d for d in std.objectFields(behind(k))])]] +
    ['cause="%s", detail="%s"' % [o.name, d] for o in q.verdicts for d in std.objectFields(behind(o)) if behind(o)[d] == k.name]
    for k in q.verdicts
  ]);
  [
    {
      // What an exporter said last counts for a while after its scrape was lost, or
      // after it has known no more; not after it has said something else.
      record: 'node_cause:kproxy_primary_cause:last',
      expr: 'max by (%(detail)s) (\n  kproxy_primary_cause{%(sel)s, cause!="none"}\n  or\n  last_over_time(kproxy_primary_cause{%(sel)s, cause!="none"}[%(window)s])\n  unless on (%(node)s, job, instance) kproxy_primary_cause{%(sel)s}\n) == 1' % {
        detail: q.nodeDetail,
        node: q.node,
        sel: q.sel,
        window: q.window,
      },
    },
    {
      record: 'node:kproxy_verdict:primary',
      expr: std.join('\nor on (%s) ' % q.node, ['node_cause:kproxy_primary_cause:last{%s}' % part for part in parts]),
    },
    {
      // Not well by one role's word at least, whatever the cause.
      record: 'node:kproxy_unhealthy:bool',
      expr: 'group by (%(node)s) (%(healthy)s == 0)\nunless on (%(node)s) kproxy_expected{%(sel)s} == 0' % {
        node: q.node,
        sel: q.sel,
        healthy: 'min by (%s) (last_over_time(kproxy_healthy{%s}[%s]))' % [q.node, q.sel, q.window],
      },
    },
    {
      // The same where nobody names a cause.
      record: 'node:kproxy_down:bool',
      expr: 'node:kproxy_unhealthy:bool\nunless on (%s) node:kproxy_verdict:primary' % q.node,
    },
    {
      // A node remembers its kube-proxy for a while; who sees the whole knows when
      // none is expected any more.
      record: 'node:kproxy_expected:bool',
      expr: '%s == 1\nunless on (%s) kproxy_expected{%s} == 0' % [q.last('kproxy_expected'), q.node, q.sel],
    },
    {
      record: 'cluster:kproxy_expected:count',
      expr: 'count by (%s) (node:kproxy_expected:bool)' % q.cluster,
    },
    {
      // Those that count among many: no information, no detail that has less haste
      // than its cause, and of no node that is new.
      record: 'node_cause:kproxy_verdict:grave',
      expr: 'group by (%s) (\n  %s%s\n)\n%s' % [
        q.nodeCause,
        q.verdict('cause=~"%s"' % q.seriousNames),
        std.join('', ['\n  unless %s' % q.verdict('cause="%s", detail="%s"' % [k.name, d]) for k in q.serious for d in std.objectFields(std.get(k, 'severities', {}))]),
        q.settled,
      ],
    },
    {
      record: 'cluster_cause:kproxy_nodes:count',
      expr: 'count by (%s, cause) (node_cause:kproxy_verdict:grave)' % q.cluster,
    },
  ]
