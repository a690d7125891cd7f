// Alerts that say why kube-proxy does not do its job. Pure jsonnet, no
// dependencies; override fields of _config.
(import 'config.libsonnet') +
(import 'alerts.libsonnet')
