// The exporter itself: absent, or blind.
function(c, alert)
  local q = (import '../lib/query.libsonnet')(c);
  local up = 'up{%s}' % c.kproxySelector;
  local kproxy = function(name, more) alert(name, { cause: 'exporter', owner: 'monitoring', page: 'alerts.md#%s' % std.asciiLower(name), dashboard: 'on-call' } + more);
  [
    kproxy('KubeProxyExporterAbsent', {
      expr: 'absent(%s == 1)' % up +
            (if c.kubeStateMetricsSelector == '' then '' else '\nor\ngroup by (%(cluster)s) (kube_node_info{%(ksm)s})\nunless on (%(cluster)s) group by (%(cluster)s) (%(up)s == 1)' % { cluster: q.cluster, ksm: c.kubeStateMetricsSelector, up: up }),
      'for': '15m',
      severity: 'warning',
      scope: 'cluster',
      summary: 'Nobody watches kube-proxy.',
      description: 'No kproxy-exporter of the cluster answers: causes are unknown, and the generic alerts are what is left.',
    }),
    kproxy('KubeProxyExporterMissingOnNode', {
      // Only where nodes have the node role, and not of a node that is gone itself.
      expr: 'group by (%(node)s) (node:kproxy_expected:bool)\nunless on (%(node)s) kproxy_reader_success{%(sel)s, node!=""}\nunless on (%(node)s) %(down)s\nand on (%(cluster)s) group by (%(cluster)s) (kproxy_reader_success{%(sel)s, node!=""})' % {
        node: q.node,
        cluster: q.cluster,
        sel: q.sel,
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
      expr: 'group by (%s) (kproxy_probes_total{%s, path="vip", result="ok"})\nunless on (%s) node_path_result:kproxy_probes:increase5m{path="vip"}\nunless on (%s) (max by (%s) (kproxy_probe_verdict{%s, verdict=~"backend|network|no_endpoints"}) == 1)' % [q.vantage, q.sel, q.vantage, q.vantage, q.vantage, q.sel],
      'for': '10m',
      severity: 'warning',
      scope: 'node',
      summary: 'Services are no longer probed from a node.',
      description: 'The prober on node {{ $labels.node }} ({{ $labels.vantage }} network) answers and has asked nothing for a quarter of an hour.',
    }),
    kproxy('KubeProxyNodeNotJudged', {
      expr: 'group by (%s) (node:kproxy_expected:bool)\nunless on (%s) last_over_time(kproxy_primary_cause{%s}[%s])' % [q.node, q.node, q.sel, q.window],
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
           local down = 'up{%s' % c.kubeProxySelector,
           local works = '(min by (%s) (last_over_time(kproxy_healthy{%s}[%s])) == 1)' % [q.node, q.sel, q.window],
           expr: 'group by (%(node)s) (%(down)s, node!=""} == 0 or label_replace(%(down)s, node=""} == 0, "node", "$1", "instance", "(.+)"))\nand on (%(node)s) node:kproxy_expected:bool\nunless on (%(node)s) node:kproxy_verdict:primary\nand on (%(node)s) %(works)s' % { node: q.node, down: down, works: works },
           'for': c.scrapeFailingFor,
           severity: 'info',
           cause: 'metrics_unreachable',
           scope: 'node',
           labels: { detail: 'scrape' },
           summary: 'Prometheus cannot scrape a kube-proxy that works.',
           description: 'kube-proxy on node {{ $labels.node }} works by all that is known, and Prometheus gets no metrics from it: look at what lies between them, and at the scrape configuration.',
         }),
         kproxy('KubeProxyNotScraped', {
           expr: 'cluster:kproxy_expected:count\n== on (%(cluster)s)\ncount by (%(cluster)s) (node:kproxy_expected:bool and on (%(node)s) (min by (%(node)s) (last_over_time(kproxy_healthy{%(sel)s}[%(window)s])) == 1))\nunless on (%(cluster)s) node_cause:kproxy_primary_cause:last{cause!="metrics_unreachable"}\nunless on (%(cluster)s) group by (%(cluster)s) (up{%(proxy)s} == 1)' % { cluster: q.cluster, node: q.node, sel: q.sel, window: q.window, proxy: c.kubeProxySelector },
           // Sooner than the generic alerts, which it silences.
           silences: true,
           'for': '10m',
           severity: 'info',
           scope: 'cluster',
           summary: 'Prometheus scrapes no kube-proxy, and all of them work.',
           description: "kube-proxy works on {{ $value }} nodes by all that is known and none of them is scraped: this is a matter of the scrape configuration. Set kubeProxySelector to '' if nobody wants it.",
         }),
       ])
