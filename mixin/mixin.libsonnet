// Alerts that say why kube-proxy does not do its job, dashboards that answer on
// the first screen, and what Alertmanager needs to route them. Pure jsonnet, no
// dependencies; override fields of _config.
(import 'config.libsonnet') +
(import 'alerts/alerts.libsonnet') +
(import 'rules.libsonnet') +
(import 'dashboards/dashboards.libsonnet') +
(import 'alertmanager.libsonnet')
