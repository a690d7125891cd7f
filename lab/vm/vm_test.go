package vm_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kproxy-exporter/kproxy-exporter/lab/cluster"
	"github.com/kproxy-exporter/kproxy-exporter/lab/vm"
)

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "NOT RUN: a lab needs root and Linux; nothing of it was tested")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

const healthzPort = 10256

// The real kube-proxy programs ip_vs in a machine whose kernel has it.
func TestKubeProxyInModeIPVS(t *testing.T) {
	ctx := t.Context()
	c := lab(t)
	v := boot(t)

	t.Run("files and commands", func(t *testing.T) { filesAndCommands(t, v) })

	began := time.Now()
	if err := v.StartKubeProxy(ctx, c); err != nil {
		t.Fatal(err)
	}
	await(t, v, "the first sync", func() string { return lacks(ctx, v, "10.96.0.1:443", 1) })
	t.Logf("from kube-proxy's start to its first virtual server: %s", time.Since(began))
	await(t, v, "/healthz", func() string { return get("http://" + v.Forward(healthzPort) + "/healthz") })
	t.Logf("from kube-proxy's start to /healthz: %s", time.Since(began))

	began = time.Now()
	service := createService(t, c, []string{"10.244.9.1", "10.244.9.2"}, 8080)
	ports := []string{service.Spec.ClusterIP + ":80", vm.GuestIP + ":" + strconv.Itoa(int(service.Spec.Ports[0].NodePort))}
	for _, p := range ports {
		await(t, v, "virtual server "+p, func() string { return lacks(ctx, v, p, 2, "10.244.9.1:8080", "10.244.9.2:8080") })
	}
	t.Logf("from a Service's creation to its rules: %s", time.Since(began))

	t.Run("packets", func(t *testing.T) { packets(t, c, v) })
}

// lab is a cluster with one node, whose API server the guest's kube-proxy uses.
func lab(t *testing.T) *cluster.Cluster {
	t.Helper()
	// Not t.TempDir: Down must remove it, nobody else.
	dir := filepath.Join("../..", ".lab-vm-"+strconv.Itoa(os.Getpid()))
	t.Cleanup(func() {
		if err := cluster.Down(dir); err != nil {
			t.Error(err)
		}
	})
	began := time.Now()
	var said bytes.Buffer
	c, err := cluster.Up(t.Context(), cluster.Config{Dir: dir, Bin: "../bin", Nodes: 1, Mode: "nftables"}, cluster.NewProgress(&said, filepath.Join(t.TempDir(), "timings.json")))
	if err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	t.Logf("the lab's start: %s", time.Since(began))
	return c
}

// boot starts a machine and wants that nothing of it is left at the end.
func boot(t *testing.T) *vm.VM {
	t.Helper()
	began := time.Now()
	dir := t.TempDir()
	v, err := vm.Up(t.Context(), vm.Config{
		Dir: dir, Bin: "../bin", Root: "../..", Name: "vm1", Ports: []int{healthzPort, 10249},
		Files: map[string]string{vm.Kube: "../bin/kube"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the machine's start: %s, of which qemu %s", time.Since(began), v.BootTook)
	t.Cleanup(func() {
		for range 2 {
			if err := v.Down(); err != nil {
				t.Error(err)
			}
		}
		if left := processes(t, dir); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
		if _, err := v.Exec(context.Background(), "true"); err == nil || !strings.Contains(err.Error(), "it has ended") {
			t.Errorf("a command after the end: %v", err)
		}
	})
	if running := processes(t, dir); len(running) != 1 || !strings.HasPrefix(running[0], strconv.Itoa(v.PID())+" qemu") {
		t.Errorf("the machine's processes are %q, want one, %d", running, v.PID())
	}
	return v
}

// processes are those that were called with dir.
func processes(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range files {
		if command, _ := os.ReadFile(f); bytes.Contains(command, []byte(dir)) {
			out = append(out, filepath.Base(filepath.Dir(f))+" "+strings.ReplaceAll(string(command), "\x00", " "))
		}
	}
	return out
}

func filesAndCommands(t *testing.T, v *vm.VM) {
	ctx := t.Context()
	content := bytes.Repeat([]byte{0, 1, 0xff, '\n'}, 1<<20)
	began := time.Now()
	if err := v.Put(ctx, "/opt/new/file", bytes.NewReader(content), 0o750); err != nil {
		t.Fatal(err)
	}
	t.Logf("copying 4 MiB in: %s", time.Since(began))
	if out, err := v.Exec(ctx, "cat", "/opt/new/file"); err != nil || out != string(content) {
		t.Errorf("%d bytes came back, %v", len(out), err)
	}
	if out, err := v.Exec(ctx, "stat", "-c", "%a", "/opt/new/file"); err != nil || out != "750\n" {
		t.Errorf("the mode is %q, %v", out, err)
	}
	out, err := v.Exec(ctx, "sh", "-c", "echo said; echo why >&2; exit 3")
	if out != "said\n" || err == nil || !strings.Contains(err.Error(), "exit status 3: why") {
		t.Errorf("a command that fails: %q, %v", out, err)
	}
	short, cancel := context.WithCancel(ctx)
	time.AfterFunc(100*time.Millisecond, cancel)
	if _, err := v.Exec(short, "sleep", "1234"); err == nil {
		t.Error("a command that was cancelled has no error")
	}
	await(t, v, "the end of the cancelled command", func() string {
		out, err := v.Exec(ctx, "ps")
		if err != nil || strings.Contains(out, "sleep 1234") {
			return fmt.Sprintf("%s %v", out, err)
		}
		return ""
	})
	// Only this machine and its host are reached.
	if out, err := v.Exec(ctx, "ping", "-c", "1", "-W", "1", "192.0.2.1"); err == nil || !strings.Contains(err.Error(), "Network is unreachable") {
		t.Errorf("a foreign address: %q, %v", out, err)
	}
}

// createService makes a Service and its endpoints by hand.
func createService(t *testing.T, c *cluster.Cluster, addresses []string, port int32) *corev1.Service {
	t.Helper()
	client, err := c.Client()
	if err != nil {
		t.Fatal(err)
	}
	service, err := client.CoreV1().Services("default").Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "by-hand-"},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	name := "http"
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: service.Name, Labels: map[string]string{discoveryv1.LabelServiceName: service.Name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
	}
	for _, a := range addresses {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}})
	}
	if _, err := client.DiscoveryV1().EndpointSlices("default").Create(t.Context(), slice, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return service
}

// packets really go through ip_vs to a server on the host.
func packets(t *testing.T, c *cluster.Cluster, v *vm.VM) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "through ip_vs") }))
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	service := createService(t, c, []string{vm.HostIP}, int32(n))
	await(t, v, "an answer through ip_vs", func() string {
		out, err := v.Exec(t.Context(), "wget", "-q", "-T", "2", "-O", "-", "http://"+service.Spec.ClusterIP)
		if err != nil || out != "through ip_vs" {
			return fmt.Sprintf("%q %v", out, err)
		}
		return ""
	})
}

// lacks says what /proc/net/ip_vs lacks of a virtual server with n real ones.
func lacks(ctx context.Context, v *vm.VM, virtual string, n int, real ...string) string {
	out, err := v.Exec(ctx, "cat", "/proc/net/ip_vs")
	if err != nil {
		return err.Error()
	}
	servers := virtualServers(out)[virtual]
	for _, r := range real {
		if !slices.Contains(servers, r) {
			return fmt.Sprintf("%s has %q, not %s:\n%s", virtual, servers, r, out)
		}
	}
	if len(servers) != n {
		return fmt.Sprintf("%s has %q, want %d:\n%s", virtual, servers, n, out)
	}
	return ""
}

// virtualServers reads lines "TCP 0A600001:01BB rr" and "-> 0A630001:192B Masq ...".
func virtualServers(proc string) map[string][]string {
	out := map[string][]string{}
	virtual := ""
	for _, line := range strings.Split(proc, "\n") {
		f := strings.Fields(line)
		switch {
		case len(f) < 2:
		case f[0] == "TCP":
			virtual = address(f[1])
		case f[0] == "->" && virtual != "":
			out[virtual] = append(out[virtual], address(f[1]))
		}
	}
	return out
}

func address(hexadecimal string) string {
	ip, port, _ := strings.Cut(hexadecimal, ":")
	b, err := hex.DecodeString(ip)
	n, err2 := strconv.ParseUint(port, 16, 16)
	if err != nil || err2 != nil {
		return hexadecimal
	}
	return net.JoinHostPort(net.IP(b).String(), strconv.FormatUint(n, 10))
}

func get(url string) string {
	res, err := (&http.Client{Timeout: time.Second}).Get(url)
	if err != nil {
		return err.Error()
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return res.Status
	}
	return ""
}

// await polls until lacks returns "".
func await(t *testing.T, v *vm.VM, what string, lacks func() string) {
	t.Helper()
	last := ""
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if last = lacks(); last == "" {
			return
		}
	}
	log, err := v.Log(context.Background(), vm.KubeProxy)
	t.Fatalf("%s: %s\nkube-proxy's log: %s %v", what, last, log, err)
}
