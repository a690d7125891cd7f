package tests

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"sigs.k8s.io/yaml"
)

// group is a rule group by its alerts.
type group struct {
	Name  string
	Rules []struct{ Alert string }
}

func alerts(groups []group) []string {
	var out []string
	for _, g := range groups {
		for _, r := range g.Rules {
			out = append(out, r.Alert)
		}
	}
	return out
}

// generic are rule groups as kubernetes-mixin and kube-prometheus have them.
const generic = `[
	{name: 'kubernetes-system-kube-proxy', rules: [{alert: 'KubeProxyDown'}, {alert: 'KubeProxyInstanceUnreachable'}]},
	{name: 'kubernetes-system', rules: [{alert: 'KubeVersionMismatch'}, {record: 'a:b:c', expr: '1'}]},
	{name: 'mine', rules: [{alert: 'KubeProxyDownAgain'}, {alert: 'KubeProxyDown'}]},
]`

// TestOverlays wants the two generic alerts gone, and nothing else: names that
// begin alike stay, and so do ours.
func TestOverlays(t *testing.T) {
	var got []group
	render(t, `({prometheusAlerts+:: {groups: `+generic+`}} + `+with("{}")+` + (import 'overlays/kubernetes-mixin.libsonnet')).prometheusAlerts.groups`, &got)
	all := alerts(got)
	for _, want := range []string{"KubeVersionMismatch", "KubeProxyDownAgain", "KubeProxyDownUnknownCause", "KubeProxyDownClusterWide", "KubeProxyCrashLoop"} {
		if !slices.Contains(all, want) {
			t.Errorf("%s is gone: %v", want, all)
		}
	}
	if slices.Contains(all, "KubeProxyDown") || slices.Contains(all, "KubeProxyInstanceUnreachable") {
		t.Errorf("a generic alert is still there: %v", all)
	}
	if slices.ContainsFunc(got, func(g group) bool { return g.Name == "kubernetes-system-kube-proxy" }) {
		t.Error("its group is empty and still there")
	}
	var whole struct {
		KubernetesControlPlane struct {
			PrometheusRule struct {
				Kind string
				Spec struct{ Groups []group }
			}
		}
	}
	render(t, `{kubernetesControlPlane: {prometheusRule: {kind: 'PrometheusRule', spec: {groups: `+generic+`}}}} + (import 'overlays/kube-prometheus.libsonnet')`, &whole)
	rule := whole.KubernetesControlPlane.PrometheusRule
	if got := alerts(rule.Spec.Groups); !slices.Equal(got, []string{"KubeVersionMismatch", "", "KubeProxyDownAgain"}) || rule.Kind != "PrometheusRule" {
		t.Errorf("%+v", rule)
	}
}

// TestOurGroupsAreOurs: whoever filters the generic group away must not take ours.
func TestOurGroupsAreOurs(t *testing.T) {
	var got []group
	render(t, with("{}")+`.prometheusAlerts.groups + `+with("{}")+`.prometheusRules.groups`, &got)
	for _, g := range got {
		if g.Name == "kubernetes-system-kube-proxy" || len(g.Name) < 7 || g.Name[:7] != "kproxy-" {
			t.Errorf("group %s", g.Name)
		}
	}
}

// TestPodMonitor wants that Prometheus Operator takes what deploy has for it, and
// finds every role with the labels that the mixin rests on.
func TestPodMonitor(t *testing.T) {
	read := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	var pm monitoring.PodMonitor
	if err := yaml.UnmarshalStrict([]byte(read("../../deploy/podmonitor.yaml")), &pm); err != nil {
		t.Fatal(err)
	}
	if len(pm.Spec.PodMetricsEndpoints) != 1 {
		t.Fatalf("%d endpoints", len(pm.Spec.PodMetricsEndpoints))
	}
	e := pm.Spec.PodMetricsEndpoints[0]
	if !e.HonorLabels || e.Port == nil || *e.Port != "metrics" {
		t.Errorf("port %v, honorLabels %t", e.Port, e.HonorLabels)
	}
	if r := e.RelabelConfigs; len(r) != 1 || r[0].TargetLabel != "job" || r[0].Replacement == nil || `{kproxySelector: 'job="`+*r[0].Replacement+`"'}` != committed {
		t.Errorf("the job is not the one of what is committed: %+v", r)
	}
	manifests, err := filepath.Glob("../../deploy/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	roles := 0
	for _, path := range manifests {
		text := read(path)
		if !strings.Contains(text, "name: metrics") || filepath.Base(path) == "podmonitor.yaml" {
			continue
		}
		roles++
		name := regexp.MustCompile(`template:\n\s+metadata:\n\s+labels:\n\s+app.kubernetes.io/name: ([\w-]+)\n`).FindStringSubmatch(text)
		space := regexp.MustCompile(`kind: (?:DaemonSet|Deployment)\nmetadata:\n(?:  .*\n)*?  namespace: ([\w-]+)`).FindStringSubmatch(text)
		if name == nil || space == nil {
			t.Errorf("%s: no label %v or namespace %v", path, name, space)
			continue
		}
		if !slices.Contains(pm.Spec.Selector.MatchExpressions[0].Values, name[1]) || !slices.Contains(pm.Spec.NamespaceSelector.MatchNames, space[1]) {
			t.Errorf("%s, %s in %s, is not selected", path, name[1], space[1])
		}
	}
	if roles != 3 {
		t.Errorf("%d roles", roles)
	}
}
