// As much of Grafana's dashboard model as these dashboards need.
local panel(type, title, description, w, h) = {
  type: type,
  title: title,
  description: description,
  gridPos: { w: w, h: h },
  datasource: { type: 'prometheus', uid: '${datasource}' },
  options: {},
  fieldConfig: { defaults: {}, overrides: [] },
};

local target(expr, legend='', more={}) = {
  datasource: { type: 'prometheus', uid: '${datasource}' },
  expr: expr,
  legendFormat: legend,
} + more;

local letters = std.stringChars('ABCDEFGHIJKLMNOPQRSTUVWXYZ');

{
  // colour steps: [[null, 'green'], [1, 'red']].
  steps(list):: { mode: 'absolute', steps: [{ value: s[0], color: s[1] } for s in list] },

  withTargets(targets):: { targets: [targets[i] { refId: letters[i] } for i in std.range(0, std.length(targets) - 1)] },

  // The newest value in big.
  stat(title, description, w, h, expr, unit, steps, more={}):: panel('stat', title, description, w, h) + self.withTargets([target(expr, '', { instant: true, range: false })]) + {
    options: { reduceOptions: { calcs: ['lastNotNull'] }, colorMode: 'background', graphMode: 'none', textMode: 'auto', justifyMode: 'center' },
    fieldConfig: { defaults: { unit: unit, thresholds: $.steps(steps), color: { mode: 'thresholds' }, noValue: 'unknown' } + more, overrides: [] },
  },

  // Lines over time; queries are [expr, legend].
  timeseries(title, description, w, h, queries, unit, more={}, custom={}):: panel('timeseries', title, description, w, h) + self.withTargets([target(q[0], q[1]) for q in queries]) + {
    options: { legend: { displayMode: 'list', placement: 'bottom', showLegend: true }, tooltip: { mode: 'multi', sort: 'desc' } },
    fieldConfig: {
      defaults: { unit: unit, custom: { drawStyle: 'line', lineWidth: 1, fillOpacity: 10, showPoints: 'never', spanNulls: false } + custom } + more,
      overrides: [],
    },
  },

  // Bars, the longest first.
  bars(title, description, w, h, expr, legend, unit, steps, more={}):: panel('bargauge', title, description, w, h) + self.withTargets([target(expr, legend, { instant: true, range: false })]) + {
    options: { reduceOptions: { calcs: ['lastNotNull'] }, orientation: 'horizontal', displayMode: 'basic', showUnfilled: true, valueMode: 'color', sizing: 'manual', minVizHeight: 16, maxVizHeight: 36, namePlacement: 'left', text: { titleSize: 14, valueSize: 16 } },
    fieldConfig: { defaults: { unit: unit, min: 0, thresholds: $.steps(steps), color: { mode: 'thresholds' } } + more, overrides: [] },
  },

  // A table of one instant query. columns are [label, title, more properties];
  // labels that are not among them are hidden.
  table(title, description, w, h, expr, columns, hidden=[], value=null):: panel('table', title, description, w, h) + self.withTargets([target(expr, '', { instant: true, range: false, format: 'table' })]) + {
    options: { showHeader: true, cellHeight: 'sm' },
    transformations: [{
      id: 'organize',
      options: {
        excludeByName: { [name]: true for name in ['Time'] + hidden + (if value == null then ['Value'] else []) },
        indexByName: { [columns[i][0]]: i for i in std.range(0, std.length(columns) - 1) } + { Value: std.length(columns) },
      },
    }],
    fieldConfig: {
      defaults: { unit: 'string', custom: { align: 'left', filterable: true } },
      overrides: [$.column(c[0], c[1], c[2]) for c in columns] +
                 (if value == null then [] else [$.column('Value', value[0], value[1])]),
    },
  },
  column(name, title, properties):: {
    matcher: { id: 'byName', options: name },
    properties: [{ id: 'displayName', value: title }] + [{ id: k, value: properties[k] } for k in std.objectFields(properties)],
  },

  text(title, description, w, h, markdown):: panel('text', title, description, w, h) + { options: { mode: 'markdown', content: markdown } },

  row(title):: { type: 'row', title: title, collapsed: false, gridPos: { w: 24, h: 1 }, panels: [] },

  link(title, url):: { title: title, url: url, targetBlank: false },

  variable(name, label, query, all=false, hide=false, regex=''):: {
    name: name,
    label: label,
    type: 'query',
    datasource: { type: 'prometheus', uid: '${datasource}' },
    query: { query: query, refId: 'Prometheus-%s' % name },
    definition: query,
    refresh: 2,
    sort: 1,
    hide: if hide then 2 else 0,
    includeAll: all,
    multi: false,
    regex: regex,
    current: if all then { selected: true, text: 'All', value: '$__all' } else {},
  } + (if all then { allValue: '.*' } else {}),

  // Places panels from left to right, line by line.
  local place(panels, x, y, h, id) =
    if panels == [] then [] else
      local p = panels[0];
      local wraps = x + p.gridPos.w > 24;
      local px = if wraps then 0 else x;
      local py = if wraps then y + h else y;
      local ph = if wraps then p.gridPos.h else std.max(h, p.gridPos.h);
      [p { id: id, gridPos+: { x: px, y: py } }] + place(panels[1:], px + p.gridPos.w, py, ph, id + 1),

  dashboard(c, uid, title, description, variables, panels):: {
    uid: uid,
    title: c.dashboards.namePrefix + title,
    description: description,
    tags: c.dashboards.tags,
    schemaVersion: 39,
    editable: false,
    graphTooltip: 1,
    refresh: c.dashboards.refresh,
    timezone: c.dashboards.timezone,
    time: { from: 'now-1h', to: 'now' },
    links: [{ type: 'dashboards', title: 'kube-proxy', tags: c.dashboards.tags, asDropdown: true, includeVars: true, keepTime: true, targetBlank: false, icon: 'external link', tooltip: '', url: '' }],
    templating: {
      list: [{ name: 'datasource', label: 'Data source', type: 'datasource', query: 'prometheus', regex: '', hide: 0, refresh: 1, includeAll: false, multi: false, current: {}, options: [] }] + variables,
    },
    annotations: { list: [] },
    panels: place(panels, 0, 0, 0, 1),
  },
}
