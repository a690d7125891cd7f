// The exporter itself: absent, or blind.
function(c, alert)
  local q = (import '../lib/query.libsonnet')(c);
  local up = 'up{%s}' % c.kproxySelector;
  // The node role, not a prober that stands beside it; and the cluster role.
  local nodeRole = 'kproxy_reader_success{%s, node!="", reader="process"}' % q.sel;
  // What was there within a day and is gone, while another part of the exporter answers.
  local gone(record) = 'group by (%(cluster)s) (last_over_time(%(record)s[%(day)s]))\nunless on (%(cluster)s) %(record)s\nand on (%(cluster)s) group by (%(cluster)s) (%(up)s == 1)' % { cluster: q.cluster, record: record, day: c.time('1d'), up: up };
  local clusterRole = 'kproxy_reader_success{%s, node=""}' % q.sel;
  local kproxy = function(name, more) alert(name, { cause: 'exporter', owner: 'monitoring', page: 'alerts.md#%s' % std.asciiLower(name), dashboard: 'on-call' } + more);
  [
    kproxy('KubeProxyExporterAbsent', {
      // Where kube-state-metrics says what clusters there are, of each; else of all.
      expr: if c.kubeStateMetricsSelector == '' then 'absent(%s == 1)' % up else
        'group by (%(cluster)s) (kube_node_info{%(ksm)s})\nunless on (%(cluster)s) group by (%(cluster)s) (%(up)s == 1)\nor\nabsent(%(up)s == 1 or kube_node_info{%(ksm)s})' % { cluster: q.cluster, ksm: c.kubeStateMetricsSelector, up: up },
      'for': '15m',
      severity: 'warning',
      scope: 'cluster',
      summary: 'Nobody watches kube-proxy.',
      description: 'No kproxy-exporter of the cluster answers: causes are unknown, and the generic alerts are what is left.',
    }),
  ] + (if !c.clusterRole then [] else [
         kproxy('KubeProxyExporterClusterRoleAbsent', {
           expr: 'group by (%(cluster)s) (%(nodes)s)\nunless on (%(cluster)s) %(whole)s' % { cluster: q.cluster, nodes: nodeRole, whole: clusterRole },
           'for': '15m',
           severity: 'warning',
           scope: 'cluster',
           summary: 'Nobody sees kube-proxy as the API server does.',
           description: 'The node roles of kproxy-exporter answer and the cluster role does not: a DaemonSet that lacks a pod, an image that cannot be pulled, a node that is gone and what else only the API server tells are unknown.',
         }),
       ]) + (if !c.nodeRole then [] else [
               kproxy('KubeProxyNodeAgentAbsent', {
                 expr: gone('cluster:kproxy_node_agents:count'),
                 'for': '15m',
                 severity: 'warning',
                 scope: 'cluster',
                 summary: 'All node roles of kproxy-exporter are gone.',
                 description: 'No node role of kproxy-exporter answers any more. The state of the rules, the probes and the API server as seen from the nodes are unknown.',
               }),
             ]) + (if !c.probeRole then [] else [
                     kproxy('KubeProxyProberAbsent', {
                       expr: gone('cluster:kproxy_pod_probers:count'),
                       'for': '15m',
                       severity: 'warning',
                       scope: 'cluster',
                       summary: 'All probers in the network of the pods are gone.',
                       description: 'No prober in the network of the pods answers any more. Services are no longer probed from there.',
                     }),
                   ]) + [
    kproxy('KubeProxyExporterMissingOnNode', {
      // Only where nodes have the node role, and not of a node that is gone itself.
      expr: 'group by (%(node)s) (node:kproxy_expected:bool)\nunless on (%(node)s) %(role)s\nunless on (%(node)s) %(down)s\nand on (%(cluster)s) group by (%(cluster)s) (%(role)s)' % {
        node: q.node,
        cluster: q.cluster,
        role: nodeRole,
        down: q.verdict('cause="node_not_ready"'),
      },
      'for': '30m',
      severity: 'warning',
      scope: 'node',
      summary: 'A node has no node role of kproxy-exporter.',
      description: 'kube-proxy is expected on node {{ $labels.node }} and no node role answers there: what only the node can see is unknown.',
    }),
    kproxy('KubeProxyExporterReaderFailing', {
      expr: 'max by (%s, reader) (kproxy_reader_success{%s}) == 0' % [q.node, q.sel],
      'for': '15m',
      severity: 'info',
      scope: 'cluster',
      summary: 'kproxy-exporter cannot read one of its sources.',
      description: 'Reader {{ $labels.reader }}{{ if $labels.node }} on node {{ $labels.node }}{{ end }} fails; what it would show is unknown. The log of the exporter says what it lacks.',
    }),
    kproxy('KubeProxyExporterProberStalled', {
      // It begins no attempt any more, or the node lets it begin none.
      expr: 'sum by (%(vantage)s) (increase(kproxy_probe_delay_seconds_count{%(sel)s}[%(five)s])) == 0\nand on (%(vantage)s) max by (%(vantage)s) (kproxy_probe_delay_seconds_count{%(sel)s}) > 0\nor on (%(vantage)s)\n(group by (%(vantage)s) (node_path_result:kproxy_probes:increase5m{path="vip", result=~"local|panic"})\nunless on (%(vantage)s) node_path_result:kproxy_probes:increase5m{path="vip", result!~"local|panic"})' % { vantage: q.vantage, sel: q.sel, five: c.time('5m') },
      'for': '10m',
      severity: 'warning',
      scope: 'node',
      summary: 'Services are no longer probed from a node.',
      description: 'The prober on node {{ $labels.node }} ({{ $labels.vantage }} network) answers, and has not been able to ask anything for a quarter of an hour.',
    }),
    kproxy('KubeProxyNodeNotJudged', {
      expr: 'group by (%s) (node:kproxy_expected:bool)\nunless on (%s) last_over_time(kproxy_primary_cause{%s}[%s])\nunless on (%s) node:kproxy_unhealthy:bool' % [q.node, q.node, q.sel, q.window, q.node],
      'for': '30m',
      severity: 'info',
      scope: 'node',
      summary: 'Nobody can tell whether kube-proxy works on a node.',
      description: 'kube-proxy is expected on node {{ $labels.node }}, and too little is known there for a verdict.',
    }),
  ] + (if c.kubeProxySelector == '' then [] else [
         // By Prometheus' own word, where a target can be told to be of a node: by its
         // label node, or by an instance that is called as the node is.
         kproxy('KubeProxyScrapeFailing', {
           local target(is) = '(group by (%(node)s) (up{%(proxy)s, node!=""} == %(is)d) or on (%(node)s) group by (%(node)s) (label_replace(up{%(proxy)s, node=""} == %(is)d, "node", "$1", "instance", "(.+)")))' % { node: q.node, proxy: c.kubeProxySelector, is: is },
           local works = '(min by (%s) (last_over_time(kproxy_healthy{%s}[%s])) == 1)' % [q.node, q.sel, q.window],
           expr: '%(down)s\nunless on (%(node)s) %(up)s\nand on (%(node)s) node:kproxy_expected:bool\nunless on (%(node)s) %(verdict)s\nand on (%(node)s) %(works)s' % { node: q.node, verdict: q.verdict('cause!="metrics_unreachable"'), down: target(0), up: target(1), works: works },
           'for': c.scrapeFailingFor,
           severity: 'warning',
           cause: 'metrics_unreachable',
           scope: 'node',
           labels: { detail: 'scrape' },
           summary: 'Prometheus cannot scrape a kube-proxy that works.',
           description: 'kube-proxy on node {{ $labels.node }} works by all that is known, and Prometheus gets no metrics from it: look at what lies between them, and at the scrape configuration.',
         }),
         kproxy('KubeProxyNotScraped', {
           expr: 'cluster:kproxy_expected:count\n== on (%(cluster)s)\ncount by (%(cluster)s) (node:kproxy_expected:bool and on (%(node)s) (min by (%(node)s) (last_over_time(kproxy_healthy{%(sel)s}[%(window)s])) == 1))\nunless on (%(cluster)s) node_cause:kproxy_primary_cause:last{cause=~"%(serious)s"}\nunless on (%(cluster)s) group by (%(cluster)s) (up{%(proxy)s} == 1)' % { cluster: q.cluster, node: q.node, sel: q.sel, window: q.window, proxy: c.kubeProxySelector, serious: q.seriousNames },
           // Sooner than the generic alerts, which it silences.
           silences: true,
           'for': '10m',
           severity: 'warning',
           scope: 'cluster',
           summary: 'Prometheus scrapes no kube-proxy, and all of them work.',
           description: "kube-proxy works on {{ $value }} nodes by all that is known and none of them is scraped: this is a matter of the scrape configuration. Set kubeProxySelector to '' if nobody wants it.",
         }),
       ])
