package collector

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kproxy-exporter/kproxy-exporter/prober"
)

// referred are the families of docs/metrics.md, in its order, and who has them.
var referred = []struct {
	title    string
	role     string
	families []*family
	counts   prometheus.Collector
}{
	{"Causes", "both roles", []*family{&primaryCause, &causeActive, &causeInfo, &causeStart, &healthyFamily, &expectedFamily}, nil},
	{"Probes", "node role, and the prober in the pods' network", []*family{&probeVerdict, &backendsSeen, &backendsExpected}, prober.NewServiceMetrics("", "")},
	{"Canary", "node role; the moves: cluster role", []*family{&canaryBehind, &canaryMoves}, newCanary(&NodeConfig{}, nil).latency},
	{"Rule audit", "node role", []*family{&auditServices, &auditDrift, &auditOldest, &auditTook, &auditLast, &auditGen}, nil},
	{"kube-proxy on the node", "node role", []*family{&endpointUp, &syncQueued, &syncDone, &logErrors}, nil},
	{"API servers from the node", "node role", []*family{&apiUp, &apiDuration, &apiExpiry}, nil},
	{"The exporter itself", "both roles, the node role with a label `node` beside these", []*family{&readerSuccess, &readerLastSuccess, &readerDuration}, nil},
	{"What the cluster role keeps", "cluster role", []*family{&cacheSynced}, nil},
	{"/probe", "node role, of one attempt", []*family{&onceSuccess, &onceDuration, &oncePath, &oncePhase}, nil},
}

// TestMetricsReference wants that docs/metrics.md has every metric, as it is described.
func TestMetricsReference(t *testing.T) {
	var out strings.Builder
	out.WriteString("# Metrics\n\nGenerated from the exporter's own descriptions. What is unknown has no sample. Beside these there are `kproxy_build_info` and the metrics of\nprocess, Go and HTTP handler of the Prometheus client library.\n")
	var names []string
	row := func(name string, labels []string, help string) {
		names = append(names, name)
		kind := "gauge"
		switch {
		case strings.HasSuffix(name, "_total"):
			kind = "counter"
		case histograms[name]:
			kind = "histogram"
		}
		fmt.Fprintf(&out, "| `%s` | %s | %s | %s |\n", name, kind, strings.Join(labels, ", "), strings.ReplaceAll(help, "|", "\\|"))
	}
	for _, part := range referred {
		fmt.Fprintf(&out, "\n## %s\n\nExported by: %s.\n\n| metric | type | labels | |\n|---|---|---|---|\n", part.title, part.role)
		for _, f := range part.families {
			row(f.name, f.labels, f.help)
		}
		if part.counts != nil {
			for _, d := range described(t, part.counts) {
				row(d.name, d.labels, d.help)
			}
		}
	}
	if inSource := declared(t); !slices.Equal(slices.Sorted(slices.Values(names)), inSource) {
		t.Errorf("the reference has %q,\nthe source %q", slices.Sorted(slices.Values(names)), inSource)
	}
	const path = "../docs/metrics.md"
	if *update {
		if err := os.WriteFile(path, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != out.String() {
		t.Errorf("docs/metrics.md is not what the exporter describes (%v): go test ./collector -run Reference -update", err)
	}
}

var histograms = map[string]bool{"kproxy_canary_latency_seconds": true, "kproxy_probe_duration_seconds": true, "kproxy_probe_delay_seconds": true}

type description struct {
	name, help string
	labels     []string
}

var descText = regexp.MustCompile(`^Desc\{fqName: "([^"]*)", help: ("(?:[^"\\]|\\.)*"), unit: "[^"]*", constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}$`)

// described are the metrics of one of the client library's collectors.
func described(t *testing.T, c prometheus.Collector) (out []description) {
	t.Helper()
	all := make(chan *prometheus.Desc, 100)
	c.Describe(all)
	close(all)
	for d := range all {
		m := descText.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("%s", d)
		}
		help, err := strconv.Unquote(m[2])
		if err != nil {
			t.Fatal(err)
		}
		var labels []string
		for _, l := range strings.Split(m[3], ",") {
			name, _, _ := strings.Cut(l, "=")
			labels = append(labels, name)
		}
		if m[4] != "" {
			labels = append(labels, strings.Split(m[4], ",")...)
		}
		slices.Sort(labels)
		out = append(out, description{m[1], help, labels})
	}
	return out
}

// declared are the names of all metrics that the source of this package and of the
// prober declares.
func declared(t *testing.T) (names []string) {
	t.Helper()
	for _, dir := range []string{".", "../prober"} {
		files, err := fs.Glob(os.DirFS(dir), "*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), dir+"/"+name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				l, ok := n.(*ast.BasicLit)
				if !ok || l.Kind != token.STRING {
					return true
				}
				text, err := strconv.Unquote(l.Value)
				if err == nil && regexp.MustCompile(`^(kproxy|probe)_[a-z_]+$`).MatchString(text) && text != "probe_failing" && text != "probe_targets" { // a detail and a reader
					names = append(names, text)
				}
				return true
			})
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
