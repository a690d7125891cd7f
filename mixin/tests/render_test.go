// Package tests holds the mixin to what it promises, with the engines that will
// read it: Prometheus' own for the rules, Alertmanager's own for routes and
// inhibition, over series that the exporter really gave.
package tests

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

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

// TestWrongConfiguration wants a clear word where a field cannot be meant so.
func TestWrongConfiguration(t *testing.T) {
	for config, want := range map[string]string{
		`{kproxySelector: ''}`:                        "kproxySelector is empty",
		`{causes+: {crashloop+: {severity: 'info'}}}`: "there is no crashloop",
		`{causes+: {crash_loop+: {'for': '1m'}}}`:     "longer than the window",
		`{window: '10m'}`:                             "longer than the window",
		`{window: 'soon'}`:                            "no duration",
	} {
		_, err := vm().EvaluateAnonymousSnippet("t", with(config)+".prometheusAlerts")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", config, err, want)
		}
	}
}

// TestOtherObjectives wants that nothing rests on the objectives being what they
// are unless changed: each name is recorded that an alert or a dashboard asks for.
func TestOtherObjectives(t *testing.T) {
	config := `{SLOs+: {
		vip+: {target: 0.9999999, windows: [{severity: 'critical', 'for': '1m', long: '2h', short: '10m', factor: 7}]},
		programming+: {seconds: 0.5, short: '20m'},
	}}`
	rules := rulesOf(t, config)
	there := known(t, rules)
	for _, r := range rules {
		checkExpr(t, r.Alert+r.Record, r.Expr, there, time.Minute)
		if r.Alert == "KubeProxyVIPErrorBudgetBurn" && !strings.Contains(r.Expr, "> 7e-07") {
			t.Errorf("it burns at %s", r.Expr)
		}
		if r.Record == "cluster:kproxy_canary_slow:ratio_rate20m" && !strings.Contains(r.Expr, `le=~"0\\.5(\\.0)?"`) {
			t.Errorf("slow is %s", r.Expr)
		}
	}
	replace := strings.NewReplacer("$cluster", ".*", "${node:regex}", "n1", "$node", "n1", "$__rate_interval", "2m")
	for file, d := range dashboards(t, config) {
		for _, p := range d.Panels {
			for _, target := range p.Targets {
				checkExpr(t, file+": "+p.Title, replace.Replace(target.Expr), there, 0)
			}
		}
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
	rules := rulesOf(t, `{causes+: {crash_loop+: {severity: 'critical', 'for': '4m', owner: 'sre'}}, clusterLabel: 'k8s_cluster', kubeProxySelector: '', kubeProxyJob: 'proxies', grafanaURL: 'https://grafana.example'}`)
	r := find(rules, "KubeProxyCrashLoop")
	if r.Labels["severity"] != "critical" || r.For != "4m" || r.Labels["kube_proxy_owner"] != "sre" {
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
	other := `{clusterLabel: 'k8s_cluster', kubeProxyJob: 'proxies', showMultiCluster: true}`
	var text json.RawMessage
	render(t, with(other)+`.alertmanagerConfig`, &text)
	if s := string(text); strings.Contains(s, `"cluster"`) || strings.Contains(s, `kube-proxy\"`) && strings.Contains(s, `job=\"kube-proxy`) || !strings.Contains(s, `job=\"proxies\"`) {
		t.Errorf("the cluster's label or the job is written down: %s", s)
	}
	render(t, with(other)+`.grafanaDashboards`, &text)
	if found := regexp.MustCompile(`.{60}([({, ]cluster(=|, node)|fields.cluster|byName","options":"cluster").{60}`).FindString(string(text)); found != "" {
		t.Errorf("the cluster's label is written down: %s", found)
	}
	var am struct {
		Routes []struct{ Routes []struct{ Receiver string } }
	}
	render(t, with(`{causes+: {crash_loop+: {owner: 'sre'}}}`)+`.alertmanagerConfig`, &am)
	if !slices.ContainsFunc(am.Routes[0].Routes, func(r struct{ Receiver string }) bool { return r.Receiver == "kube-proxy-sre" }) {
		t.Errorf("a new owner has no route: %+v", am.Routes)
	}
}
