package vm_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/lab/cluster"
	"github.com/kproxy-exporter/kproxy-exporter/lab/vm"
)

const exporterPort = 19249

// audit runs the exporter beside the real kube-proxy in mode ipvs, and changes
// ip_vs behind its back.
func audit(t *testing.T, c *cluster.Cluster, v *vm.VM, vip string) {
	ctx := t.Context()
	startExporter(t, c, v)
	await(t, v, "an audit that finds nothing", func() string {
		return says(ctx, v, `kproxy_audit_services{.*} [1-9]`, `kproxy_cause_active{cause="rules_stale",.*} 0`)
	})
	for _, one := range []struct {
		name     string
		break_   []string
		mend     []string
		kind     string
		evidence string
	}{
		{"a real server is taken out", []string{"/ipvsctl", "delete-server", vip, "10.244.9.2:8080"}, []string{"/ipvsctl", "add-server", vip, "10.244.9.2:8080"}, "missing", "10.244.9.2:8080"},
		{"one that is no endpoint is put in", []string{"/ipvsctl", "add-server", vip, "10.244.9.9:8080"}, []string{"/ipvsctl", "delete-server", vip, "10.244.9.9:8080"}, "stale", "10.244.9.9:8080"},
		{"the address is taken from the interface", []string{"ip", "addr", "del", host(vip) + "/32", "dev", "kube-ipvs0"}, []string{"ip", "addr", "add", host(vip) + "/32", "dev", "kube-ipvs0"}, "unlinked", host(vip)},
	} {
		if _, err := v.Exec(ctx, one.break_...); err != nil {
			t.Fatalf("%s: %v", one.name, err)
		}
		began := time.Now()
		await(t, v, one.name, func() string {
			return says(ctx, v, `kproxy_cause_info{cause="rules_stale",detail="drift",.*} 1`, `kproxy_audit_drift{kind="`+one.kind+`",.*} 1`)
		})
		t.Logf("%s: named after %s", one.name, time.Since(began))
		if page := get(ctx, v, "/causes?format=json"); !strings.Contains(page, one.evidence) {
			t.Errorf("%s: the page does not say %s:\n%s", one.name, one.evidence, page)
		}
		if _, err := v.Exec(ctx, one.mend...); err != nil {
			t.Fatalf("%s: mend: %v", one.name, err)
		}
		await(t, v, one.name+": silence", func() string { return says(ctx, v, `kproxy_cause_active{cause="rules_stale",.*} 0`) })
	}
}

func host(hostPort string) string {
	h, _, _ := strings.Cut(hostPort, ":")
	return h
}

// startExporter puts the node role into the machine.
func startExporter(t *testing.T, c *cluster.Cluster, v *vm.VM) {
	t.Helper()
	ctx := t.Context()
	dir := t.TempDir()
	for name, build := range map[string][]string{"kproxy-exporter": {"../..", "./cmd/kproxy-exporter"}, "ipvsctl": {".", "./ipvsctl"}} {
		b := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(dir, name), build[1])
		b.Dir, b.Env = build[0], append(os.Environ(), "CGO_ENABLED=0")
		if out, err := b.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		err = v.Put(ctx, "/"+name, f, 0o755)
		_ = f.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	kubeconfig, err := c.AdminKubeconfig("https://"+vm.FromGuest(c.Listen["api"]), "exporter")
	if err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(`certificate-authority-data: .*`).ReplaceAllString(string(kubeconfig), "insecure-skip-tls-verify: true")
	if err := v.Put(ctx, "/exporter.kubeconfig", strings.NewReader(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := v.Start(ctx, "exporter", "/kproxy-exporter", "node", "--node-name=vm1", "--node-ip="+vm.GuestIP, "--kubeconfig=/exporter.kubeconfig", "--probe.interval=0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			log, err := v.Log(context.WithoutCancel(ctx), "exporter")
			t.Logf("%s %v", log, err)
		}
	})
}

func get(ctx context.Context, v *vm.VM, path string) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+v.Forward(exporterPort)+path, nil)
	if err != nil {
		return err.Error()
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return string(b) + fmt.Sprint(err)
}

// says is empty if the exporter's metrics have a line for each pattern.
func says(ctx context.Context, v *vm.VM, patterns ...string) string {
	text := get(ctx, v, "/metrics")
	for _, p := range patterns {
		if !regexp.MustCompile("(?m)^" + p).MatchString(text) {
			return "the metrics do not say " + p
		}
	}
	return ""
}
