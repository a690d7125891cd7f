// One entry for each cause, in the order of rank.
[
  import 'causes/node_not_ready.libsonnet',
  import 'causes/node_pressure.libsonnet',
  import 'causes/missing_on_node.libsonnet',
  import 'causes/image_pull.libsonnet',
  import 'causes/crash_loop.libsonnet',
]
