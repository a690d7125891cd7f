{{- define "kpx.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 46 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 46 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "kpx.nodeNamespace" -}}{{ include "kpx.namespace" (dict "role" "node" "root" .) }}{{- end }}
{{- define "kpx.probeNamespace" -}}{{ include "kpx.namespace" (dict "role" "probe" "root" .) }}{{- end }}
{{- define "kpx.namespace" -}}
{{- $name := (index .root.Values .role).namespace | default (printf "%s-%s" .root.Release.Namespace .role) -}}
{{- if gt (len $name) 63 }}{{ fail (printf "%s.namespace: %s is longer than a name may be; give it one" .role $name) }}{{ end -}}
{{ $name }}
{{- end }}

{{- /* A name as YAML has it: 123 and true are none without quotes. */ -}}
{{- define "kpx.word" -}}
{{- if regexMatch "^([0-9].*|true|false|null|yes|no|on|off|y|n)$" . }}{{ . | quote }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{- /* What selects the pods of a role, between braces: dict role, root. */ -}}
{{- define "kpx.selector" -}}
app.kubernetes.io/name: {{ .role }}{{ if not .root.Values.plain }}, app.kubernetes.io/instance: {{ include "kpx.word" .root.Release.Name }}{{ end }}
{{- end }}

{{- /* Labels of all objects of a role: dict role, root. */ -}}
{{- define "kpx.labels" -}}
app.kubernetes.io/name: {{ .role }}
{{- if not .root.Values.plain }}
app.kubernetes.io/instance: {{ include "kpx.word" .root.Release.Name }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}
{{- end }}

{{- /* The same with a user's, which win: dict role, root, more. */ -}}
{{- define "kpx.labelsAnd" -}}
{{- toYaml (mergeOverwrite (include "kpx.labels" . | fromYaml) .more) }}
{{- end }}

{{- define "kpx.podLabels" -}}
{{- $labels := mergeOverwrite (dict) .values.podLabels (dict "app.kubernetes.io/name" .role) -}}
{{- if not .root.Values.plain }}{{ $_ := set $labels "app.kubernetes.io/instance" .root.Release.Name }}{{ end -}}
{{- toYaml $labels }}
{{- end }}

{{- define "kpx.image" -}}
{{- $i := .Values.image -}}
{{- $repository := required "image.repository: where the cluster finds the image of kproxy-exporter" $i.repository -}}
{{- if $i.digest }}{{ $repository }}@{{ $i.digest }}{{ else }}{{ $repository }}:{{ $i.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "kpx.container" -}}
image: {{ include "kpx.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end }}

{{- define "kpx.webArgs" -}}
{{- if .Values.web.configSecret }}, --web.config.file=/etc/kproxy-exporter/web/web.yml{{ end }}
{{- end }}

{{- /* Whether it lives, and has read all that it needs. */ -}}
{{- define "kpx.probes" -}}
{{- if .Values.web.configSecret -}}
livenessProbe: {tcpSocket: {port: metrics}}
readinessProbe: {tcpSocket: {port: metrics}, periodSeconds: 2}
{{- else -}}
livenessProbe: {httpGet: {path: /-/healthy, port: metrics}}
readinessProbe: {httpGet: {path: /-/ready, port: metrics}, periodSeconds: 2}
{{- end }}
{{- end }}

{{- /* Where the pod goes: dict values, root. */ -}}
{{- define "kpx.place" -}}
{{- with .values.priorityClassName }}
priorityClassName: {{ include "kpx.word" . }}
{{- end }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 0 }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations: {{ toYaml . | nindent 0 }}
{{- end }}
{{- with .values.affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* The Services by which the roles find each other, where they are not those that the flags have by default. */ -}}
{{- define "kpx.serviceArgs" -}}
{{- $canary := printf "%s/%s-canary" .Release.Namespace (include "kpx.fullname" .) -}}
{{- $responder := printf "%s/%s-responder" (include "kpx.nodeNamespace" .) (include "kpx.fullname" .) -}}
{{- if ne $canary "kproxy-exporter/kproxy-exporter-canary" }}, --canary.service={{ $canary }}{{ end }}
{{- if ne $responder "kproxy-exporter-node/kproxy-exporter-responder" }}, --responder.service={{ $responder }}{{ end }}
{{- end }}

{{- define "kpx.kubeProxyNamespace" -}}
{{- if ne .Values.kubeProxy.namespace "kube-system" }}, --kube-proxy.namespace={{ .Values.kubeProxy.namespace }}{{ end }}
{{- end }}

{{- define "kpx.extraArgs" -}}{{ range . }}, {{ . | quote }}{{ end }}{{- end }}

{{- /* What is scraped, for a PodMonitor or a ServiceMonitor: dict monitor. What the exporter needs comes first; the rest is as it is given. */ -}}
{{- define "kpx.endpoint" -}}
{{- $given := deepCopy (.monitor.endpoint | default dict) -}}
{{- $job := dict "targetLabel" "job" "replacement" "kproxy-exporter" -}}
{{- $all := dict "port" "metrics" "honorLabels" true "relabelings" (concat (list $job) ($given.relabelings | default list)) -}}
{{- with .monitor.interval }}{{ $_ := set $all "interval" . }}{{ end -}}
{{ toYaml (list (merge $all $given)) }}
{{- end }}
