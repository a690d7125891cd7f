#!/bin/sh
# Renders the plain manifests from the chart into a directory: render.sh HELM DIR.
set -eu
cd "$(dirname "$0")"
helm=$1 into=$2
render() { # FILE of the chart, and values
	file=$1
	shift
	{
		echo "# Rendered from deploy/kproxy-exporter by 'make deploy-update'."
		"$helm" template kproxy-exporter ./kproxy-exporter --namespace kproxy-exporter --show-only "templates/$file" \
			--set plain=true,image.repository=kproxy.lab/kproxy-exporter,image.tag=lab "$@" |
			sed -e '/^# Source: /d' -e '1{/^---$/d}' -e '/^ *$/d' -e 's/ *$//'
	} >"$into/$file"
}
render cluster.yaml
render node.yaml
render probe.yaml --set probe.enabled=true
render canary.yaml --set canary.enabled=true
render podmonitor.yaml --set podMonitor.enabled=true
