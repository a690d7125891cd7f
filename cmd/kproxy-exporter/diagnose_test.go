package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unicode"

	"k8s.io/client-go/tools/clientcmd"

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
	const hostile = "a\x1b[2Jb\x07\tc\nd\u009b\u202ee\u2028f\u200b\U000e0001g\xff"
	if got, want := printable(hostile, questionMark), "a?[2Jb??c\nd??e?f??g?"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	const plain = "Ünïcode 节点 \u2014 100 %\n"
	if got := printable(plain, questionMark); got != plain {
		t.Errorf("got %q, want %q", got, plain)
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(printer{&out, jsonEscape})
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(hostile); err != nil {
		t.Fatal(err)
	}
	var back string
	if err := json.Unmarshal(out.Bytes(), &back); err != nil || back != strings.ToValidUTF8(hostile, "\ufffd") {
		t.Errorf("JSON loses text: %q, %v", back, err)
	}
	if i := strings.IndexFunc(out.String(), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); i >= 0 {
		t.Errorf("JSON has what a terminal obeys: %q", out.String())
	}
}

// TestHostileDump diagnoses a dump that a stranger sent: it ends, and reads nothing
// beside the dump.
func TestHostileDump(t *testing.T) {
	dir := t.TempDir()
	system := filepath.Join(dir, "kube-system")
	secret := filepath.Join(t.TempDir(), "nodes.json")
	write(t, filepath.Dir(secret), map[string][]byte{"nodes.json": []byte(`{"items":[{"metadata":{"name":"secret"}}]}`)})
	for _, err := range []error{
		os.Mkdir(system, 0o700), syscall.Mkfifo(filepath.Join(system, "pods.json"), 0o600), os.Symlink("/dev/zero", filepath.Join(system, "events.json")),
		os.Symlink(secret, filepath.Join(dir, "nodes.json")), os.Mkdir(filepath.Join(system, "configmaps.json"), 0o700),
		os.Mkdir(filepath.Join(system, "kube-proxy-x"), 0o700), syscall.Mkfifo(filepath.Join(system, "kube-proxy-x", "logs.txt"), 0o600),
		os.WriteFile(filepath.Join(system, "daemonsets.json"), []byte("{\"\x1b[2J\u202e\": "), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, output := range []string{"table", "json"} {
		cfg := testConfig("", "")
		cfg.diagnose.dump, cfg.diagnose.output = dir, output
		var out, errOut bytes.Buffer
		if code := diagnose(t.Context(), cfg, newLogs(io.Discard, "error", "logfmt"), &out, &errOut); code != exitUnknown {
			t.Errorf("%s: it exits with %d", output, code)
		}
		for _, want := range []string{"pods.json: open kube-system/pods.json: not a regular file", "nodes.json: ", "events.json: ", "daemonsets.json: ", "configmaps.json: "} {
			if !strings.Contains(errOut.String(), "not read: ") || !strings.Contains(errOut.String(), want) {
				t.Errorf("%s: it does not report %q:\n%s", output, want, &errOut)
			}
		}
		both := out.String() + errOut.String()
		if strings.Contains(both, "secret") || strings.ContainsAny(both, "\x1b\u202e") {
			t.Errorf("%s: it shows %q", output, both)
		}
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := testConfig("", "")
	cfg.diagnose.dump = pipe
	if _, err := readDump(t.Context(), cfg, io.Discard); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("a pipe for a directory: %v", err)
	}
	lines := t.TempDir()
	write(t, lines, map[string][]byte{"nodes.json": []byte(`{"items":[{"metadata":{"name":"n1\nNo cause found: all"}}]}`)})
	cfg.diagnose.dump = lines
	var both bytes.Buffer
	diagnose(t.Context(), cfg, newLogs(io.Discard, "error", "logfmt"), &both, &both)
	if strings.Contains(both.String(), "\nNo cause found: all") || !strings.Contains(both.String(), "n1?No cause found: all") {
		t.Errorf("a node's name forges a line:\n%s", &both)
	}
	cfg.diagnose.dump = dir
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var errOut bytes.Buffer
	if code := diagnose(ctx, cfg, newLogs(io.Discard, "error", "logfmt"), io.Discard, &errOut); code != exitUnknown || !strings.Contains(errOut.String(), "interrupted") {
		t.Errorf("interrupted: it exits with %d: %s", code, &errOut)
	}
}

// TestAPIAccess finds the cluster as kubectl does.
func TestAPIAccess(t *testing.T) {
	home, other := t.TempDir(), t.TempDir()
	of := clientcmd.RecommendedHomeFile // of this process's HOME as it began
	defer func() { clientcmd.RecommendedHomeFile = of }()
	clientcmd.RecommendedHomeFile = filepath.Join(home, ".kube", "config")
	t.Setenv("KUBECONFIG", "")
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	file := func(server string) []byte {
		return []byte("apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: '" + server + "'}}, {name: d, cluster: {server: '" + server + "/second'}}]\n" +
			"contexts: [{name: c, context: {cluster: c}}, {name: d, context: {cluster: d}}]\ncurrent-context: c\n")
	}
	if _, err := apiAccess(config{}); err == nil || !strings.Contains(err.Error(), "no cluster to watch") {
		t.Errorf("nothing is given: %v", err)
	}
	if err := os.Mkdir(filepath.Join(home, ".kube"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(home, ".kube"), map[string][]byte{"config": file("https://home")})
	write(t, other, map[string][]byte{"a": file("https://environment"), "b": file("https://flag")})
	for _, tc := range []struct {
		environment string
		given       config
		want        string
	}{
		{"", config{}, "https://home"},
		{"", config{context: "d"}, "https://home/second"},
		{filepath.Join(other, "gone") + ":" + filepath.Join(other, "a"), config{}, "https://environment"},
		{filepath.Join(other, "a"), config{kubeconfig: filepath.Join(other, "b")}, "https://flag"},
		{"", config{context: "x"}, `context "x" does not exist`},
		{"", config{kubeconfig: filepath.Join(other, "gone")}, "no such file"},
	} {
		t.Setenv("KUBECONFIG", tc.environment)
		got, err := apiAccess(tc.given)
		if err != nil && !strings.Contains(err.Error(), tc.want) || err == nil && got.Host != tc.want {
			t.Errorf("KUBECONFIG=%s %+v: %v, %v; want %s", tc.environment, tc.given, got, err, tc.want)
		}
	}
}
