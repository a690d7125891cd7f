local camel(name) = std.join('', [std.asciiUpper(part[0]) + part[1:] for part in std.split(name, '_')]);

{
  local c = $._config,
  prometheusAlerts+:: {
    groups+: [{
      name: 'kproxy-causes',
      rules: [
        {
          alert: 'KubeProxy' + camel(cause.name),
          // A scrape that is lost resolves nothing; a cause that is gone, or a
          // node that is, does: the newest word counts.
          expr: 'max by (%(labels)s) (last_over_time(kproxy_primary_cause{%(selector)s, cause="%(name)s"}[%(window)s])) == 1\nand on (%(nodeLabels)s) max by (%(nodeLabels)s) (last_over_time(kproxy_cause_active{%(selector)s, cause="%(name)s"}[%(window)s])) == 1' % {
            labels: std.join(', ', (if c.clusterLabel == '' then [] else [c.clusterLabel]) + ['node', 'detail']),
            nodeLabels: std.join(', ', (if c.clusterLabel == '' then [] else [c.clusterLabel]) + ['node']),
            selector: c.kproxySelector,
            name: cause.name,
            window: c.window,
          },
          'for': if c.forAll == null then cause['for'] else c.forAll,
          labels: {
            severity: cause.severity,
            component: 'kube-proxy',
            kube_proxy_cause: cause.name,
            kube_proxy_owner: cause.owner,
            kube_proxy_scope: 'node',
          },
          annotations: {
            summary: cause.summary,
            description: 'kube-proxy on node {{ $labels.node }}: %s / {{ $labels.detail }}. %s' % [cause.name, cause.description],
            runbook_url: c.runbookURLPattern % cause.name,
          },
        }
        for cause in c.causes
      ] + [
        {
          alert: 'KubeProxyAPICertificateExpiring',
          expr: 'min by (%(labels)s) (last_over_time(kproxy_api_certificate_expiry_timestamp_seconds{%(selector)s}[%(window)s])) - time() < %(days)d * 86400' % {
            labels: std.join(', ', (if c.clusterLabel == '' then [] else [c.clusterLabel]) + ['endpoint']),
            selector: c.kproxySelector,
            window: c.window,
            days: c.certificateDays,
          },
          'for': if c.forAll == null then '1h' else c.forAll,
          labels: {
            severity: 'warning',
            component: 'kube-proxy',
            kube_proxy_cause: 'api_unreachable',
            kube_proxy_owner: 'platform',
            kube_proxy_scope: 'cluster',
          },
          annotations: {
            summary: 'A certificate of an API server ends soon.',
            description: 'A certificate that the API server shows at {{ $labels.endpoint }} ends in {{ $value | humanizeDuration }}; no kube-proxy will hear of changes after that.',
            runbook_url: c.runbookURLPattern % 'api_unreachable',
          },
        },
      ],
    }],
  },
}
