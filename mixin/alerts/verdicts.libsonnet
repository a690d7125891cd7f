// One verdict for each node, of both roles' words: the cause of the highest
// rank. It is recorded in the group of the alerts that rest on it, before them.
function(c)
  local q = (import '../lib/query.libsonnet')(c);
  local behind(k) = std.get(k, 'behind', {});
  // Selectors in the order of rank; a detail may come behind a later cause.
  local parts = std.flattenArrays([
    ['cause="%s"%s' % [k.name, std.join('', [', detail!="%s"' % d for d in std.objectFields(behind(k))])]] +
    ['cause="%s", detail="%s"' % [o.name, d] for o in q.causes for d in std.objectFields(behind(o)) if behind(o)[d] == k.name]
    for k in q.causes
  ]);
  [
    {
      // A scrape that is lost resolves nothing; a cause that is gone, or a node
      // that is, does: the newest word counts.
      record: 'node_cause:kproxy_primary_cause:last',
      expr: '%s\nand on (%s)\n%s == 1' % [
        q.last('kproxy_primary_cause', 'cause!="none"', q.nodeDetail),
        q.nodeCause,
        q.last('kproxy_cause_active', '', q.nodeCause),
      ],
    },
    {
      record: 'node:kproxy_verdict:primary',
      expr: std.join('\nor on (%s) ' % q.node, ['node_cause:kproxy_primary_cause:last{%s}' % part for part in parts]),
    },
    {
      record: 'node:kproxy_down:bool',
      // Not well by one role's word, and by no role's well by itself: no cause is
      // known then.
      expr: 'group by (%(node)s) (%(healthy)s == 0)\nunless on (%(node)s) node:kproxy_verdict:primary\nunless on (%(node)s) kproxy_expected{%(sel)s} == 0' % {
        node: q.node,
        sel: q.sel,
        healthy: 'min by (%s) (last_over_time(kproxy_healthy{%s}[%s]))' % [q.node, q.sel, q.window],
      },
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
  ]
