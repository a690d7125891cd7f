package kubelog

import (
	"strings"
	"testing"
	"time"
)

func TestEveryPatternNamesItsExample(t *testing.T) {
	for _, p := range patterns {
		if p.source == "" {
			t.Errorf("%s has no source", p.class)
		}
		got := Classify([]byte("I1123 08:13:00.000000 1 server.go:1] \"start\"\n" + p.example + "\n"))
		if got.Class != p.class {
			t.Errorf("%s: its example is classified %q (line %q)", p.class, got.Class, got.Line)
		}
	}
}

func TestNoiseDecidesNothing(t *testing.T) {
	for _, n := range noise {
		if got := Classify([]byte(n.example)); got != (Result{}) {
			t.Errorf("noise of %s gives %+v", n.source, got)
		}
	}
}

func TestClassify(t *testing.T) {
	usage := strings.Repeat("      --some-flag string   What it does.\n", 400)
	for _, tc := range []struct {
		name, log string
		want      Result
	}{
		{"empty", "", Result{}},
		{"only information", "I1123 08:15:02.981805 86 config.go:309] \"Starting node config controller\"\n", Result{}},
		{"the last error decides",
			"E1123 08:15:02.1 86 reflector.go:227] \"Failed to watch\" err=\"failed to list *v1.Node: Unauthorized\"\nE1123 08:15:03.2 86 run.go:72] \"command failed\" err=\"failed validate: KubeProxyConfiguration.Mode: Invalid value\"\n",
			Result{Class: "crash_loop/config_invalid", Line: `"command failed" err="failed validate: KubeProxyConfiguration.Mode: Invalid value"`}},
		{"an error before a long usage text", "Error: unknown flag: --x\nUsage:\n" + usage, Result{Class: "crash_loop/bad_flag", Line: "Error: unknown flag: --x"}},
		{"an unknown error is quoted and not classified",
			"E1123 08:15:03.2 86 run.go:72] \"command failed\" err=\"something new\"\n", Result{Class: "", Line: `"command failed" err="something new"`}},
		{"noise after the error does not hide it",
			"E1123 08:15:03.2 86 server.go:137] \"Error running ProxyServer\" err=\"stat nope: no such file or directory\"\nE1123 08:15:03.3 86 server.go:256] \"Kube-proxy configuration may be incomplete or incorrect\" err=\"nodePortAddresses is unset; x\"\n",
			Result{Class: "crash_loop/kubeconfig", Line: `"Error running ProxyServer" err="stat nope: no such file or directory"`}},
		{"a goroutine dump without panic is none",
			"F0101 08:15:03.2 1 server.go:42] unable to create proxier\ngoroutine 1 [running]:\nmain.main()\n", Result{Class: "", Line: "unable to create proxier"}},
		{"the line of a block that decides",
			"E1123 08:18:54.2 6 proxier.go:1390] \"Failed to execute iptables-restore\" err=<\n\texit status 2: Warning\n\tip6tables-restore v1.8.9 (legacy): unknown option \"--xor-mark\"\n > ipFamily=\"IPv6\"\nI1123 08:18:54.3 6 proxier.go:660] \"Sync failed\"\n",
			Result{Class: "prerequisite_missing/kernel_bug", Line: `"Failed to execute iptables-restore" err=< ip6tables-restore v1.8.9 (legacy): unknown option "--xor-mark"`}},
		{"a start that never hears of the API server", "I1123 08:10:54.0 44 shared_informer.go:524] \"Waiting for caches to sync\"\n",
			Result{Class: ClassWaiting, Line: `"Waiting for caches to sync"`}},
		{"a start that did", "I1123 08:10:54.0 44 shared_informer.go:524] \"Waiting for caches to sync\"\nI1123 08:10:54.1 44 shared_informer.go:531] \"Caches are synced\"\n", Result{}},
		{"a weak word and a strong one", "W1122 11:26:14.7 1 server.go:604] Failed to retrieve node info: Unauthorized\nW1122 11:26:14.8 1 proxier.go:312] invalid nodeIP, initializing kube-proxy with 127.0.0.1 as nodeIP\n",
			Result{Class: "api_unreachable/unauthorized", Line: "Failed to retrieve node info: Unauthorized"}},
		{"only a weak word", "W1122 11:26:14.8 1 proxier.go:312] invalid nodeIP, initializing kube-proxy with 127.0.0.1 as nodeIP\n",
			Result{Class: "config_mismatch/node_ip", Line: "invalid nodeIP, initializing kube-proxy with 127.0.0.1 as nodeIP"}},
		{"a warning that is not an error", "W0101 08:18:53.8 6 x.go:1] Failed to execute iptables-restore: once\n", Result{}},
		{"CRI", "2026-11-23T08:15:03.2Z stderr F E1123 08:15:03.2 86 run.go:72] \"command failed\" err=\"failed validate: x\"\n", Result{Class: "crash_loop/config_invalid", Line: `"command failed" err="failed validate: x"`}},
		{"Docker", `{"log":"E1123 08:15:03.2 86 run.go:72] \"command failed\" err=\"failed validate: x\"\n","stream":"stderr"}`, Result{Class: "crash_loop/config_invalid", Line: `"command failed" err="failed validate: x"`}},
		{"journald", "May 30 14:38:57 w2 kube-proxy[21481]: invalid configuration: no server found for cluster \"k\"\nMay 30 14:38:57 w2 systemd[1]: kube-proxy.service: Main process exited, code=exited, status=1/FAILURE\n",
			Result{Class: "crash_loop/kubeconfig", Line: `invalid configuration: no server found for cluster "k"`}},
		{"kubectl --prefix --timestamps", "[pod/kube-proxy-x/kube-proxy] 2026-11-23T08:15:03.2Z Error: unknown flag: --x\n", Result{Class: "crash_loop/bad_flag", Line: "Error: unknown flag: --x"}},
		{"--logging-format=json", `{"ts":1.0,"caller":"app/run.go:72","msg":"command failed","err":"failed validate: x"}`, Result{Class: "crash_loop/config_invalid", Line: "command failed err=failed validate: x"}},
		{"a torn header", "server.go:475] invalid configuration: no configuration has been provided\n", Result{Class: "crash_loop/kubeconfig", Line: "invalid configuration: no configuration has been provided"}},
		{"a panic after information", "I0710 00:23:02.5 2500 x.go:230] Caches are synced\npanic: runtime error\n[signal SIGSEGV]\n", Result{Class: "crash_loop/panic", Line: "panic: runtime error"}},
		{"a stack after the panic", "panic: boom\n\ngoroutine 1 [running]:\nmain.main()\n\t/x.go:1 +0x1\n", Result{Class: "crash_loop/panic", Line: "panic: boom"}},
		{"not text", "\x00\xff\xfe\nE1123 08:15:03.2 86 run.go:72] \xff\xfe", Result{Class: "", Line: "?"}},
	} {
		got := Classify([]byte(tc.log))
		got.At, got.clock = time.Time{}, 0 // TestTimes
		if got != tc.want {
			t.Errorf("%s: got %+v, want %+v", tc.name, got, tc.want)
		}
	}
}

// What came after shows that an entry was over.
func TestAftermath(t *testing.T) {
	const (
		refused = "E1123 08:10:00.0 1 reflector.go:227] \"Failed to watch\" err=\"connect: connection refused\"\n"
		again   = "E1123 08:11:59.9 1 reflector.go:227] \"Failed to watch\" err=\"connect: connection refused\"\n"
		failed  = "E1123 08:10:00.0 1 proxier.go:1] \"Failed to execute iptables-restore\" err=\"exit status 4\"\n"
		quiet   = "I1123 08:11:59.9 1 x.go:1] \"x\"\n"
		later   = "I1123 08:12:00.0 1 x.go:1] \"x\"\n"
		synced  = "I1123 08:10:01.0 1 proxier.go:1] \"SyncProxyRules complete\" elapsed=\"1ms\"\n"
		lateOne = "I1123 08:12:00.0 1 proxier.go:1] \"SyncProxyRules complete\" elapsed=\"1ms\"\n"
		caches  = "I1123 08:10:02.0 1 shared_informer.go:1] \"Caches are synced\" controller=\"x\"\n"
		newYear = "I0101 00:00:01.0 1 x.go:1] \"x\"\n"
	)
	for name, tc := range map[string]struct{ log, want string }{
		"it is the last word":                   {refused, "api_unreachable/refused"},
		"little later another word":             {refused + quiet, "api_unreachable/refused"},
		"for long nobody said it again":         {refused + later, ""},
		"it was said again":                     {refused + again + later, "api_unreachable/refused"},
		"the caches were synced after":          {refused + caches, ""},
		"the caches were synced before":         {caches + refused, "api_unreachable/refused"},
		"a sync says nothing about the API":     {refused + synced, "api_unreachable/refused"},
		"a new year begins":                     {refused + newYear, "api_unreachable/refused"},
		"a sync failed":                         {failed, "rules_stale/sync_failing"},
		"a failed sync is complete too":         {failed + synced, "rules_stale/sync_failing"},
		"the next one did not fail":             {failed + synced + synced, ""},
		"one long after":                        {failed + lateOne, ""},
		"nothing was tried after":               {failed + later, "rules_stale/sync_failing"},
		"what ends a process is not taken back": {"E1123 08:10:00.0 1 run.go:72] \"command failed\" err=\"failed validate: x\"\n" + caches + later, "crash_loop/config_invalid"},
	} {
		if got := Classify([]byte(tc.log)); got.Class != tc.want {
			t.Errorf("%s: got %q, want %q", name, got.Class, tc.want)
		}
	}
}

func TestTimes(t *testing.T) {
	for line, want := range map[string]string{
		"2026-11-23T08:15:03.25Z E1123 08:15:03.2 86 run.go:72] \"command failed\" err=\"failed validate: x\"": "2026-11-23T08:15:03.25Z",
		"2026-11-23T08:15:03+02:00 stderr F Error: unknown flag: --x":                                          "2026-11-23T06:15:03Z",
		"2026-11-23T08:15:03Z {\"ts\":1.0,\"msg\":\"command failed\",\"err\":\"failed validate: x\"}":          "2026-11-23T08:15:03Z",
		"E1123 08:15:03.2 86 run.go:72] \"command failed\" err=\"failed validate: x\"":                         "0001-01-01T00:00:00Z",
		"2026-11-23 Error: unknown flag: --x":                                                                  "0001-01-01T00:00:00Z",
	} {
		if got := Classify([]byte(line)).At.UTC().Format(time.RFC3339Nano); got != want {
			t.Errorf("%s: %s, want %s", line, got, want)
		}
	}
	now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	for line, want := range map[string]string{
		"2024-11-23T08:15:03Z E0101 08:15:03.2 86 run.go:72] \"command failed\" err=\"failed validate: x\"": "2024-11-23T08:15:03Z",
		"E0101 08:15:03.2 86 run.go:72] \"command failed\" err=\"failed validate: x\"":                      "2026-01-01T08:15:03Z",
		"E1231 08:15:03.2 86 run.go:72] \"command failed\" err=\"failed validate: x\"":                      "2025-12-31T08:15:03Z",
		"E0301 00:00:00.0 86 run.go:72] \"command failed\" err=\"failed validate: x\"":                      "2025-03-01T00:00:00Z",
		"Error: unknown flag: --x": "0001-01-01T00:00:00Z",
	} {
		if got := Classify([]byte(line)).Time(now).Format(time.RFC3339Nano); got != want {
			t.Errorf("%s: in the year before %s it is %s, want %s", line, now, got, want)
		}
	}
	for _, bad := range []string{"1323 08:15:03", "1131 08:15:03", "1123 25:15:03", ""} {
		if got := clock(bad); got != 0 {
			t.Errorf("%q is %s", bad, got)
		}
	}
}

func FuzzClassify(f *testing.F) {
	for _, p := range append(patterns, noise...) {
		f.Add([]byte(p.example))
	}
	f.Add([]byte("\n\n\nE"))
	f.Fuzz(func(t *testing.T, log []byte) {
		got := Classify(log)
		if len(got.Line) > 2*maxLine*maxEntries {
			t.Errorf("a line of %d bytes", len(got.Line))
		}
		if got.Class != "" && got.Line == "" {
			t.Errorf("class %s without a line", got.Class)
		}
	})
}
