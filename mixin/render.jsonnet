// All that the mixin gives, as files; config is YAML for _config:
// jsonnet -J . -S -c -m DIR -V config='{kproxySelector: "job=\"x\""}' render.jsonnet.
local config = std.extVar('config');
local mixin = (import 'mixin.libsonnet') + { _config+:: std.parseYaml(config) };
local yaml(v) = std.manifestYamlDoc(v, indent_array_in_object=true, quote_keys=false);

{
  'alerts.yaml': yaml(mixin.prometheusAlerts),
  'rules.yaml': yaml(mixin.prometheusRules),
  'alertmanager.yaml': yaml(mixin.alertmanagerConfig),
} + {
  ['dashboards/' + name]: std.manifestJsonEx(mixin.grafanaDashboards[name], '  ') + '\n'
  for name in std.objectFields(mixin.grafanaDashboards)
}
