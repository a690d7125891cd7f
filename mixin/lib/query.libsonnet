// What alerts, rules and dashboards ask in the same way.
function(c)
  local l = c.clusterLabel;
  local order = [k.name for k in import '../causes.libsonnet'];
  local unknown = std.setDiff(std.set(std.objectFields(c.causes)), std.set(order));
  assert unknown == [] : 'causes: there is no %s; there are %s' % [std.join(', ', unknown), std.join(', ', order)];
  assert std.stripChars(c.kproxySelector, ' ') != '' : 'kproxySelector is empty: it would select everything';
  {
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
    // As a node's verdict has them: those with which kube-proxy may well do its job
    // hide nothing else.
    verdicts: [k for k in self.causes if !std.get(k, 'yields', false)] + [k for k in self.causes if std.get(k, 'yields', false)],
    seriousNames: std.join('|', [k.name for k in self.serious]),

    window: c.time(c.window),
    // Of nodes that are not new: while one comes, much lacks for a while.
    settled: 'and on (%s) (node:kproxy_expected:bool offset %s)' % [self.node, c.time(c.settleFor)],

    // The newest value in the window: a scrape that is lost changes nothing.
    last(metric, labels='', by=self.node)::
      'max by (%s) (last_over_time(%s{%s}[%s]))' % [by, metric, std.join(', ', [x for x in [c.kproxySelector, labels] if x != '']), self.window],
    verdict(labels='')::
      if labels == '' then 'node:kproxy_verdict:primary' else 'node:kproxy_verdict:primary{%s}' % labels,
  }
