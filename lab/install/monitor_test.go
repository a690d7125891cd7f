package install

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kproxy-exporter/kproxy-exporter/lab/monitoring"
)

// crds are Prometheus Operator's kinds, as far as they are shipped.
const crds = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: podmonitors.monitoring.coreos.com}
spec:
  group: monitoring.coreos.com
  names: {kind: PodMonitor, plural: podmonitors, singular: podmonitor}
  scope: Namespaced
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: prometheusrules.monitoring.coreos.com}
spec:
  group: monitoring.coreos.com
  names: {kind: PrometheusRule, plural: prometheusrules, singular: prometheusrule}
  scope: Namespaced
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
`

// podMonitor is what the operator reads of one, as far as ours has it.
type podMonitor struct {
	Metadata metav1.ObjectMeta
	Spec     struct {
		NamespaceSelector   struct{ MatchNames []string }
		Selector            metav1.LabelSelector
		PodMetricsEndpoints []struct {
			Port        string
			HonorLabels bool
			Relabelings []struct{ TargetLabel, Replacement string }
		}
	}
}

// scrape is the scrape configuration that Prometheus Operator makes of a pod monitor.
func (m *podMonitor) scrape() []any {
	var out []any
	for i, e := range m.Spec.PodMetricsEndpoints {
		var sd []any
		for _, ns := range m.Spec.NamespaceSelector.MatchNames {
			sd = append(sd, map[string]any{"url": "http://127.0.0.1:9091/" + ns, "refresh_interval": "1s"})
		}
		label := func(name string) string {
			return "__meta_kubernetes_pod_label_" + strings.NewReplacer(".", "_", "/", "_", "-", "_").Replace(name)
		}
		relabel := []any{
			map[string]any{"source_labels": []string{"job"}, "target_label": "__tmp_prometheus_job_name"},
			map[string]any{"source_labels": []string{"__meta_kubernetes_pod_phase"}, "regex": "(Failed|Succeeded)", "action": "drop"},
		}
		for name, value := range m.Spec.Selector.MatchLabels {
			relabel = append(relabel, map[string]any{"source_labels": []string{label(name)}, "regex": value, "action": "keep"})
		}
		for _, r := range m.Spec.Selector.MatchExpressions {
			relabel = append(relabel, map[string]any{"source_labels": []string{label(r.Key)}, "regex": strings.Join(r.Values, "|"), "action": "keep"})
		}
		relabel = append(relabel, map[string]any{"source_labels": []string{"__meta_kubernetes_pod_container_port_name"}, "regex": e.Port, "action": "keep"})
		for from, to := range map[string]string{"namespace": "namespace", "pod_container_name": "container", "pod_name": "pod"} {
			relabel = append(relabel, map[string]any{"source_labels": []string{"__meta_kubernetes_" + from}, "target_label": to})
		}
		relabel = append(relabel, map[string]any{"target_label": "job", "replacement": m.Metadata.Namespace + "/" + m.Metadata.Name}, map[string]any{"target_label": "endpoint", "replacement": e.Port})
		for _, r := range e.Relabelings {
			relabel = append(relabel, map[string]any{"target_label": r.TargetLabel, "replacement": r.Replacement})
		}
		out = append(out, map[string]any{"job_name": fmt.Sprintf("podMonitor/%s/%s/%d", m.Metadata.Namespace, m.Metadata.Name, i), "honor_labels": e.HonorLabels, "http_sd_configs": sd, "relabel_configs": relabel})
	}
	return out
}

// monitored starts a Prometheus with what Prometheus Operator makes of the pod monitors
// and rules in the cluster, and wants that it finds and scrapes every pod of every role,
// and that all rules can be evaluated.
func (s *site) monitored() {
	s.t.Helper()
	read := func(kind string, into any) {
		s.t.Helper()
		if err := json.Unmarshal([]byte(s.kubectl("get", kind, "-A", "-o", "json")), into); err != nil {
			s.t.Fatal(err)
		}
	}
	var monitors struct{ Items []podMonitor }
	read("podmonitors", &monitors)
	var scrapes []any
	for i := range monitors.Items {
		scrapes = append(scrapes, monitors.Items[i].scrape()...)
	}
	var prometheusRules struct {
		Items []struct {
			Spec struct{ Groups []json.RawMessage }
		}
	}
	read("prometheusrules", &prometheusRules)
	var groups []json.RawMessage
	for _, r := range prometheusRules.Items {
		groups = append(groups, r.Spec.Groups...)
	}
	if len(scrapes) == 0 || len(groups) == 0 {
		s.t.Fatalf("the chart brought %d pod monitors and %d groups of rules", len(scrapes), len(groups))
	}
	rules, err := json.Marshal(map[string]any{"groups": groups})
	if err != nil {
		s.t.Fatal(err)
	}
	file := filepath.Join(s.t.TempDir(), "rules.json")
	if err := os.WriteFile(file, rules, 0o600); err != nil {
		s.t.Fatal(err)
	}
	config, err := json.Marshal(map[string]any{ // JSON is YAML
		"global":         map[string]any{"scrape_interval": "1s", "evaluation_interval": "1s", "external_labels": map[string]string{"cluster": "lab"}},
		"rule_files":     []string{"/etc/prometheus/kproxy.yaml"},
		"scrape_configs": scrapes,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	m, err := monitoring.Start(s.t.Context(), s.Cluster, monitoring.Config{Rules: file, GenericFor: time.Minute, Prometheus: string(config)})
	if err != nil {
		s.t.Fatal(err)
	}
	began := time.Now()
	s.await("Prometheus", func(ctx context.Context) string {
		pods, err := s.client.CoreV1().Pods("").List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name in (kproxy-exporter,kproxy-exporter-node,kproxy-exporter-probe)"})
		if err != nil {
			return err.Error()
		}
		var want, got []string
		for _, p := range pods.Items {
			want = append(want, p.Namespace+"/"+p.Name)
		}
		up, err := m.Query(ctx, `up{job="kproxy-exporter"} == 1`, time.Now())
		if err != nil {
			return err.Error()
		}
		for _, one := range up {
			got = append(got, one.Metric["namespace"]+"/"+one.Metric["pod"])
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(want, got) {
			return fmt.Sprintf("it scrapes %v, want %v", got, want)
		}
		// What the exporter says of others is theirs: honorLabels.
		found, err := m.Query(ctx, `count by (node) (kproxy_primary_cause{cause="none",job="kproxy-exporter",node=~"n1|n2"} == 1)`, time.Now())
		if err != nil || len(found) != 2 {
			return fmt.Sprintf("verdicts of %d nodes, want 2: %v", len(found), err)
		}
		sick, err := m.SickRules(ctx)
		if err != nil || len(sick) > 0 {
			return fmt.Sprintf("rules that cannot be evaluated, or were not yet: %v %v", sick, err)
		}
		s.t.Logf("Prometheus scrapes %d pods by the pod monitor, and evaluates %d groups of rules, after %.1f s", len(got), len(groups), time.Since(began).Seconds())
		return ""
	})
}
