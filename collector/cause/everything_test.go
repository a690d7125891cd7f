package cause

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestOneCauseOneEverything holds a cause's name to be its file, its test in
// the sick matrix, its alert, its rule test, its page and its row.
func TestOneCauseOneEverything(t *testing.T) {
	var want []string
	for _, c := range All {
		want = append(want, c.Name)
	}
	sorted := slices.Sorted(slices.Values(want))
	for _, place := range []struct{ glob, suffix string }{
		{"*.go", ".go"},
		{"*_test.go", "_test.go"},
		{"../../mixin/causes/*.libsonnet", ".libsonnet"},
		{"../../mixin/tests/*.yaml", ".yaml"},
		{"../../docs/causes/*.md", ".md"},
	} {
		paths, err := filepath.Glob(place.glob)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range paths {
			name := strings.TrimSuffix(filepath.Base(p), place.suffix)
			if strings.HasSuffix(name, "_test") || name == "cause" || name == "snapshot" || name == "judge" || name == "ports" || name == "applied" || name == "local" || name == "probes" || name == "everything" || name == "clock" {
				continue
			}
			got = append(got, name)
		}
		if !slices.Equal(got, sorted) {
			t.Errorf("%s holds %v, All holds %v", place.glob, got, sorted)
		}
	}
	for _, list := range []struct{ file, row string }{
		{"../../README.md", "| `%` |"},
		{"../../mixin/causes.libsonnet", "'causes/%.libsonnet'"},
	} {
		b, err := os.ReadFile(list.file)
		if err != nil {
			t.Fatal(err)
		}
		at := -1
		for _, name := range want {
			i := strings.Index(string(b), strings.ReplaceAll(list.row, "%", name))
			if i <= at {
				t.Errorf("%s does not list %s in the order of rank", list.file, name)
			}
			at = i
		}
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range All {
		var details []string
		for _, d := range c.Details {
			details = append(details, d.Name)
		}
		_, row, _ := strings.Cut(string(readme), "| `"+c.Name+"` | ")
		row, _, _ = strings.Cut(row, " |")
		listed := strings.Split(row, ", ")
		if !slices.Equal(slices.Sorted(slices.Values(listed)), slices.Sorted(slices.Values(details))) {
			t.Errorf("README lists %v for cause %d, %s, which has %v", listed, i+1, c.Name, details)
		}
	}
	for _, c := range All {
		page, err := os.ReadFile("../../docs/causes/" + c.Name + ".md")
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range c.Details {
			if !strings.Contains(string(page), "| "+d.Name+" |") {
				t.Errorf("the page of %s does not know detail %s", c.Name, d.Name)
			}
		}
	}
}

// TestAdviceIsSafe checks what people are told to run: never the cleanup of a
// node in service, and for missing rules the command that also helps where a
// restart keeps damaged chains (nftables, kube-proxy 1.33 to 1.35).
func TestAdviceIsSafe(t *testing.T) {
	const deleteTable = "nft delete table ip kube-proxy"
	rewritten := map[string]bool{"rules_stale/flushed": true, "rules_stale/drift": true, "vip_unreachable/dataplane": true}
	for _, c := range All {
		for _, d := range c.Details {
			name := c.Name + "/" + d.Name
			if strings.Contains(d.Action, "--cleanup") {
				t.Errorf("%s: the advice removes the live rules: %s", name, d.Action)
			}
			if rewritten[name] && !strings.Contains(d.Action, deleteTable) {
				t.Errorf("%s: the advice relies on a restart: %s", name, d.Action)
			}
		}
	}
	var pages []string
	for _, pattern := range []string{"../../README.md", "../../docs/*.md", "../../docs/causes/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatal(pattern, err)
		}
		pages = append(pages, found...)
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, never := range []string{"--cleanup", "writes all rules"} {
			if strings.Contains(string(text), never) {
				t.Errorf("%s: contains %q", page, never)
			}
		}
		if filepath.Base(page) == "rules_stale.md" && !strings.Contains(string(text), deleteTable) {
			t.Errorf("%s: does not contain %q", page, deleteTable)
		}
	}
}
