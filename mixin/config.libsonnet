{
  _config+:: {
    // Selects the series of kproxy-exporter, for instance: job="kproxy-exporter".
    kproxySelector: error 'must provide kproxySelector, for instance \'job="kproxy-exporter"\'',
    // Labels that tell clusters apart; empty for one cluster.
    clusterLabel: 'cluster',
    // %s is the cause.
    runbookURLPattern: 'https://github.com/kproxy-exporter/kproxy-exporter/blob/main/docs/causes/%s.md',
    // How long a lost scrape may last without an alert resolving.
    window: '5m',
    // How many days before its end a certificate of an API server is told of.
    certificateDays: 7,
    // Overrides every alert's own `for`; null keeps them.
    forAll: null,
    causes: import 'causes.libsonnet',
  },
}
