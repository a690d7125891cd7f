// Package tests holds the mixin to what it promises, with the engines that will
// read it: Prometheus' own for the rules, Alertmanager's own for routes and
// inhibition, over series that the exporter really gave.
package tests

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-jsonnet"
)

var update = flag.Bool("update", false, "write the files that are compared")

const (
	mixinDir    = ".."
	renderedDir = "../rendered"
	// committed is the configuration of what is committed.
	committed = `{kproxySelector: 'job="kproxy-exporter"'}`
)

func vm() *jsonnet.VM {
	v := jsonnet.MakeVM()
	v.Importer(&jsonnet.FileImporter{JPaths: []string{mixinDir}})
	return v
}

// render evaluates jsonnet that may import the mixin, into out.
func render(t testing.TB, snippet string, out any) {
	t.Helper()
	text, err := vm().EvaluateAnonymousSnippet("test.jsonnet", snippet)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(text), out); err != nil {
		t.Fatal(err)
	}
}

// with is the mixin with more configuration, which is jsonnet.
func with(config string) string {
	return `((import 'mixin.libsonnet') + {_config+:: {kproxySelector: 'job="kproxy-exporter"'} + ` + config + `})`
}

// TestRenderedIsFresh wants that what is committed is what the mixin renders.
func TestRenderedIsFresh(t *testing.T) {
	v := vm()
	v.StringOutput = true
	v.ExtVar("config", committed)
	files, err := v.EvaluateFileMulti(filepath.Join(mixinDir, "render.jsonnet"))
	if err != nil {
		t.Fatal(err)
	}
	var there []string
	err = filepath.WalkDir(renderedDir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, _ := filepath.Rel(renderedDir, path)
			there = append(there, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range there {
		if files[name] == "" {
			t.Errorf("nothing renders %s", name)
		}
	}
	for name, text := range files {
		compareFile(t, filepath.Join(renderedDir, name), text)
	}
}

// compareFile wants that a file holds text, or writes it.
func compareFile(t *testing.T, path, text string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(b), text); diff != "" {
		t.Errorf("%s is not what is made now; 'make mixin-update' writes it (-there +now):\n%s", path, diff)
	}
}

// rule is one of the mixin's.
type rule struct {
	Alert, Record, Expr string
	For                 string
	KeepFiringFor       string `json:"keep_firing_for"`
	Labels, Annotations map[string]string
	group               string
}

// rulesOf are the rules of the mixin with more configuration.
func rulesOf(t testing.TB, config string) []rule {
	t.Helper()
	var groups []struct {
		Name  string
		Rules []rule
	}
	render(t, with(config)+`.prometheusAlerts.groups + `+with(config)+`.prometheusRules.groups`, &groups)
	var out []rule
	for _, g := range groups {
		for _, r := range g.Rules {
			r.group = g.Name
			out = append(out, r)
		}
	}
	return out
}

// TestSelectorsMustBeGiven wants a clear word where a selector lacks.
func TestSelectorsMustBeGiven(t *testing.T) {
	_, err := vm().EvaluateAnonymousSnippet("t", `(import 'mixin.libsonnet').prometheusAlerts`)
	if err == nil || !strings.Contains(err.Error(), "must provide kproxySelector") {
		t.Errorf("%v", err)
	}
}

// TestOverrides wants that users can change what they must be able to.
func TestOverrides(t *testing.T) {
	find := func(rules []rule, name string) *rule {
		i := slices.IndexFunc(rules, func(r rule) bool { return r.Alert == name })
		if i < 0 {
			return nil
		}
		return &rules[i]
	}
	rules := rulesOf(t, `{causes+: {crash_loop+: {severity: 'critical', 'for': '1m', owner: 'sre'}}, clusterLabel: 'k8s_cluster', kubeProxySelector: '', grafanaURL: 'https://grafana.example'}`)
	r := find(rules, "KubeProxyCrashLoop")
	if r.Labels["severity"] != "critical" || r.For != "1m" || r.Labels["kube_proxy_owner"] != "sre" {
		t.Errorf("the override does not count: %+v", r)
	}
	if !strings.HasPrefix(r.Annotations["dashboard_url"], "https://grafana.example/d/kproxy-node?") {
		t.Errorf("no dashboard: %v", r.Annotations)
	}
	for _, r := range rules {
		if strings.Contains(r.Expr, "cluster,") && !strings.Contains(r.Expr, "k8s_cluster,") {
			t.Errorf("%s%s does not know the cluster's label: %s", r.Alert, r.Record, r.Expr)
		}
		if strings.Contains(r.Expr, "kubeproxy_") || r.Alert == "KubeProxyNotScraped" {
			t.Errorf("%s%s asks for kube-proxy's own metrics, which nobody scrapes", r.Alert, r.Record)
		}
	}
	var am struct {
		Routes []struct{ Routes []struct{ Receiver string } }
	}
	render(t, with(`{causes+: {crash_loop+: {owner: 'sre'}}}`)+`.alertmanagerConfig`, &am)
	if !slices.ContainsFunc(am.Routes[0].Routes, func(r struct{ Receiver string }) bool { return r.Receiver == "kube-proxy-sre" }) {
		t.Errorf("a new owner has no route: %+v", am.Routes)
	}
}
