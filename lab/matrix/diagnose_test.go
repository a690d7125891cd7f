package matrix

import (
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/kproxy-exporter/kproxy-exporter/lab/cluster"
	"github.com/kproxy-exporter/kproxy-exporter/lab/exporter"
	"github.com/kproxy-exporter/kproxy-exporter/lab/fault"
)

// diagnosis is what diagnose says in JSON, as far as it matters here.
type diagnosis struct {
	Nodes []struct {
		Node    string
		Primary *struct{ Cause, Detail string }
	}
}

// diagnoseOnce asks the command for people, of the living cluster and of a dump
// that kubectl made of it: both say the same.
func diagnoseOnce(t *testing.T, w *world) {
	ctx := t.Context()
	cp, err := w.Node(cluster.ControlPlane)
	if err != nil {
		t.Fatal(err)
	}
	live := func() *exec.Cmd {
		return cp.Command(exporter.Binary, "diagnose", "--kubeconfig", exporter.KubeconfigPath, "--ports.interval", "0", "-o", "json")
	}
	ask := func(what string, cmd *exec.Cmd, code int, want string) {
		t.Helper()
		out, err := cmd.Output()
		got := 0
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			got = exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		var d diagnosis
		if err := json.Unmarshal(out, &d); err != nil {
			t.Fatalf("%s: %v\n%s", what, err, out)
		}
		primary := "none"
		for _, n := range d.Nodes {
			if n.Primary != nil {
				primary = n.Node + " " + n.Primary.Cause + "/" + n.Primary.Detail
			}
		}
		if got != code || primary != want || len(d.Nodes) != 2 {
			t.Errorf("%s: exit code %d and %s, want %d and %s\n%s", what, got, primary, code, want, out)
		}
	}
	ask("live, healthy", live(), 0, "none")
	f, err := fault.Find("bad-config-field")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Inject(ctx, w.Cluster, node); err != nil {
		t.Fatal(err)
	}
	if _, err := w.await(ctx, namedWithin, func(s state) string {
		if s.primary[node] != "crash_loop/config_invalid" {
			return "it is called " + s.primary[node]
		}
		return ""
	}); err != nil {
		t.Fatal(err)
	}
	ask("live, broken", live(), 1, "n1 crash_loop/config_invalid")
	pageOnAPhone(t, w, "n1: crash_loop / config_invalid")
	dir := filepath.Join(w.Dir, "dump")
	if _, err := w.Kubectl(ctx, "", "cluster-info", "dump", "--namespaces", "kube-system", "-o", "json", "--output-directory", dir); err != nil {
		t.Fatal(err)
	}
	ask("dump, broken", exec.CommandContext(ctx, filepath.Join(w.root, "bin/kproxy-exporter"), "diagnose", "--dump", dir, "-o", "json"), 1, "n1 crash_loop/config_invalid")
	if err := f.Heal(ctx, w.Cluster, node); err != nil {
		t.Fatal(err)
	}
	if _, err := w.await(ctx, healWithin, func(s state) string { return s.notSilent(2) }); err != nil {
		t.Error(err)
	}
}
