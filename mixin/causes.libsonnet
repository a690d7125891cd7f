// One entry for each cause, in the order of rank. One that yields is a node's
// verdict only where there is no other: kube-proxy may well do its job with it. severities are
// those of details that want less haste than the cause.
[
  import 'causes/node_not_ready.libsonnet',
  import 'causes/container_runtime.libsonnet',
  import 'causes/evicted.libsonnet',
  import 'causes/node_pressure.libsonnet',
  import 'causes/security_policy.libsonnet',
  import 'causes/missing_on_node.libsonnet',
  import 'causes/image_pull.libsonnet',
  import 'causes/prerequisite_missing.libsonnet',
  import 'causes/config_mismatch.libsonnet',
  import 'causes/version_skew.libsonnet',
  import 'causes/api_unreachable.libsonnet',
  import 'causes/oom_killed.libsonnet',
  import 'causes/resource_exhausted.libsonnet',
  import 'causes/port_conflict.libsonnet',
  import 'causes/crash_loop.libsonnet',
  import 'causes/conflicting_rules.libsonnet',
  import 'causes/rules_stale.libsonnet',
  import 'causes/conntrack_full.libsonnet',
  import 'causes/vip_unreachable.libsonnet',
  import 'causes/metrics_unreachable.libsonnet',
  import 'causes/unexplained.libsonnet',
]
