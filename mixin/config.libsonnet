local time = import 'lib/time.libsonnet';

{
  _config+:: {
    // Selects the series of kproxy-exporter, both roles, for instance: job="kproxy-exporter".
    kproxySelector: error 'must provide kproxySelector, for instance \'job="kproxy-exporter"\'',
    // The job of kube-proxy itself.
    kubeProxyJob: 'kube-proxy',
    // Selects its targets, as in kubernetes-mixin. Empty if nobody scrapes it, on
    // purpose: the alerts about that go then.
    kubeProxySelector: 'job="%s"' % self.kubeProxyJob,
    // Selects kube-state-metrics, which says what clusters there are; empty without it.
    kubeStateMetricsSelector: 'job="kube-state-metrics"',
    // The label that tells clusters apart. It may be absent from the series.
    clusterLabel: 'cluster',
    // Shows the choice of a cluster on the dashboards.
    showMultiCluster: false,

    // %s is the page, for instance 'causes/crash_loop.md'.
    runbookURLPattern: 'https://github.com/kproxy-exporter/kproxy-exporter/blob/main/docs/%s',
    // Where Grafana is, for links from alerts to dashboards; empty for none.
    grafanaURL: '',

    // How long the newest word of an exporter counts that says nothing any more:
    // less than any cause's alert waits, or what was seen once would make one fire.
    window: '2m',
    // How long an alert that names a cause outlives it: longer than it takes until
    // the generic alert, which it silences, has ended too. With the window it is how
    // long scrapes may be lost without an alert resolving.
    keepFiringFor: '3m',
    // How long kube-proxy may be down for causes that take turns.
    changingFor: '15m',
    // How long a node is new: it does not count among the many that have a cause.
    settleFor: '10m',
    // Whether the cluster role is wanted beside the node role.
    clusterRole: true,
    // Whether to alert when all node roles, or all probers in the network of the
    // pods, that were there within a day are gone.
    nodeRole: true,
    probeRole: true,
    // How long Prometheus may fail to scrape a kube-proxy that works; less than the
    // generic alert waits.
    scrapeFailingFor: '10m',
    // How many days before its end a certificate of an API server is told of.
    certificateDays: 7,
    // More of the nodes than this with something that wants somebody to act is the
    // cluster's matter.
    clusterWideRatio: 0.5,
    // More of the nodes than this with one cause, or without a working kube-proxy,
    // and at least so many, is one incident.
    massCauseRatio: 0.2,
    massCauseNodes: 2,
    // So many more of a node's attempts fail by Services' addresses than by the
    // endpoints' own.
    vipFailingRatio: 0.5,
    // Fewer attempts than this in five minutes say nothing.
    minAttempts: 20,

    SLOs: {
      // Attempts by Services' addresses that fail, other than by the fault of a
      // backend or of the network behind.
      vip: {
        days: 30,
        target: 0.999,
        windows: [
          { severity: 'critical', 'for': '2m', long: '1h', short: '5m', factor: 14.4 },
          { severity: 'critical', 'for': '15m', long: '6h', short: '30m', factor: 6 },
          { severity: 'warning', 'for': '1h', long: '1d', short: '2h', factor: 3 },
          { severity: 'warning', 'for': '3h', long: '3d', short: '6h', factor: 1 },
        ],
      },
      // Changes of endpoints that take longer than this many seconds, a bound of
      // the histograms, to reach the rules.
      // The short window holds some changes where the canary is moved each 5 minutes.
      programming: { seconds: 10, target: 0.99, factor: 14.4, short: '15m', minChanges: 10 },
    },

    // By cause: owner, severity, for, and what the alert says.
    causes: { [c.name]: c for c in import 'causes.libsonnet' },
    // Who gets what; see alertmanager.libsonnet.
    receivers: {
      page: 'kube-proxy-page',
      owner: 'kube-proxy-%s',
      info: 'kube-proxy-info',
    },

    dashboards: {
      namePrefix: 'kube-proxy / ',
      tags: ['kube-proxy-mixin'],
      refresh: '30s',
      timezone: 'browser',
      intervalVariable: '$__rate_interval',
      uids: { 'on-call': 'kproxy-on-call', node: 'kproxy-node', prober: 'kproxy-prober' },
    },

    // A test may let all times pass this many times faster.
    haste: 1,
    time(text):: time.scaled(text, self.haste),
  },
}
