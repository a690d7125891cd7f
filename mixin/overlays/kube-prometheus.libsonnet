// Takes the two generic alerts out of kube-prometheus:
//
//   (import 'kube-prometheus/main.libsonnet') +
//   (import 'github.com/kproxy-exporter/kproxy-exporter/mixin/overlays/kube-prometheus.libsonnet')
{
  local drop = import '../lib/drop.libsonnet',
  kubernetesControlPlane+: { prometheusRule+: { spec+: { groups: drop(super.groups) } } },
}
