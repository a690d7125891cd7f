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
		if len(got.Line) > 3*maxLine {
			t.Errorf("a line of %d bytes", len(got.Line))
		}
		if got.Class != "" && got.Line == "" {
			t.Errorf("class %s without a line", got.Class)
		}
	})
}
