package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kproxy-exporter/kproxy-exporter/collector"
)

// dump writes a dump of one node whose pod has the status and log.
func dump(t *testing.T, status, log string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"nodes.json":                  `{"items":[{"metadata":{"name":"n1"},"status":{"conditions":[{"type":"Ready","status":"True"},{"type":"MemoryPressure","status":"False"}]}}]}`,
		"kube-system/daemonsets.json": `{"items":[{"metadata":{"name":"kube-proxy","namespace":"kube-system"},"spec":{"template":{"metadata":{"labels":{"k8s-app":"kube-proxy"}}}}}]}`,
		"kube-system/configmaps.json": `{"items":[]}`, "kube-system/events.json": `{"items":[]}`, "kube-system/services.json": `{"items":[]}`,
		"kube-system/pods.json": `{"items":[{"metadata":{"name":"kube-proxy-x","namespace":"kube-system","labels":{"k8s-app":"kube-proxy"}},
			"spec":{"nodeName":"n1","containers":[{"name":"kube-proxy"}]},"status":` + status + `}]}`,
		"kube-system/kube-proxy-x/logs.txt": log,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const (
	well    = `{"phase":"Running","conditions":[{"type":"Ready","status":"True"}],"containerStatuses":[{"name":"kube-proxy","state":{"running":{}}}]}`
	looping = `{"phase":"Running","conditions":[{"type":"Ready","status":"False"}],"containerStatuses":[{"name":"kube-proxy","restartCount":4,"state":{"waiting":{"reason":"CrashLoopBackOff"}}}]}`
	refused = "E1101 02:59:00.000000 1 run.go:72] \"command failed\" err=\"failed validate: KubeProxyConfiguration.Mode: Invalid value: <b>\"\n"
)

func TestDiagnoseDump(t *testing.T) {
	for _, tc := range []struct {
		name, dir, node, output string
		code                    int
		out, errOut             []string // what they hold
	}{
		{"nothing wrong", dump(t, well, ""), "", "table", exitHealthy, []string{"0 of 1 nodes", "No cause found: n1"}, nil},
		{"a cause", dump(t, looping, refused), "", "table", exitCause,
			[]string{"1 of 1 nodes", "n1: crash_loop / config_invalid", "failed validate", "What to do: "}, nil},
		{"a cause, in JSON", dump(t, looping, refused), "", "json", exitCause, []string{`"cause": "crash_loop"`, `Invalid value: <b>`}, nil},
		{"one node of it", dump(t, looping, refused), "n1", "json", exitCause, []string{`"node": "n1"`}, nil},
		{"a node that is not there", dump(t, looping, refused), "n9", "table", exitUnknown, nil, []string{`no node "n9"`, "there are: n1"}},
		{"nobody says", dump(t, `{"phase":"Pending"}`, ""), "", "table", exitUnknown, []string{"0 of 1 nodes", "Not well, no cause known: n1"}, []string{"could not tell", "n1"}},
		{"an empty directory", t.TempDir(), "", "table", exitUnknown, []string{"0 of 0 nodes"}, []string{"not read: nodes.json", "no node is known"}},
		{"no directory", "/does/not/exist", "", "table", exitUnknown, nil, []string{"/does/not/exist"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := testConfig("", "")
			cfg.diagnose = diagnoseConfig{node: tc.node, dump: tc.dir, output: tc.output}
			var out, errOut bytes.Buffer
			if code := diagnose(t.Context(), cfg, newLogs(io.Discard, "error", "logfmt"), &out, &errOut); code != tc.code {
				t.Errorf("code %d, want %d\n%s%s", code, tc.code, &out, &errOut)
			}
			for _, want := range tc.out {
				if !strings.Contains(out.String(), want) {
					t.Errorf("no %q in\n%s", want, &out)
				}
			}
			for _, want := range tc.errOut {
				if !strings.Contains(errOut.String(), want) {
					t.Errorf("no %q in\n%s", want, &errOut)
				}
			}
			if tc.output == "json" {
				var r collector.Report
				if err := json.Unmarshal(out.Bytes(), &r); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestDiagnoseLive(t *testing.T) {
	cfg := testConfig(kubeconfig(t, fakeAPI(t).URL), "")
	cfg.diagnose.output = "table"
	var out, errOut bytes.Buffer
	if code := diagnose(t.Context(), cfg, newLogs(io.Discard, "error", "logfmt"), &out, &errOut); code != exitHealthy || !strings.Contains(out.String(), "No cause found: n1") {
		t.Errorf("code %d\n%s%s", code, &out, &errOut)
	}
}

// A node that is not well must not look as if it were.
func TestPageOfAnUnwellNode(t *testing.T) {
	yes, no := true, false
	var page bytes.Buffer
	if err := causesTemplate.Execute(&page, collector.Report{Nodes: []collector.NodeReport{
		{Node: "good", Expected: &yes, Healthy: &yes}, {Node: "unwell", Expected: &yes, Healthy: &no}, {Node: "dark"},
		{Node: "away", Expected: &no, Reason: "cilium"},
		{Node: "sick", Primary: &collector.CauseReport{Cause: "crash_loop", Detail: "other"}, Causes: []collector.CauseReport{{Cause: "crash_loop", Detail: "other", Evidence: []string{"<script>"}}}},
	}}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"healthy">`, "good: no cause active", `"unwell">`, "unwell: not well", `"unknown">`, "dark: unknown", `"absent">`, "not expected here (cilium)",
		`"sick">`, "sick: crash_loop / other", "&lt;script&gt;",
	} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the page does not say %q:\n%s", want, &page)
		}
	}
}

// What a cluster says is shown, not obeyed.
func TestPrintable(t *testing.T) {
	if got := printable("a\x1b[2Jb\x07\tc\nd\u009b"); got != "a?[2Jb??c\nd?" {
		t.Errorf("got %q", got)
	}
}
