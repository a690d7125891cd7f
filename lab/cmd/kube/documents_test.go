package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	kubectl "k8s.io/kubectl/pkg/cmd"

	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
)

var (
	// kubectlCommand is a kubectl command in a code block, a code span or quotes.
	kubectlCommand = regexp.MustCompile("kubectl((?: +(?:'[^'\n]*'|[^`|;)\\s'])+)+)")
	word           = regexp.MustCompile(`(?:'[^']*'|[^\s'])+`)
	template       = regexp.MustCompile(`{{.*?}}`)
)

// TestDocumentedCommands parses each kubectl command of the documents, and of
// the advice for each cause, with kubectl's own commands and flags.
func TestDocumentedCommands(t *testing.T) {
	texts := map[string]string{}
	for _, pattern := range []string{"README.md", "*/README.md", "docs/*.md", "docs/causes/*.md", "deploy/*/templates/NOTES.txt"} {
		pages, err := filepath.Glob("../../../" + pattern)
		if err != nil || len(pages) == 0 {
			t.Fatal(pattern, err)
		}
		for _, page := range pages {
			text, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			texts[page] = strings.ReplaceAll(template.ReplaceAllString(string(text), "NAME"), "\\\n", " ")
		}
	}
	for _, c := range cause.All {
		for _, d := range c.Details {
			texts["advice for "+c.Name+"/"+d.Name] = d.Action
		}
	}
	checked := 0
	for where, text := range texts {
		for _, m := range kubectlCommand.FindAllStringSubmatch(text, -1) {
			args := word.FindAllString(strings.TrimRight(m[1], ".,:"), -1)
			if i := slices.IndexFunc(args, func(a string) bool { return a == "..." || a[0] == '#' || strings.HasSuffix(a, ",") }); i >= 0 {
				args = args[:i]
			}
			command, rest, err := kubectl.NewDefaultKubectlCommand().Find(args)
			if err == nil {
				err = command.ParseFlags(rest)
			}
			if err != nil || !command.Runnable() || command.Name() == "kubectl" {
				t.Errorf("%s: kubectl%s: %v", where, m[1], err)
			}
			checked++
		}
	}
	if checked < 40 {
		t.Errorf("only %d commands were found", checked)
	}
}
