package matrix

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/lab/exporter"
	"github.com/kproxy-exporter/kproxy-exporter/lab/fault"
)

// TestNodeMatrix breaks what a node itself can see: the node role there must say
// exactly this, and the one on the other node nothing.
func TestNodeMatrix(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"nftables", "iptables"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			w := startNodes(t, "node-"+mode, mode)
			var rows []string
			for i := range fault.All {
				f := &fault.All[i]
				if !f.Applies(mode) || f.OnNode == "" {
					continue
				}
				t.Run(f.Name, func(t *testing.T) {
					named, silent := w.tryFor(t, f, expectation{f.OnNode, f.BesideOnNode, f.EverywhereOnNode})
					rows = append(rows, fmt.Sprintf("%-28s %-34s named after %5.1fs, silent after %5.1fs", f.Name, f.OnNode, named.Seconds(), silent.Seconds()))
				})
			}
			t.Logf("%s:\n%s", mode, strings.Join(rows, "\n"))
			walkSilent(t, w)
		})
	}
}

// startNodes starts a lab with the node role on each of its two nodes.
func startNodes(t *testing.T, name, mode string) *world {
	t.Helper()
	ctx := t.Context()
	w := startWith(t, name, mode, map[string]string{"n1": exporter.NodeAddress(1), "n2": exporter.NodeAddress(2)})
	if err := exporter.InstallNode(ctx, w.Cluster, w.root); err != nil {
		t.Fatal(err)
	}
	w.urls = []string{"http://" + w.Listen["n1"], "http://" + w.Listen["n2"]}
	if _, err := w.await(ctx, 30*time.Second, func(s state) string { return s.notSilent(2) }); err != nil {
		t.Fatalf("%v\n%s", err, w.describe(ctx))
	}
	return w
}
