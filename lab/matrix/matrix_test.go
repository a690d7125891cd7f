// Package matrix breaks a real cluster in every way that has a name and demands
// that the exporter names it: exactly this cause, on exactly this node. It also
// changes the cluster in every healthy way and demands silence.
package matrix

import (
	"fmt"
	"os"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/lab/fault"
)

const (
	node        = "n1"
	namedWithin = 90 * time.Second
	healWithin  = 150 * time.Second
)

// TestMain refuses loudly where no lab can be: nothing here may look tested.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "NOT RUN: the matrix needs root and Linux for a real cluster; nothing of it was tested")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// labs is how many labs share the faults of one mode: most of the time is
// spent waiting, for a kubelet's back-off or a grace of ours.
const labs = 2

func TestMatrix(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"nftables", "iptables"} {
		for lab := range labs {
			t.Run(fmt.Sprintf("%s/%d", mode, lab+1), func(t *testing.T) {
				t.Parallel() // labs side by side must not collide
				w := start(t, fmt.Sprintf("%s-%d", mode, lab+1), mode)
				w.install(t)
				if lab == 1 { // before any log holds what is over
					t.Run("diagnose", func(t *testing.T) { diagnoseOnce(t, w) })
				}
				walk(t, w, lab)
				w.noRefusals(t) // later the API server starts anew, and refuses all for a moment
				if lab == 0 {
					walkSilent(t, w)
				} else {
					t.Run("rights", func(t *testing.T) { eachRight(t, w) })
					t.Run("lost API server", func(t *testing.T) { lostAPI(t, w) })
				}
			})
		}
	}
}

// walk tries the lab's share of the faults.
func walk(t *testing.T, w *world, lab int) {
	var rows []string
	share := 0
	for i := range fault.All {
		f := &fault.All[i]
		if !f.Applies(w.Mode) || f.Cause == "" {
			continue
		}
		if share++; share%labs != lab {
			continue
		}
		t.Run(f.Name, func(t *testing.T) {
			named, silent := w.try(t, f)
			rows = append(rows, fmt.Sprintf("%-24s %-34s named after %5.1fs, silent after %5.1fs", f.Name, f.Cause+"/"+f.Detail, named.Seconds(), silent.Seconds()))
		})
	}
	sort.Strings(rows)
	t.Logf("%s:\n%s", w.Mode, strings.Join(rows, "\n"))
}

// mustBeWell ends a test in a lab that an earlier one left unwell: what it would
// say is worth nothing, and takes minutes.
func (w *world) mustBeWell(t *testing.T) {
	t.Helper()
	if w.lost {
		t.Fatal("not tried: the lab did not fall silent after an earlier fault")
	}
}

// try injects a fault, waits for its name, heals it and waits for silence. A
// wrong word at any moment fails.
func (w *world) try(t *testing.T, f *fault.Fault) (named, silent time.Duration) {
	return w.tryFor(t, f, expectation{f.Cause + "/" + f.Detail, f.Beside, f.Everywhere})
}

// expectation is what the exporters must say of a fault.
type expectation struct {
	verdict    string // cause/detail
	beside     []string
	everywhere bool
}

// tryFor is try with what is wanted of the exporters that are judged.
func (w *world) tryFor(t *testing.T, f *fault.Fault, e expectation) (named, silent time.Duration) {
	ctx := t.Context()
	w.mustBeWell(t)
	want := e.verdict
	name, _, _ := strings.Cut(want, "/")
	wrong := map[string]string{} // what was said, and everything that was said then
	watch := func(s state) {
		for n, causes := range s.active {
			for _, c := range causes {
				what := fmt.Sprintf("%s was called %s", n, c)
				if _, told := wrong[what]; !told && (c != name && !slices.Contains(e.beside, c) || n != node && !e.everywhere) {
					wrong[what] = w.describe(ctx)
				}
			}
		}
	}
	if err := f.Inject(ctx, w.Cluster, node); err != nil {
		t.Fatal(err)
	}
	named, err := w.await(ctx, max(namedWithin, f.Within), func(s state) string {
		watch(s)
		for n, p := range s.primary {
			if p != want && p != f.OrOnNode && (n == node || e.everywhere) {
				return fmt.Sprintf("%s is called %s, want %s", n, p, want)
			}
		}
		if s.primary[node] == "" {
			return node + " has no verdict"
		}
		return ""
	})
	if err != nil {
		t.Errorf("%v\n%s", err, w.describe(ctx))
	}
	if w.named != nil {
		w.named()
	}
	if err := f.Heal(ctx, w.Cluster, node); err != nil {
		t.Fatal(err)
	}
	if err := w.WaitReady(ctx, healWithin); err != nil { // a pod that goes still looks well to its node
		t.Error(err)
	}
	silent, err = w.await(ctx, healWithin, func(s state) string { watch(s); return s.notSilent(2) })
	if err != nil {
		t.Errorf("healed and not silent: %v\n%s", err, w.describe(ctx))
		w.lost = true
	}
	for what, then := range wrong {
		t.Errorf("%s\n%s", what, then)
	}
	return named, silent
}
