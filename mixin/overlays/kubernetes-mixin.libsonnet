// Takes the two generic alerts out of kubernetes-mixin, or of any mixin, by their
// whole names: kubernetes-mixin + (import 'github.com/kproxy-exporter/kproxy-exporter/mixin/overlays/kubernetes-mixin.libsonnet').
{
  local drop = import '../lib/drop.libsonnet',
  prometheusAlerts+:: { groups: drop(super.groups) },
}
