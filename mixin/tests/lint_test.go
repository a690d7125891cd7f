package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"sigs.k8s.io/yaml"
)

// foreign are the metrics of others that the mixin asks for, with their labels.
var foreign = map[string][]string{
	"up":             {"job", "instance", "node"},
	"kube_node_info": {"job", "node"},
	// Prometheus' own, with the labels of the mixin's alerts.
	"ALERTS":           {"alertstate", "node", "detail", "severity", "kube_proxy_scope", "kube_proxy_cause"},
	"ALERTS_FOR_STATE": {"node", "detail", "kube_proxy_cause"},
	// The exporter has this from the first such line on, kube-proxy those from the first failure on.
	"kproxy_log_errors_total":                                    {"job", "instance", "node", "pattern"},
	"kubeproxy_sync_proxy_rules_iptables_restore_failures_total": {"job", "instance", "node", "ip_family"},
	"kubeproxy_sync_proxy_rules_nftables_sync_failures_total":    {"job", "instance", "node", "ip_family"},
	"kubeproxy_sync_proxy_rules_duration_seconds_bucket":         {"node"}, // where the target has one
}

// fullRecording is of every family that the exporter has.
const fullRecording = "recorded/faults/vip-rules-gone.txt.gz"

// known are the labels of each metric that there is: as the exporter gave them
// in the lab and in its golden exposition, and as the mixin's rules record them.
func known(t testing.TB, rules []rule) map[string]map[string]bool {
	t.Helper()
	out := map[string]map[string]bool{}
	note := func(name string, labels ...string) {
		if out[name] == nil {
			out[name] = map[string]bool{"cluster": true}
		}
		for _, l := range labels {
			out[name][l] = true
		}
	}
	for _, s := range readRecording(t, fullRecording).series {
		s.labels.Range(func(l labels.Label) { note(s.labels.Get(labels.MetricName), l.Name) })
	}
	golden, err := os.ReadFile("../../collector/testdata/metrics.prom")
	if err != nil {
		t.Fatal(err)
	}
	p := parser.NewParser(parser.Options{})
	for line := range strings.Lines(string(golden)) {
		if name, _, ok := strings.Cut(line, "} "); ok && !strings.HasPrefix(line, "#") {
			l, err := p.ParseMetric(name + "}")
			if err != nil {
				t.Fatal(err)
			}
			l.Range(func(one labels.Label) { note(l.Get(labels.MetricName), one.Name) })
		}
	}
	for name, l := range foreign {
		note(name, l...)
	}
	for _, r := range rules {
		if r.Record != "" {
			note(r.Record, grouped(t, r.Expr)...)
		}
	}
	return out
}

// grouped are the labels by which an expression groups, anywhere.
func grouped(t testing.TB, expr string) []string {
	t.Helper()
	var out []string
	e, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		switch n := n.(type) {
		case *parser.AggregateExpr:
			out = append(out, n.Grouping...)
		case *parser.VectorSelector: // what is recorded keeps its labels
			for name, l := range recordedLabels {
				if strings.HasPrefix(n.Name, name) {
					out = append(out, l...)
				}
			}
		case *parser.Call:
			if n.Func.Name == "label_replace" {
				out = append(out, n.Args[1].(*parser.StringLiteral).Val)
			}
		}
		return nil
	})
	return out
}

// recordedLabels are those of what the mixin records, by the beginning of names.
var recordedLabels = map[string][]string{
	"node_cause:": {"cluster", "node", "cause", "detail"}, "node:kproxy_verdict": {"cluster", "node", "cause", "detail"}, "node:kproxy_down": {"cluster", "node"}, "node:kproxy_unhealthy": {"cluster", "node"},
	"node:kproxy_probe": {"cluster", "node", "vantage"}, "cluster:": {"cluster"},
}

// checkExpr holds an expression to what there is.
func checkExpr(t testing.TB, where, expr string, there map[string]map[string]bool, atLeast time.Duration) {
	t.Helper()
	e, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		t.Errorf("%s: %v", where, err)
		return
	}
	parser.Inspect(e, func(n parser.Node, path []parser.Node) error {
		switch n := n.(type) {
		case *parser.VectorSelector:
			if there[n.Name] == nil {
				t.Errorf("%s asks for %q, which nobody has", where, n.Name)
				return nil
			}
			for _, m := range n.LabelMatchers {
				if m.Name != labels.MetricName && !there[n.Name][m.Name] {
					t.Errorf("%s: %s has no label %q", where, n.Name, m.Name)
				}
			}
		case *parser.Call:
			if slices.Contains([]string{"rate", "increase", "irate"}, n.Func.Name) {
				m := n.Args[0].(*parser.MatrixSelector)
				name := m.VectorSelector.(*parser.VectorSelector).Name
				if !regexp.MustCompile(`_(total|count|sum|bucket)$`).MatchString(name) {
					t.Errorf("%s: %s of %s, which is no counter", where, n.Func.Name, name)
				}
				if m.Range < atLeast {
					t.Errorf("%s: %s over %s is less than four scrapes", where, n.Func.Name, m.Range)
				}
			}
		case *parser.BinaryExpr:
			if v := n.VectorMatching; v != nil && v.On && !slices.Contains(v.MatchingLabels, "cluster") {
				t.Errorf("%s matches across clusters: on (%v)", where, v.MatchingLabels)
			}
		}
		return nil
	})
}

// TestLint is what pint and mixtool look for.
func TestLint(t *testing.T) {
	rules := rulesOf(t, "{}")
	there := known(t, rules)
	seen := map[string]bool{}
	label := regexp.MustCompile(`\$labels\.(\w+)`)
	for _, r := range rules {
		name := r.Alert + r.Record
		checkExpr(t, name, r.Expr, there, 4*interval)
		parsed, err := parser.NewParser(parser.Options{}).ParseExpr(r.Expr)
		if err != nil {
			continue
		}
		parser.Inspect(parsed, func(n parser.Node, _ []parser.Node) error {
			if a, ok := n.(*parser.AggregateExpr); ok && !slices.Contains(a.Grouping, "cluster") {
				t.Errorf("%s puts clusters together: %s", name, a)
			}
			return nil
		})
		key := fmt.Sprint(name, r.Labels)
		if seen[key] {
			t.Errorf("%s is there twice", key)
		}
		seen[key] = true
		if r.Record != "" {
			if !regexp.MustCompile(`^[a-z_]+:[a-z0-9_]+:[a-z0-9_]+$`).MatchString(r.Record) {
				t.Errorf("%s is not level:metric:operation", r.Record)
			}
			continue
		}
		if r.For == "" {
			t.Errorf("%s fires at once", name)
		}
		for _, l := range []string{"severity", "component", "kube_proxy_cause", "kube_proxy_owner", "kube_proxy_scope"} {
			if r.Labels[l] == "" {
				t.Errorf("%s has no label %s", name, l)
			}
		}
		for _, a := range []string{"summary", "description", "runbook_url"} {
			if r.Annotations[a] == "" {
				t.Errorf("%s has no %s", name, a)
			}
		}
		if strings.Contains(r.Annotations["summary"], "{{") {
			t.Errorf("the summary of %s is no fixed sentence", name)
		}
		returns := grouped(t, r.Expr)
		for _, text := range []string{r.Annotations["description"], r.Labels["severity"], r.Labels["instance"]} {
			for _, m := range label.FindAllStringSubmatch(text, -1) {
				if !slices.Contains(returns, m[1]) {
					t.Errorf("%s speaks of $labels.%s, which its expression does not return", name, m[1])
				}
			}
		}
		checkRunbook(t, name, r.Annotations["runbook_url"])
	}
}

// checkRunbook wants that a page is there, with the heading that is linked.
func checkRunbook(t testing.TB, who, url string) {
	t.Helper()
	page, ok := strings.CutPrefix(url, "https://github.com/kproxy-exporter/kproxy-exporter/blob/main/docs/")
	file, anchor, _ := strings.Cut(page, "#")
	b, err := os.ReadFile(filepath.Join("../../docs", file))
	if !ok || err != nil {
		t.Errorf("the runbook of %s: %s: %v", who, url, err)
		return
	}
	if anchor == "" {
		return
	}
	for line := range strings.Lines(string(b)) {
		if heading, ok := strings.CutPrefix(line, "## "); ok && strings.ToLower(strings.TrimSpace(heading)) == anchor {
			return
		}
	}
	t.Errorf("%s has no heading for %s", file, anchor)
}

// TestEveryAlertIsTested wants rule tests in which each alert fires, and in which
// it does not.
func TestEveryAlertIsTested(t *testing.T) {
	paths, _ := filepath.Glob("*.yaml")
	more, _ := filepath.Glob("other/*.yaml")
	fires, silent := map[string]bool{}, map[string]bool{}
	fired := regexp.MustCompile(`alertname="(\w+)", alertstate="firing"`)
	for _, p := range append(paths, more...) {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		var file struct {
			Tests []struct {
				AlertRuleTest []struct {
					Alertname string `json:"alertname"`
					ExpAlerts []any  `json:"exp_alerts"`
				} `json:"alert_rule_test"`
				PromqlExprTest []struct {
					Expr       string `json:"expr"`
					ExpSamples []any  `json:"exp_samples"`
				} `json:"promql_expr_test"`
			} `json:"tests"`
		}
		if err := yaml.Unmarshal(b, &file); err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		for _, test := range file.Tests {
			for _, a := range test.AlertRuleTest {
				if len(a.ExpAlerts) > 0 {
					fires[a.Alertname] = true
				} else {
					silent[a.Alertname] = true
				}
			}
			for _, e := range test.PromqlExprTest {
				if m := fired.FindStringSubmatch(e.Expr); m != nil && len(e.ExpSamples) > 0 {
					fires[m[1]] = true
				}
			}
		}
	}
	for _, r := range rulesOf(t, "{}") {
		if r.Alert != "" && (!fires[r.Alert] || !silent[r.Alert]) {
			t.Errorf("%s: a test in which it fires: %v, in which it does not: %v", r.Alert, fires[r.Alert], silent[r.Alert])
		}
	}
}
