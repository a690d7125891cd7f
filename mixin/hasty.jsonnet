// For a lab: all times pass as many times faster, alerts and rules in one file.
local mixin = (import 'mixin.libsonnet') + {
  _config+:: {
    kproxySelector: 'job="kproxy-exporter"',
    kubeStateMetricsSelector: '',
    haste: std.parseInt(std.extVar('haste')),
    minAttempts: 5,
    // What comes before a verdict is not any faster.
    causes+: { unexplained+: { 'for': '45m' } },
    scrapeFailingFor: '45m',
    changingFor: '60m',
    keepFiringFor: '5m',
  },
};

{
  'rules.json': std.manifestJson({ groups: mixin.prometheusAlerts.groups + mixin.prometheusRules.groups }),
  'alertmanager.json': std.manifestJson(mixin.alertmanagerConfig),
}
