package kubelog

import (
	"strings"
	"testing"
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
			Result{"crash_loop/config_invalid", `"command failed" err="failed validate: KubeProxyConfiguration.Mode: Invalid value"`}},
		{"an error before a long usage text", "Error: unknown flag: --x\nUsage:\n" + usage, Result{"crash_loop/bad_flag", "Error: unknown flag: --x"}},
		{"an unknown error is quoted and not classified",
			"E1123 08:15:03.2 86 run.go:72] \"command failed\" err=\"something new\"\n", Result{"", `"command failed" err="something new"`}},
		{"noise after the error does not hide it",
			"E1123 08:15:03.2 86 server.go:137] \"Error running ProxyServer\" err=\"stat nope: no such file or directory\"\nE1123 08:15:03.3 86 server.go:256] \"Kube-proxy configuration may be incomplete or incorrect\" err=\"nodePortAddresses is unset; x\"\n",
			Result{"crash_loop/kubeconfig", `"Error running ProxyServer" err="stat nope: no such file or directory"`}},
		{"a goroutine dump without panic is none",
			"F0101 08:15:03.2 1 server.go:42] unable to create proxier\ngoroutine 1 [running]:\nmain.main()\n", Result{"", "unable to create proxier"}},
		{"the line of a block that decides",
			"E1123 08:18:54.2 6 proxier.go:1390] \"Failed to execute iptables-restore\" err=<\n\texit status 2: Warning\n\tip6tables-restore v1.8.9 (legacy): unknown option \"--xor-mark\"\n > ipFamily=\"IPv6\"\nI1123 08:18:54.3 6 proxier.go:660] \"Sync failed\"\n",
			Result{"prerequisite_missing/kernel_bug", `"Failed to execute iptables-restore" err=< ip6tables-restore v1.8.9 (legacy): unknown option "--xor-mark"`}},
		{"a start that never hears of the API server", "I1123 08:10:54.0 44 shared_informer.go:524] \"Waiting for caches to sync\"\n",
			Result{ClassWaiting, `"Waiting for caches to sync"`}},
		{"a start that did", "I1123 08:10:54.0 44 shared_informer.go:524] \"Waiting for caches to sync\"\nI1123 08:10:54.1 44 shared_informer.go:531] \"Caches are synced\"\n", Result{}},
		{"a weak word and a strong one", "W1122 11:26:14.7 1 server.go:604] Failed to retrieve node info: Unauthorized\nW1122 11:26:14.8 1 proxier.go:312] invalid nodeIP, initializing kube-proxy with 127.0.0.1 as nodeIP\n",
			Result{"api_unreachable/unauthorized", "Failed to retrieve node info: Unauthorized"}},
		{"only a weak word", "W1122 11:26:14.8 1 proxier.go:312] invalid nodeIP, initializing kube-proxy with 127.0.0.1 as nodeIP\n",
			Result{"config_mismatch/node_ip", "invalid nodeIP, initializing kube-proxy with 127.0.0.1 as nodeIP"}},
		{"a warning that is not an error", "W0101 08:18:53.8 6 x.go:1] Failed to execute iptables-restore: once\n", Result{}},
		{"CRI", "2026-11-23T08:15:03.2Z stderr F E1123 08:15:03.2 86 run.go:72] \"command failed\" err=\"failed validate: x\"\n", Result{"crash_loop/config_invalid", `"command failed" err="failed validate: x"`}},
		{"Docker", `{"log":"E1123 08:15:03.2 86 run.go:72] \"command failed\" err=\"failed validate: x\"\n","stream":"stderr"}`, Result{"crash_loop/config_invalid", `"command failed" err="failed validate: x"`}},
		{"journald", "May 30 14:38:57 w2 kube-proxy[21481]: invalid configuration: no server found for cluster \"k\"\nMay 30 14:38:57 w2 systemd[1]: kube-proxy.service: Main process exited, code=exited, status=1/FAILURE\n",
			Result{"crash_loop/kubeconfig", `invalid configuration: no server found for cluster "k"`}},
		{"kubectl --prefix --timestamps", "[pod/kube-proxy-x/kube-proxy] 2026-11-23T08:15:03.2Z Error: unknown flag: --x\n", Result{"crash_loop/bad_flag", "Error: unknown flag: --x"}},
		{"--logging-format=json", `{"ts":1.0,"caller":"app/run.go:72","msg":"command failed","err":"failed validate: x"}`, Result{"crash_loop/config_invalid", "command failed err=failed validate: x"}},
		{"a torn header", "server.go:475] invalid configuration: no configuration has been provided\n", Result{"crash_loop/kubeconfig", "invalid configuration: no configuration has been provided"}},
		{"a panic after information", "I0710 00:23:02.5 2500 x.go:230] Caches are synced\npanic: runtime error\n[signal SIGSEGV]\n", Result{"crash_loop/panic", "panic: runtime error"}},
		{"a stack after the panic", "panic: boom\n\ngoroutine 1 [running]:\nmain.main()\n\t/x.go:1 +0x1\n", Result{"crash_loop/panic", "panic: boom"}},
		{"not text", "\x00\xff\xfe\nE1123 08:15:03.2 86 run.go:72] \xff\xfe", Result{"", "?"}},
	} {
		if got := Classify([]byte(tc.log)); got != tc.want {
			t.Errorf("%s: got %+v, want %+v", tc.name, got, tc.want)
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
