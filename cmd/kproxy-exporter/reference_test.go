package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/alecthomas/kingpin/v2"
)

var update = flag.Bool("update", false, "write docs/configuration.md")

// TestConfigurationReference wants that docs/configuration.md has every flag, as --help
// says it.
func TestConfigurationReference(t *testing.T) {
	var cfg config
	app, _ := newApp(&cfg)
	m := app.Model()
	var out strings.Builder
	out.WriteString("# Configuration\n\nGenerated from what `kproxy-exporter --help` says. There is no configuration file but the web configuration of the\n[exporter-toolkit](https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md) (TLS, client certificates, users).\n")
	write := func(title, what string, flags []*kingpin.FlagModel) {
		fmt.Fprintf(&out, "\n## %s\n\n%s\n\n| flag | default | |\n|---|---|---|\n", title, what)
		for _, f := range flags {
			if f.Hidden || strings.HasPrefix(f.Name, "help") || f.Name == "version" || strings.HasPrefix(f.Name, "completion") {
				continue
			}
			value := strings.Join(f.Default, " ")
			if value != "" {
				value = "`" + value + "`"
			}
			help := strings.ReplaceAll(f.Help, "|", "\\|")
			if f.Envar != "" {
				help += " (`$" + f.Envar + "`)"
			}
			fmt.Fprintf(&out, "| `--%s` | %s | %s |\n", f.Name, value, help)
		}
	}
	write("All commands", m.Help, m.Flags)
	for _, c := range m.Commands {
		if c.Name != "help" {
			write(c.Name, c.Help, c.Flags)
		}
	}
	const path = "../../docs/configuration.md"
	if *update {
		if err := os.WriteFile(path, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != out.String() {
		t.Errorf("docs/configuration.md is not what the flags say (%v): go test ./cmd/kproxy-exporter -run Reference -update", err)
	}
}
