// Package matrix breaks a real cluster in every way that has a name and demands
// that the exporter names it: exactly this cause, on exactly this node.
package matrix

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/kproxy-exporter/kproxy-exporter/lab/cluster"
	"github.com/kproxy-exporter/kproxy-exporter/lab/fault"
)

const (
	node        = "n1"
	namedWithin = 90 * time.Second
	healWithin  = 150 * time.Second
)

func TestMatrix(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("NOT RUN: the matrix needs root and Linux for a real cluster; nothing of it was tested")
	}
	for _, mode := range []string{"nftables", "iptables"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel() // two labs side by side must not collide
			walk(t, start(t, mode))
		})
	}
}

// world is a lab with an exporter that watches it.
type world struct {
	*cluster.Cluster
	metrics string
}

func start(t *testing.T, mode string) *world {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, ".lab-matrix-"+mode)
	down := func() {
		if err := cluster.Down(dir); err != nil {
			t.Errorf("lab down: %v", err)
		}
	}
	down()
	t.Cleanup(down)
	bin := filepath.Join(root, "lab/bin")
	c, err := cluster.Up(t.Context(), cluster.Config{Dir: dir, Bin: bin, Nodes: 2, Mode: mode},
		cluster.NewProgress(logWriter{t}, filepath.Join(bin, "timings.json")))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Cluster: c}
	w.startExporter(t, filepath.Join(root, "bin/kproxy-exporter"))
	return w
}

type logWriter struct{ t *testing.T }

func (l logWriter) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimRight(string(b), "\n"))
	return len(b), nil
}

func (w *world) startExporter(t *testing.T, binary string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	log, err := os.Create(filepath.Join(w.Dir, "exporter.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "cluster", "--kubeconfig", w.Kubeconfig(), "--web.listen-address", address)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			b, _ := os.ReadFile(log.Name())
			t.Errorf("the exporter did not end cleanly: %v\n%s", err, b)
		}
	})
	w.metrics = "http://" + address + "/metrics"
	if _, err := w.await(t.Context(), 30*time.Second, func(s state) string { return s.notSilent(2) }); err != nil {
		t.Fatal(err)
	}
}

// state is what the exporter says now.
type state struct {
	primary map[string]string // node -> cause/detail
	active  map[string][]string
	judged  map[string]int // node -> causes with a sample
}

func (w *world) scrape(ctx context.Context) (state, error) {
	s := state{map[string]string{}, map[string][]string{}, map[string]int{}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.metrics, nil)
	if err != nil {
		return s, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return s, err
	}
	defer res.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(res.Body)
	if err != nil {
		return s, err
	}
	label := func(m *dto.Metric, name string) string {
		for _, l := range m.Label {
			if l.GetName() == name {
				return l.GetValue()
			}
		}
		return ""
	}
	for _, m := range families["kproxy_primary_cause"].GetMetric() {
		s.primary[label(m, "node")] = label(m, "cause") + "/" + label(m, "detail")
	}
	for _, m := range families["kproxy_cause_active"].GetMetric() {
		n := label(m, "node")
		s.judged[n]++
		if m.GetGauge().GetValue() == 1 {
			s.active[n] = append(s.active[n], label(m, "cause"))
		}
	}
	return s, nil
}

// notSilent says what speaks against "all nodes are known and healthy".
func (s state) notSilent(nodes int) string {
	if len(s.primary) != nodes {
		return fmt.Sprintf("%d of %d nodes have a verdict: %v", len(s.primary), nodes, s.primary)
	}
	for n, p := range s.primary {
		if p != "none/" {
			return n + " has " + p
		}
	}
	return ""
}

// await scrapes until lacks returns "", and returns how long it took.
func (w *world) await(ctx context.Context, within time.Duration, lacks func(state) string) (time.Duration, error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	last := "no answer"
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if s, err := w.scrape(ctx); err == nil {
			if last = lacks(s); last == "" {
				return time.Since(began), nil
			}
		}
		select {
		case <-ctx.Done():
			return time.Since(began), fmt.Errorf("after %s: %s", within, last)
		case <-tick.C:
		}
	}
}

func walk(t *testing.T, w *world) {
	var rows []string
	for i := range fault.All {
		f := &fault.All[i]
		if !f.Applies(w.Mode) {
			continue
		}
		t.Run(f.Name, func(t *testing.T) {
			named, silent := w.try(t, f)
			rows = append(rows, fmt.Sprintf("%-24s %-28s named after %5.1fs, silent after %5.1fs", f.Name, f.Cause+"/"+f.Detail, named.Seconds(), silent.Seconds()))
		})
	}
	sort.Strings(rows)
	t.Logf("%s:\n%s", w.Mode, strings.Join(rows, "\n"))
}

// try injects a fault, waits for its name, heals it and waits for silence. A
// wrong word at any moment fails.
func (w *world) try(t *testing.T, f *fault.Fault) (named, silent time.Duration) {
	ctx := t.Context()
	wrong := map[string]bool{}
	watch := func(s state) {
		for n, causes := range s.active {
			for _, c := range causes {
				if c != f.Cause || n != node && !f.Everywhere {
					wrong[fmt.Sprintf("%s was called %s", n, c)] = true
				}
			}
		}
	}
	if err := f.Inject(ctx, w.Cluster, node); err != nil {
		t.Fatal(err)
	}
	want := f.Cause + "/" + f.Detail
	named, err := w.await(ctx, namedWithin, func(s state) string {
		watch(s)
		for n, p := range s.primary {
			if p != want && (n == node || f.Everywhere) {
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
	if err := f.Heal(ctx, w.Cluster, node); err != nil {
		t.Fatal(err)
	}
	silent, err = w.await(ctx, healWithin, func(s state) string { watch(s); return s.notSilent(2) })
	if err != nil {
		t.Errorf("healed and not silent: %v\n%s", err, w.describe(ctx))
	}
	for what := range wrong {
		t.Error(what)
	}
	return named, silent
}

// describe is for a person who reads a failure.
func (w *world) describe(ctx context.Context) string {
	var out strings.Builder
	for _, args := range [][]string{
		{"get", "pods,nodes,daemonsets", "-A", "-o", "wide"},
		{"-n", "kube-system", "get", "events", "--sort-by=.lastTimestamp"},
	} {
		text, err := w.Kubectl(ctx, "", args...)
		lines := strings.Split(strings.TrimSpace(text), "\n")
		fmt.Fprintln(&out, strings.Join(lines[max(0, len(lines)-15):], "\n"), err)
	}
	if s, err := w.scrape(ctx); err == nil {
		fmt.Fprintf(&out, "exporter: %+v\n", s)
	}
	return out.String()
}
