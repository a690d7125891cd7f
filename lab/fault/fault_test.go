package fault

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The runbook pages name the faults that show their cause: all of them, and
// none that does not exist.
func TestPagesNameTheFaults(t *testing.T) {
	const pages = "../../docs/causes/"
	type named struct{ fault, cause, detail string }
	var all []named
	for _, f := range All {
		if f.Cause != "" {
			all = append(all, named{f.Name, f.Cause, f.Detail})
		}
		if cause, detail, ok := strings.Cut(f.OnNode, "/"); ok {
			all = append(all, named{f.Name, cause, detail})
		} else if f.Cause == "" {
			t.Errorf("nobody shall name fault %s", f.Name)
		}
	}
	for _, f := range all {
		page, err := os.ReadFile(pages + f.cause + ".md")
		if err != nil {
			t.Error(err)
			continue
		}
		if !strings.Contains(string(page), "`"+f.fault+"`") && !strings.Contains(string(page), "inject "+f.fault+"`") {
			t.Errorf("the page of %s does not name fault %s", f.cause, f.fault)
		}
		if !strings.Contains(string(page), "| "+f.detail+" |") {
			t.Errorf("the page of %s does not know detail %s of fault %s", f.cause, f.detail, f.fault)
		}
	}
	entries, err := os.ReadDir(pages)
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile("`(?:kproxy-lab fault inject )?([a-z0-9]+(?:-[a-z0-9]+)+)`")
	for _, e := range entries {
		page, err := os.ReadFile(pages + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		_, reproduced, found := strings.Cut(string(page), "How it was reproduced in the lab: ")
		if !found {
			t.Errorf("%s does not say how it was reproduced", e.Name())
		}
		for _, m := range names.FindAllStringSubmatch(reproduced, -1) {
			if _, err := Find(m[1]); err != nil {
				t.Errorf("%s: %v", e.Name(), err)
			}
		}
	}
}

func TestFaultsAreWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range All {
		if f.Name == "" || f.Breaks == "" || f.Cause == "" && f.OnNode == "" || (f.Cause == "") != (f.Detail == "") || f.inject == nil {
			t.Errorf("fault %q is not whole", f.Name)
		}
		if seen[f.Name] {
			t.Errorf("two faults are called %s", f.Name)
		}
		seen[f.Name] = true
	}
}
