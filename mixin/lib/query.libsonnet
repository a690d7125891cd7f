// What alerts, rules and dashboards ask in the same way.
function(c) {
  local l = c.clusterLabel,
  local order = [k.name for k in import '../causes.libsonnet'],
  sel: c.kproxySelector,
  // Lists of labels, for by() and on().
  cluster: l,
  node: l + ', node',
  nodeCause: l + ', node, cause',
  nodeDetail: l + ', node, cause, detail',
  vantage: l + ', node, vantage',
  target: l + ', node, vantage, service, port, module, ip_family',

  // Causes in the order of rank.
  causes: [c.causes[name] for name in order],
  // Those that want somebody to do something about kube-proxy.
  serious: [k for k in self.causes if k.severity != 'info'],
  seriousNames: std.join('|', [k.name for k in self.serious]),

  window: c.time(c.window),
  // The newest value in the window: a scrape that is lost changes nothing.
  last(metric, labels='', by=self.node)::
    'max by (%s) (last_over_time(%s{%s}[%s]))' % [by, metric, std.join(', ', [x for x in [c.kproxySelector, labels] if x != '']), self.window],
  verdict(labels='')::
    if labels == '' then 'node:kproxy_verdict:primary' else 'node:kproxy_verdict:primary{%s}' % labels,
}
