package vm_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
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

const (
	healthzPort = 10256
	metricsPort = 10249
)

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
	await(t, v, "/proxyMode", func() string { return answers(v, metricsPort, "/proxyMode", "ipvs") })
	t.Logf("from kube-proxy's start to its first answer: %s", time.Since(began))
	await(t, v, "the first sync", func() string { return lacks(ctx, v, "10.96.0.1:443", 1) })
	t.Logf("... to its first virtual server: %s", time.Since(began))
	await(t, v, "/healthz", func() string { return answers(v, healthzPort, "/healthz", "") })
	t.Logf("... to /healthz: %s", time.Since(began))

	began = time.Now()
	service := createService(t, c, []string{"10.244.9.1", "10.244.9.2"}, 8080)
	ports := []string{service.Spec.ClusterIP + ":80", vm.GuestIP + ":" + strconv.Itoa(int(service.Spec.Ports[0].NodePort))}
	for _, p := range ports {
		await(t, v, "virtual server "+p, func() string { return lacks(ctx, v, p, 2, "10.244.9.1:8080", "10.244.9.2:8080") })
	}
	t.Logf("from a Service's creation to its rules: %s", time.Since(began))

	t.Run("audit", func(t *testing.T) { audit(t, c, v, ports[0]) })
	t.Run("packets", func(t *testing.T) { packets(t, c, v) })

	if err := v.Stop(ctx, vm.KubeProxy, "KILL"); err != nil {
		t.Fatal(err)
	}
	if said := answers(v, healthzPort, "/healthz", ""); said == "" {
		t.Error("kube-proxy answers after its end")
	}
	if err := v.StartKubeProxy(ctx, c); err != nil {
		t.Fatal(err)
	}
	await(t, v, "a second kube-proxy", func() string { return answers(v, healthzPort, "/healthz", "") })
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
		// Not wget: busybox's crashes.
		out, err := v.Exec(t.Context(), "sh", "-c", `printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 2 $0 80`, service.Spec.ClusterIP)
		if err != nil || !strings.HasSuffix(out, "through ip_vs") {
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

// answers says what speaks against an answer of kube-proxy; any body will do if
// want is empty.
func answers(v *vm.VM, port int, path, want string) string {
	res, err := (&http.Client{Timeout: time.Second}).Get("http://" + v.Forward(port) + path)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK || want != "" && string(body) != want {
		return fmt.Sprintf("%s: %s %v", res.Status, body, err)
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
