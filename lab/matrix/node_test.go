package matrix

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/lab/cluster"
	"github.com/kproxy-exporter/kproxy-exporter/lab/exporter"
	"github.com/kproxy-exporter/kproxy-exporter/lab/fault"
)

// TestNodeMatrix breaks what a node itself can see: the node role there must say
// exactly this, and the one on the other node nothing.
func TestNodeMatrix(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"nftables", "iptables"} {
		for lab := range labs { // the faults are shared out
			t.Run(fmt.Sprintf("%s-%d", mode, lab), func(t *testing.T) {
				t.Parallel()
				w := startNodes(t, fmt.Sprintf("node-%s-%d", mode, lab), mode)
				walkNodes(t, w, lab)
				if lab == 0 {
					t.Run("two at once", func(t *testing.T) { twoAtOnce(t, w) })
					t.Run("audit of the canary", func(t *testing.T) { auditCanary(t, w) })
					t.Run("API server away", func(t *testing.T) { awayAPI(t, w) })
				} else {
					walkSilent(t, w)
				}
			})
		}
	}
}

// walkNodes tries the lab's share of what nodes can see.
func walkNodes(t *testing.T, w *world, lab int) {
	var rows []string
	share := 0
	for i := range fault.All {
		f := &fault.All[i]
		if !f.Applies(w.Mode) || f.OnNode == "" {
			continue
		}
		// The one with the healthy changes gets fewer.
		if share++; (share%3 == 0) != (lab == 1) {
			continue
		}
		t.Run(f.Name, func(t *testing.T) {
			// After a kube-proxy that was away it looks anew: rules that are broken before it
			// has are another question, and another test's.
			if _, err := w.await(t.Context(), healWithin, func(s state) string {
				if !s.audited[node] {
					return "the rules have not been looked at"
				}
				return ""
			}); err != nil {
				t.Fatalf("%v\n%s", err, w.describe(t.Context()))
			}
			if f.Name == "dnat-changed" {
				w.named = func() { w.diagnosed(t, "wrong_backend: ") }
				defer func() { w.named = nil }()
			}
			named, silent := w.tryFor(t, f, expectation{f.OnNode, f.BesideOnNode, f.EverywhereOnNode})
			rows = append(rows, fmt.Sprintf("%-28s %-34s named after %5.1fs, silent after %5.1fs", f.Name, f.OnNode, named.Seconds(), silent.Seconds()))
		})
	}
	t.Logf("%s:\n%s", w.Mode, strings.Join(rows, "\n"))
}

// diagnosed wants that the command for people shows what only the node role sees.
func (w *world) diagnosed(t *testing.T, example string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), filepath.Join(w.root, "bin/kproxy-exporter"), "diagnose", "--kubeconfig", w.Kubeconfig(), "--ports.interval", "0").CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), node+": rules_stale / drift") || !strings.Contains(string(out), example) {
		t.Errorf("diagnose: %v\n%s", err, out)
	}
}

// startNodes starts a lab with the node role on each of its two nodes.
func startNodes(t *testing.T, name, mode string) *world {
	t.Helper()
	ctx := t.Context()
	w := startWith(t, name, mode, map[string]string{"n1": exporter.NodeAddress(1), "n2": exporter.NodeAddress(2)})
	if err := exporter.InstallNode(ctx, w.Cluster, w.root, "--api.interval=3s"); err != nil {
		t.Fatal(err)
	}
	w.urls = []string{"http://" + w.Listen["n1"], "http://" + w.Listen["n2"]}
	// A fault may come before kube-proxy has written the rules of what was just
	// installed, which would not answer then, and be called so.
	if _, err := w.await(ctx, namedWithin, func(s state) string {
		for _, n := range []string{"n1", "n2"} {
			for _, module := range []string{"http", "udp"} {
				if target := n + " kproxy-exporter-node/kproxy-exporter-responder " + module; s.verdicts[target] != "ok" {
					return fmt.Sprintf("%s has verdict %q", target, s.verdicts[target])
				}
			}
		}
		return s.notSilent(2)
	}); err != nil {
		t.Fatalf("%v\n%s", err, w.describe(ctx))
	}
	return w
}

// twoAtOnce wants both causes of a node with two faults, and the right one first.
func twoAtOnce(t *testing.T, w *world) {
	ctx := t.Context()
	var faults []*fault.Fault
	for _, name := range []string{"rules-of-legacy-left", "api-rejected"} {
		f, err := fault.Find(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Inject(ctx, w.Cluster, node); err != nil {
			t.Fatal(err)
		}
		faults = append(faults, f)
	}
	took, err := w.await(ctx, 2*time.Minute, func(s state) string {
		slices.Sort(s.active[node])
		if got := strings.Join(s.active[node], " "); got != "api_unreachable conflicting_rules" || s.primary[node] != "api_unreachable/refused" {
			return fmt.Sprintf("%s has %q, first %s", node, got, s.primary[node])
		}
		return ""
	})
	if err != nil {
		t.Errorf("%v\n%s", err, w.describe(ctx))
	}
	t.Logf("both named after %.1fs", took.Seconds())
	for _, f := range faults {
		if err := f.Heal(ctx, w.Cluster, node); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.await(ctx, healWithin, func(s state) string { return s.notSilent(2) }); err != nil {
		t.Errorf("healed and not silent: %v\n%s", err, w.describe(ctx))
	}
}

// auditCanary lets the node role look at few Services: another's fault is nobody's,
// and that of one of the few is named.
func auditCanary(t *testing.T, w *world) {
	ctx := t.Context()
	if err := exporter.InstallNode(ctx, w.Cluster, w.root, "--api.interval=3s", "--audit=canary"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.await(ctx, namedWithin, func(s state) string { return s.notSilent(2) }); err != nil {
		t.Fatalf("%v\n%s", err, w.describe(ctx))
	}
	var faults []*fault.Fault
	for _, name := range []string{"dnat-changed", "vip-rules-gone"} {
		f, err := fault.Find(name)
		if err != nil {
			t.Fatal(err)
		}
		faults = append(faults, f)
		if err := f.Inject(ctx, w.Cluster, node); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.await(ctx, namedWithin, func(s state) string {
		if s.primary[node] != "rules_stale/drift" {
			return "it is called " + s.primary[node]
		}
		return ""
	}); err != nil {
		t.Errorf("%v\n%s", err, w.describe(ctx))
	}
	causes, err := get(ctx, "http://"+w.Listen[node]+"/causes?format=json")
	if err != nil || !strings.Contains(causes, "default/kubernetes missing") || strings.Contains(causes, fault.AuditedService) {
		t.Errorf("%v\n%s", err, causes)
	}
	for _, f := range faults {
		if err := f.Heal(ctx, w.Cluster, node); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.await(ctx, healWithin, func(s state) string { return s.notSilent(2) }); err != nil {
		t.Errorf("healed and not silent: %v\n%s", err, w.describe(ctx))
	}
}

// awayAPI stops the API server for KPROXY_LAB_AWAY, a minute and a half unless
// set, watches every scrape meanwhile, and lets it come back.
func awayAPI(t *testing.T, w *world) {
	away := 90 * time.Second
	if text := os.Getenv("KPROXY_LAB_AWAY"); text != "" {
		var err error
		if away, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	ctx := t.Context()
	cp, err := w.Node(cluster.ControlPlane)
	if err != nil {
		t.Fatal(err)
	}
	if err := cp.StopService("kube-apiserver", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, err := w.await(ctx, 2*time.Minute, func(s state) string {
		for _, n := range []string{"n1", "n2"} {
			if s.primary[n] != "api_unreachable/refused" {
				return fmt.Sprintf("%s is called %s", n, s.primary[n])
			}
		}
		return ""
	}); err != nil {
		t.Error(err)
	}
	named := time.Since(began)
	first, last, highest := 0.0, 0.0, 0.0
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for time.Since(began) < away {
		<-tick.C
		s, err := w.scrape(ctx)
		if err != nil {
			t.Fatalf("the node role does not serve: %v", err)
		}
		for n, causes := range s.active {
			if strings.Join(causes, " ") != "api_unreachable" {
				t.Fatalf("after %s %s is called %v\n%s", time.Since(began), n, causes, w.describe(ctx))
			}
		}
		if s.primary["n1"] != "api_unreachable/refused" || s.primary["n2"] != "api_unreachable/refused" {
			t.Fatalf("after %s: %v", time.Since(began), s.primary)
		}
		last = s.resident
		highest = max(highest, last)
		if first == 0 {
			first = last
		}
	}
	if last > 1.2*first {
		t.Errorf("its memory grew from %.1f to %.1f MB", first/1e6, last/1e6)
	}
	if err := cluster.StartService(cp, "kube-apiserver"); err != nil {
		t.Fatal(err)
	}
	if err := w.WaitAPI(ctx, cp, time.Minute); err != nil {
		t.Fatal(err)
	}
	back, err := w.await(ctx, healWithin, func(s state) string { return s.notSilent(2) })
	if err != nil {
		t.Errorf("it does not come back: %v\n%s", err, w.describe(ctx))
	}
	t.Logf("away for %s: named on both nodes after %.1fs; %.1f MB resident first, %.1f last, %.1f at most; silent %.1fs after it came back",
		away, named.Seconds(), first/1e6, last/1e6, highest/1e6, back.Seconds())
}
