package tests

import (
	"slices"
	"testing"
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
