package tests

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

var values = regexp.MustCompile(`(?m)\bvalues: ([^"'\n]+)$`)

// TestTwoReplicas has two replicas of the cluster role say everything that promtool's
// tests of the causes say: each alert fires once, as with one.
func TestTwoReplicas(t *testing.T) {
	files, err := filepath.Glob("*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	doubled := 0
	args := []string{"tool", "promtool", "test", "rules"}
	for _, f := range append(files, "other/cluster.yaml") {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		text = values.ReplaceAll(text, []byte(`values: "$1"`)) // else 0x30 is 48
		var file map[string]any
		if err := yaml.Unmarshal(text, &file); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		rules := file["rule_files"].([]any)
		for i, r := range rules {
			if rules[i], err = filepath.Abs(filepath.Join(filepath.Dir(f), r.(string))); err != nil {
				t.Fatal(err)
			}
		}
		for _, test := range file["tests"].([]any) {
			test := test.(map[string]any)
			var series []any
			for _, one := range test["input_series"].([]any) {
				one := one.(map[string]any)
				name := one["series"].(string)
				// What only the cluster role, or either, says; nodes' own words come once.
				if !strings.HasPrefix(name, "kproxy_cause_active{") && !strings.HasPrefix(name, "kproxy_primary_cause{") && !strings.HasPrefix(name, "kproxy_healthy{") || strings.Contains(name, "pod=") || strings.Contains(name, "instance=") {
					series = append(series, one)
					continue
				}
				doubled++
				for _, pod := range []string{"a", "b"} {
					series = append(series, map[string]any{"series": strings.TrimSuffix(name, "}") + `, pod="` + pod + `", instance="` + pod + `:19249"}`, "values": one["values"]})
				}
			}
			test["input_series"] = series
			delete(test, "promql_expr_test") // they count series
		}
		out, err := yaml.Marshal(file)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, strings.ReplaceAll(f, "/", "-"))
		if err := os.WriteFile(path, out, 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, path)
	}
	if doubled < 100 {
		t.Fatalf("only %d series were doubled", doubled)
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Errorf("%v\n%s", err, &out)
	}
	t.Logf("%d series were doubled", doubled)
}
