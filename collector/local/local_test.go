package local

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/prober"
)

func write(t testing.TB, root string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func link(t testing.TB, target, name string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, name); err != nil {
		t.Fatal(err)
	}
}

// stat is /proc/PID/stat with what is read of it.
func stat(pid int, comm, state string, started int) string {
	return fmt.Sprintf("%d (%s) %s 1 %d %d 0 -1 4194560 2447 0 0 0 6 3 0 0 20 0 9 0 %d 1518698496 27000 18446744073709551615 1 1 0 0 0 0 0 0 2143420159 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n",
		pid, comm, state, pid, pid, started)
}

const bootTime = 1_700_000_000

// proc is a /proc with a kube-proxy that began 100 s after the boot.
func proc(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	write(t, root, map[string]string{
		"stat":        fmt.Sprintf("cpu  1 2 3 4 5 6 7 8 9 10\nbtime %d\n", bootTime),
		"1/comm":      "systemd\n",
		"1/stat":      stat(1, "systemd", "S", 1),
		"1/cmdline":   "/sbin/init\x00",
		"137/comm":    "kube-proxy\n",
		"137/stat":    stat(137, "kube-proxy", "S", 10000),
		"137/cmdline": "/usr/local/bin/kube-proxy\x00--config=/var/lib/kube-proxy/config.conf\x00--hostname-override\x00n1\x00",
		"137/root/var/lib/kube-proxy/..data/config.conf":           "clientConnection:\n  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf\n",
		"137/root/var/lib/kube-proxy/kubeconfig.conf":              kubeconfig,
		"137/root/run/secrets/kubernetes.io/serviceaccount/token":  "secret-token\n",
		"137/root/run/secrets/kubernetes.io/serviceaccount/ca.crt": authority(t),
		"sys/net/netfilter/nf_conntrack_count":                     "90\n",
		"sys/net/netfilter/nf_conntrack_max":                       "100\n",
		"net/stat/nf_conntrack": "entries  searched found new invalid ignore delete delete_list insert insert_failed drop early_drop icmp_error  expect_new expect_create expect_delete search_restart\n" +
			"0000005a  00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000009 00000003 00000000 00000000  00000000 00000000 00000000 00000000\n" +
			"0000005a  00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000004 00000000 00000000  00000000 00000000 00000000 00000000\n",
	})
	link(t, "..data/config.conf", filepath.Join(root, "137/root/var/lib/kube-proxy/config.conf"))
	// As in many images: absolute, inside the process' own root.
	link(t, "/run", filepath.Join(root, "137/root/var/run"))
	return root
}

const kubeconfig = `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://api.example:6443", certificate-authority: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
users: [{name: u, user: {tokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token}}]
`

// TestStopped is of what a process is now, not when it was found.
func TestStopped(t *testing.T) {
	root := proc(t)
	p, err := FindKubeProxy(root)
	if err != nil || p == nil {
		t.Fatal(p, err)
	}
	for _, tc := range []struct {
		what, stat string
		want       bool
	}{
		{"it runs", stat(137, "kube-proxy", "S", 10000), false}, {"it was stopped", stat(137, "kube-proxy", "T", 10000), true},
		{"it goes on", stat(137, "kube-proxy", "R", 10000), false}, {"another has its number", stat(137, "kube-proxy", "T", 10100), false},
		{"nonsense", "137 (", false},
	} {
		write(t, root, map[string]string{"137/stat": tc.stat})
		if got := p.Stopped(); got != tc.want {
			t.Errorf("%s: %t, want %t", tc.what, got, tc.want)
		}
	}
	if err := os.RemoveAll(filepath.Join(root, "137")); err != nil {
		t.Fatal(err)
	}
	if p.Stopped() {
		t.Error("it has ended and is stopped")
	}
}

func TestFindKubeProxy(t *testing.T) {
	root := proc(t)
	p, err := FindKubeProxy(root)
	if err != nil || p == nil {
		t.Fatal(p, err)
	}
	if p.PID != 137 || p.State != "S" || !p.Started.Equal(time.Unix(bootTime+100, 0)) {
		t.Errorf("got %+v", p)
	}
	if p.Flag("config") != "/var/lib/kube-proxy/config.conf" || p.Flag("hostname-override") != "n1" || p.Flag("kubeconfig") != "" || p.Flag("conf") != "" {
		t.Errorf("flags of %q", p.Args)
	}
	// A child of it that is about to become iptables, a zombie, one that is going,
	// and a kube-proxy of another network namespace.
	write(t, root, map[string]string{
		"138/comm": "kube-proxy\n", "138/stat": stat(138, "kube-proxy", "R", 10001), "138/cmdline": "/usr/local/bin/kube-proxy\x00",
		"100/comm": "kube-proxy\n", "100/stat": stat(100, "kube-proxy", "Z", 500), "100/cmdline": "",
		"101/comm": "kube-proxy\n",
		"102/comm": "kube-proxy\n", "102/stat": stat(102, "kube-proxy", "S", 600), "102/cmdline": "/usr/local/bin/kube-proxy\x00",
	})
	link(t, "net:[1]", filepath.Join(root, "self/ns/net"))
	link(t, "net:[1]", filepath.Join(root, "137/ns/net"))
	link(t, "net:[2]", filepath.Join(root, "102/ns/net"))
	if p, err := FindKubeProxy(root); err != nil || p == nil || p.PID != 137 {
		t.Errorf("got %+v %v", p, err)
	}
	if err := os.RemoveAll(filepath.Join(root, "137")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(root, "138")); err != nil {
		t.Fatal(err)
	}
	if p, err := FindKubeProxy(root); !errors.Is(err, ErrOtherNetwork) || p != nil {
		t.Errorf("got %+v %v", p, err)
	}
	if err := os.RemoveAll(filepath.Join(root, "102")); err != nil {
		t.Fatal(err)
	}
	if p, err := FindKubeProxy(root); err != nil || p != nil {
		t.Errorf("got %+v %v", p, err)
	}
	for _, bad := range []string{filepath.Join(root, "none"), t.TempDir()} {
		if p, err := FindKubeProxy(bad); err == nil || p != nil {
			t.Errorf("%s: %+v", bad, p)
		}
	}
}

func TestReadFileOfProcess(t *testing.T) {
	root := proc(t)
	p, err := FindKubeProxy(root)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := p.ReadFile(tokenFile); err != nil || string(b) != "secret-token\n" {
		t.Errorf("through a link of the image: %q %v", b, err)
	}
	outside := filepath.Join(t.TempDir(), "outside")
	write(t, filepath.Dir(outside), map[string]string{"outside": "ours"})
	link(t, outside, filepath.Join(root, "137/root/escape"))
	link(t, "../../../../../../../../../"+outside, filepath.Join(root, "137/root/climb"))
	write(t, root, map[string]string{"137/root/huge": strings.Repeat("x", fileBytes+1)})
	for _, name := range []string{"/escape", "/climb", "/none", "relative", "/var", "/huge", ""} {
		if b, err := p.ReadFile(name); err == nil {
			t.Errorf("%q gives %q", name, b[:min(len(b), 20)])
		}
	}
	if at, err := p.ModTime("/var/lib/kube-proxy/config.conf"); err != nil || time.Since(at) > time.Hour {
		t.Errorf("%v %v", at, err)
	}
}

func TestAPITargetOf(t *testing.T) {
	root := proc(t)
	p, err := FindKubeProxy(root)
	if err != nil {
		t.Fatal(err)
	}
	target := func(node string) (prober.APITarget, error) {
		text, err := Kubeconfig(p)
		if err != nil {
			return prober.APITarget{}, err
		}
		return APITargetOf(p, text, node)
	}
	if _, err := target("n1"); err == nil || !strings.Contains(err.Error(), "changed after") {
		t.Errorf("files that are newer than the process: %v", err)
	}
	p.Started = time.Now()
	got, err := target("n/1")
	if err != nil {
		t.Fatal(err)
	}
	if got.Host != "api.example" || got.Port != "6443" || got.Token != "secret-token" || got.Roots == nil || got.Path != "/api/v1/nodes/n%2F1?resourceVersion=0" {
		t.Errorf("got %+v", got)
	}
	if Address(got) != "api.example:6443" {
		t.Error(Address(got))
	}
	const dir = "137/root/var/lib/kube-proxy/"
	for _, tc := range []struct {
		name, kubeconfig, want string
	}{
		{"a default port", strings.Replace(kubeconfig, ":6443", "", 1), ""},
		{"not there", "", "no such file"},
		{"no YAML", "{", "kubeconfig"},
		{"another context", strings.Replace(kubeconfig, "current-context: x", "current-context: z", 1), `no context "z"`},
		{"no such cluster", strings.Replace(kubeconfig, "cluster: c, user", "cluster: d, user", 1), "not there"},
		{"no TLS", strings.Replace(kubeconfig, "https:", "http:", 1), "no https URL"},
		{"no CA", strings.Replace(kubeconfig, "ca.crt", "token", 1), "holds no certificate"},
		{"no token", strings.Replace(kubeconfig, "account/token", "account/none", 1), "no such file"},
		{"a secret in the server", strings.Replace(kubeconfig, "https://", "http://u:secret-token@", 1), "no https URL"},
		{"a secret in what is no URL", strings.Replace(kubeconfig, "https://", "https://u:secret-token@[", 1), "no URL"},
		{"another way: unverified", strings.Replace(kubeconfig, "certificate-authority: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt", "insecure-skip-tls-verify: true", 1), "not followed here"},
		{"another way: a program", strings.Replace(kubeconfig, "tokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token", "exec: {command: x}", 1), "not followed here"},
		{"another way: the system's authorities", strings.Replace(kubeconfig, ", certificate-authority: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt", "", 1), "not followed here"},
		{"half a certificate", strings.Replace(kubeconfig, "tokenFile:", "client-certificate:", 1), "tls"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.kubeconfig == "" {
				if err := os.Remove(filepath.Join(root, dir+"kubeconfig.conf")); err != nil {
					t.Fatal(err)
				}
			} else {
				write(t, root, map[string]string{dir + "kubeconfig.conf": tc.kubeconfig})
			}
			got, err := target("n1")
			if tc.want == "" && (err != nil || got.Port != "443") || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret-token") {
				t.Errorf("the error tells the token: %v", err)
			}
		})
	}
	write(t, root, map[string]string{dir + "..data/config.conf": "clientConnection: {}\n"})
	if _, err := target("n1"); !errors.Is(err, errNoKubeconfig) {
		t.Errorf("got %v", err)
	}
	p.Args = []string{"kube-proxy", "--kubeconfig", "/var/lib/kube-proxy/kubeconfig.conf"}
	write(t, root, map[string]string{dir + "kubeconfig.conf": kubeconfig})
	if got, err := target("n1"); err != nil || got.Host != "api.example" {
		t.Errorf("by flag: %+v %v", got, err)
	}
	write(t, root, map[string]string{dir + "kubeconfig.conf": strings.Replace(kubeconfig, ":6443", ":6443/k8s/c1/", 1)})
	if got, err := target("n1"); err != nil || got.Path != "/k8s/c1/api/v1/nodes/n1?resourceVersion=0" {
		t.Errorf("behind a path: %+v %v", got, err)
	}
	p.Args = append(p.Args, "--master=https://other.example")
	if got, err := target("n1"); err != nil || got.Host != "other.example" || got.Port != "443" || got.Path != "/api/v1/nodes/n1?resourceVersion=0" {
		t.Errorf("another server by flag: %+v %v", got, err)
	}
}

func TestReadConntrack(t *testing.T) {
	root := proc(t)
	if c, err := ReadConntrack(root); err != nil || c != (Conntrack{Entries: 90, Max: 100, Drops: 7}) {
		t.Errorf("got %+v %v", c, err)
	}
	if err := os.Remove(filepath.Join(root, "net/stat/nf_conntrack")); err != nil {
		t.Fatal(err)
	}
	if c, err := ReadConntrack(root); err != nil || c.Drops != 0 || c.Entries != 90 {
		t.Errorf("without counters: %+v %v", c, err)
	}
	for _, bad := range []string{"", "-1\n", "many\n"} {
		write(t, root, map[string]string{"sys/net/netfilter/nf_conntrack_max": bad})
		if c, err := ReadConntrack(root); err == nil {
			t.Errorf("%q gives %+v", bad, c)
		}
	}
	if _, err := ReadConntrack(t.TempDir()); err == nil {
		t.Error("no table, no error")
	}
}

func TestTryInotify(t *testing.T) {
	err := TryInotify()
	var limit *LimitError
	if os.Geteuid() != 0 && err == nil || os.Geteuid() == 0 && err != nil && !errors.As(err, &limit) {
		t.Errorf("as %d: %v", os.Geteuid(), err)
	}
}

func TestTryRuntime(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Fatal("NOT RUN: the node role needs Linux")
	}
	root, err := os.MkdirTemp("", "r") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	if path, err := TryRuntime(t.Context(), root); path != "" || err != nil {
		t.Errorf("none: %q %v", path, err)
	}
	write(t, root, map[string]string{"run/containerd/containerd.sock": "a file"})
	if path, _ := TryRuntime(t.Context(), root); path != "" {
		t.Errorf("a file: %q", path)
	}
	socket := filepath.Join(root, "run/crio/crio.sock")
	write(t, root, map[string]string{"run/crio/x": ""})
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	if path, err := TryRuntime(t.Context(), root); path != "/run/crio/crio.sock" || err != nil {
		t.Errorf("%q %v", path, err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if path, err := TryRuntime(t.Context(), root); path != "/run/crio/crio.sock" || err == nil {
		t.Errorf("dead: %q %v", path, err)
	}
	// A dead one before it hides none that lives.
	if err := os.Remove(filepath.Join(root, "run/containerd/containerd.sock")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(socket, filepath.Join(root, "run/containerd/containerd.sock")); err != nil {
		t.Fatal(err)
	}
	l, err = net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if path, err := TryRuntime(t.Context(), root); path != "/run/crio/crio.sock" || err != nil {
		t.Errorf("a dead one before it: %q %v", path, err)
	}
}

// Only kube-proxy's own IP families count: others would be as many as somebody likes.
func TestForeignFamilies(t *testing.T) {
	m, err := ParseProxyMetrics([]byte(queuedMetric + `{ip_family="IPv4"} 1.7e9` + "\n" + queuedMetric + `{ip_family="x"} 1.7e9` + "\n"))
	if err != nil || len(m.Families) != 1 || m.Families["IPv4"].Queued.IsZero() {
		t.Errorf("%+v %v", m, err)
	}
}

// TestMetricsBounds is for a process that has kube-proxy's port and answers as much
// as is read.
func TestMetricsBounds(t *testing.T) {
	labels := strings.Builder{}
	for i := range 1000 {
		fmt.Fprintf(&labels, `l%d="",`, i)
	}
	for name, body := range map[string]string{
		"a long line":        "other " + strings.Repeat("x", metricsLineBytes) + "\n",
		"many labels":        queuedMetric + "{" + labels.String() + "} 1\n",
		"many samples":       strings.Repeat(queuedMetric+`{ip_family="IPv4"} 1`+"\n", metricsLines+1),
		"a line without end": queuedMetric + "{" + strings.Repeat("x", 4<<20),
	} {
		if m, err := ParseProxyMetrics([]byte(body)); err == nil {
			t.Errorf("%s: %+v", name, m)
		}
	}
}

// A file that would hold up who opens it is none.
func TestOpenHoldsNobodyUp(t *testing.T) {
	root := proc(t)
	p, err := FindKubeProxy(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(root, "137/root/fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := p.ReadFile("/fifo"); err == nil {
		t.Errorf("a FIFO is read: %q", b)
	}
	w := newWritten(t)
	if err := os.MkdirAll(filepath.Join(w.dir, container), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(w.dir, container, "0.log"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := NewLogs(w.dir, "kube-system", func([]byte) {}).Poll(); err == nil {
		t.Error("a FIFO is a log")
	}
}

func TestIsHealth(t *testing.T) {
	for body, want := range map[string]bool{
		`{"lastUpdated":"x","currentTime":"y"}`: true, `{"nodeEligible":true}`: true, "ok": false, "": false, "[]": false, `{"status":"up"}`: false, "null": false,
	} {
		if got := IsHealth([]byte(body)); got != want {
			t.Errorf("%q: %v", body, got)
		}
	}
}

func TestStreak(t *testing.T) {
	var s Streak
	at := func(n int) time.Time { return time.Unix(int64(n), 0) }
	s.Note("a", at(1))
	s.Note("a", at(2))
	if s.Times != 2 || !s.Since.Equal(at(1)) || !s.At.Equal(at(2)) {
		t.Errorf("%+v", s)
	}
	if s.Note("", at(3)); s.Times != 1 || !s.Since.Equal(at(3)) {
		t.Errorf("%+v", s)
	}
	if s.Note("", at(4)); s.Times != 2 {
		t.Errorf("%+v", s)
	}
}

func TestParseProxyMetrics(t *testing.T) {
	body, err := os.ReadFile("testdata/metrics-1.37-nftables.txt")
	if err != nil {
		t.Fatal(err)
	}
	m, err := ParseProxyMetrics(body)
	if err != nil {
		t.Fatal(err)
	}
	if m.Version != "v1.37.2" || m.FilesOpen != 12 || m.FilesMax != 20000 || m.Started.Unix() != 1795450745 || len(m.Families) != 2 {
		t.Errorf("got %+v", m)
	}
	if f := m.Families["IPv6"]; f.Queued.Unix() != 1795450746 || f.Synced.Unix() != 1795450747 || f.Failures != 0 {
		t.Errorf("IPv6: %+v", f)
	}
	old, err := ParseProxyMetrics([]byte("kubeproxy_sync_proxy_rules_last_timestamp_seconds 1.7e+09\nkubeproxy_sync_proxy_rules_iptables_restore_failures_total 3\n" +
		"kubeproxy_sync_proxy_rules_nftables_sync_failures_total 2\nkubeproxy_sync_proxy_rules_last_timestamp_seconds_more 1\n"))
	if f := old.Families[NoFamily]; err != nil || f.Synced.Unix() != 1700000000 || f.Failures != 5 || !f.Queued.IsZero() || len(old.Families) != 1 {
		t.Errorf("an old version: %+v %v", old, err)
	}
	for _, odd := range []string{"NaN", "-1", "+Inf", "1e300", "0"} {
		m, err := ParseProxyMetrics([]byte("process_start_time_seconds " + odd + "\n"))
		if err != nil || !m.Started.IsZero() {
			t.Errorf("%s: %v %v", odd, m.Started, err)
		}
	}
	for _, bad := range []string{"process_open_fds x\n", "process_open_fds{a=\n", "process_open_fds 1"} {
		if m, err := ParseProxyMetrics([]byte(bad)); err == nil && bad[len(bad)-1] == '\n' {
			t.Errorf("%q gives %+v", bad, m)
		}
	}
	if m, err := ParseProxyMetrics([]byte("<html>\x00")); err != nil || len(m.Families) != 0 {
		t.Errorf("somebody else's page: %+v %v", m, err)
	}
}

func FuzzParseProxyMetrics(f *testing.F) {
	body, err := os.ReadFile("testdata/metrics-1.37-nftables.txt")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Add([]byte("process_open_fds 1\nprocess_open_fds 2\n# TYPE process_open_fds histogram\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := ParseProxyMetrics(body)
		if err != nil {
			return
		}
		for name, family := range m.Families {
			for _, at := range []time.Time{family.Queued, family.Synced, m.Started} {
				if y := at.UTC().Year(); !at.IsZero() && (y < 1970 || y > 2242) {
					t.Errorf("%s: in the year %d", name, y)
				}
			}
		}
	})
}

func FuzzProcess(f *testing.F) {
	f.Add("kube-proxy\n", stat(137, "kube-proxy", "S", 10000), "/usr/local/bin/kube-proxy\x00--config=/x\x00", kubeconfig, "90\n")
	f.Fuzz(func(t *testing.T, comm, stat, cmdline, config, number string) {
		root := t.TempDir()
		write(t, root, map[string]string{
			"stat": "btime 1700000000\n", "7/comm": comm, "7/stat": stat, "7/cmdline": cmdline, "7/root/x": "clientConnection: {kubeconfig: /y}", "7/root/y": config,
			"sys/net/netfilter/nf_conntrack_count": number, "sys/net/netfilter/nf_conntrack_max": number,
		})
		if p, err := FindKubeProxy(root); err == nil && p != nil {
			if strings.TrimSpace(comm) != commandName {
				t.Errorf("%q is called kube-proxy", comm)
			}
			p.Started = time.Now()
			if text, err := Kubeconfig(p); err == nil {
				if target, err := APITargetOf(p, text, "n1"); err == nil && (target.Host == "" || target.Port == "") {
					t.Errorf("nowhere: %+v", target)
				}
			}
		}
		if c, err := ReadConntrack(root); err == nil && (c.Max < 0 || c.Entries != c.Max) {
			t.Errorf("%q is %+v", number, c)
		}
	})
}

func TestParseHealth(t *testing.T) {
	if got := ParseHealth([]byte(`{"lastUpdated":"x","nodeEligible":false,"healthy":true}`)); got == nil || *got {
		t.Errorf("got %v", got)
	}
	for _, body := range []string{"", "ok", "{}", `{"nodeEligible":"yes"}`, "[]", `{"nodeEligible":null}`} {
		if got := ParseHealth([]byte(body)); got != nil {
			t.Errorf("%s gives %v", body, *got)
		}
	}
}

// authority is a certificate, PEM.
func authority(t testing.TB) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
