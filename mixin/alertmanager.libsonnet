// What Alertmanager needs: who gets what, and what silences what. The generic
// alerts are silenced by ours only while ours fire: without the exporter they
// are delivered as before.
{
  local c = $._config,
  local q = (import 'lib/query.libsonnet')(c),
  local cluster = c.clusterLabel,
  local ours = ['component="kube-proxy"'],
  local node = ours + ['kube_proxy_scope="node"'],
  // Alerts that name a cause, and not a symptom or the exporter itself. An info
  // alert mutes nothing: kube-prometheus mutes it itself (InfoInhibitor), and
  // then no notification would be left.
  local named = 'kube_proxy_cause!~"symptom|exporter|many"',
  local grave = [named, 'severity!="info"'],
  local wide = ours + ['alertname=~"KubeProxyDownClusterWide|KubeProxyNotScraped"'],
  local owners = std.set([k.owner for k in q.causes] + ['network', 'monitoring']),
  local inhibit(source, target, equal) = { source_matchers: source, target_matchers: target, equal: equal },
  alertmanagerConfig+:: {
    inhibit_rules+: [
      // The generic alerts are about the cluster or about one scrape target. Only
      // what is the whole cluster's may silence the first.
      inhibit(wide, ['alertname=~"KubeProxyDown|KubeProxyInstanceUnreachable"', 'component!="kube-proxy"'], [cluster]),
      inhibit(wide, ['alertname="TargetDown"', 'job="%s"' % c.kubeProxyJob], [cluster]),
      // kube-prometheus calls a target by its node, as our label instance does;
      // kube-prometheus-stack has the label node if it is told to.
      inhibit(node + grave, ['alertname="KubeProxyInstanceUnreachable"', 'component!="kube-proxy"'], [cluster, 'instance']),
      inhibit(node + grave, ['alertname="KubeProxyInstanceUnreachable"', 'component!="kube-proxy"'], [cluster, 'node']),
      // Many nodes with one cause are one incident.
      inhibit(ours + ['alertname="KubeProxyMassCause"'], node + [named], [cluster, 'kube_proxy_cause']),
      // A node that is gone has alerts of its own; that it cannot reach the API
      // server only it can say, and a page stays one.
      inhibit(['alertname=~"KubeNodeNotReady|KubeNodeUnreachable"'], node + ['kube_proxy_cause!="api_unreachable"', 'severity!="critical"'], [cluster, 'node']),
      // A page that names the cause is better than one that names the symptom.
      inhibit(node + [named, 'severity="critical"'], node + ['alertname="KubeProxyNodeVIPFailing"'], [cluster, 'node']),
    ],
    // To be put among the routes of the root. A page has the symptom and its cause
    // in one; what can wait goes to whoever owns the cause.
    routes+: [{
      matchers: ours,
      receiver: c.receivers.owner % 'platform',
      group_by: [cluster, 'kube_proxy_cause'],
      routes: [
        { matchers: ['severity="critical"'], receiver: c.receivers.page, group_by: [cluster, 'component'] },
        { matchers: ['severity="info"'], receiver: c.receivers.info },
      ] + [
        { matchers: ['kube_proxy_owner="%s"' % o], receiver: c.receivers.owner % o }
        for o in owners
      ],
    }],
    // The receivers that the routes name, to be filled in.
    receivers+: [{ name: n } for n in [c.receivers.page, c.receivers.info] + [c.receivers.owner % o for o in owners]],
  },
}
