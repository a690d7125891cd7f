// Package demo breaks kube-proxy on a node in several ways, one after the
// other, and shows what a real Prometheus makes of it: with the mixin's alerts
// and, beside them, the generic ones.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/lab/cluster"
	"github.com/kproxy-exporter/kproxy-exporter/lab/exporter"
	"github.com/kproxy-exporter/kproxy-exporter/lab/fault"
	"github.com/kproxy-exporter/kproxy-exporter/lab/monitoring"
)

// Both sides' alerts wait 30 times less than they do elsewhere.
const (
	Haste    = 30
	alertFor = 15 * time.Minute / Haste // the generic ones
)

// faults are what the demo breaks, in order.
var faults = []string{"bad-config-field", "image-not-found", "taint", "network-plugin-gone", "vip-rules-gone"}

// Config is what the demo needs beside a lab.
type Config struct {
	cluster.Config
	// Root is the repository: the exporter's image and manifest are in it.
	Root string
	// Rules is the rendered mixin with short times.
	Rules string
	// Keep leaves everything running.
	Keep bool
	// Picture is where what was printed is drawn as SVG; nowhere if empty.
	Picture string
}

// Run runs the demo; an error says that a fault was not named right.
func Run(ctx context.Context, cfg Config, out io.Writer, p *cluster.Progress) (err error) {
	var printed strings.Builder
	out = io.MultiWriter(out, &printed)
	cfg.Forwards = monitoring.Forwards()
	c, err := cluster.Up(ctx, cfg.Config, p)
	if !cfg.Keep {
		defer func() {
			if down := p.Step("take the cluster down", func() error { return cluster.Down(cfg.Dir) }); err == nil {
				err = down
			}
		}()
	}
	if err != nil {
		return err
	}
	var home string
	if err := p.Step("install the exporter from deploy/cluster.yaml", func() error { _, home, err = exporter.Install(ctx, c, cfg.Root); return err }); err != nil {
		return err
	}
	if err := p.Step("install the node role from deploy/node.yaml", func() error {
		return exporter.InstallNode(ctx, c, cfg.Root, "--api.interval=3s", "--probe.interval=5s", "--probe.timeout=2s")
	}); err != nil {
		return err
	}
	var m *monitoring.Monitoring
	if err := p.Step("start Prometheus with the mixin and the upstream alerts", func() error {
		m, err = monitoring.Start(ctx, c, monitoring.Config{Rules: cfg.Rules, GenericFor: alertFor})
		return err
	}); err != nil {
		return err
	}
	w := &watcher{Monitoring: m, out: out, node: victim(c, home)}
	fmt.Fprintf(out, "\nEvery alert, ours and upstream's, waits %d times less than it does elsewhere (upstream: %s instead of 15m).\nkube-proxy is broken on %s.\n", Haste, alertFor, w.node)
	w.out = io.Discard // upstream's alert is pending until the first scrape
	if err := w.quiet(ctx, time.Minute); err != nil {
		return fmt.Errorf("before the first fault: %w", err)
	}
	w.out = out
	var rows []row
	for _, name := range faults {
		r, err := w.try(ctx, c, name)
		if err != nil {
			return err
		}
		rows = append(rows, r)
	}
	err = errors.Join(table(out, rows), writePicture(cfg.Picture, printed.String()))
	if cfg.Keep {
		fmt.Fprintf(out, "\nStill running: Prometheus http://%s\n  KUBECONFIG=%s\n  end it with: make lab-down LAB=%s\n", c.Listen["prometheus"], c.Kubeconfig(), c.Dir)
	}
	return err
}

// victim is a node on which the exporter does not run.
func victim(c *cluster.Cluster, home string) string {
	for i := 1; i <= c.NodeCount; i++ {
		if n := cluster.NodeName(i); n != home {
			return n
		}
	}
	return home
}

// watcher follows the alerts and prints what changes.
type watcher struct {
	*monitoring.Monitoring
	node  string
	out   io.Writer
	began time.Time
	seen  map[string]string
}

func (w *watcher) say(format string, args ...any) {
	fmt.Fprintf(w.out, "  %6.1fs  %s\n", time.Since(w.began).Seconds(), fmt.Sprintf(format, args...))
}

// look prints the changes since the last look.
func (w *watcher) look(ctx context.Context) ([]monitoring.Alert, error) {
	now, err := w.Alerts(ctx)
	if err != nil {
		return nil, err
	}
	state := map[string]string{}
	for _, a := range now {
		state[a.String()] = a.State
	}
	var lines []string
	for name, s := range state {
		if w.seen[name] != s {
			lines = append(lines, fmt.Sprintf("%-8s %-9s %s", s, side(name), name))
		}
	}
	for name := range w.seen {
		if state[name] == "" {
			lines = append(lines, fmt.Sprintf("%-8s %-9s %s", "resolved", side(name), name))
		}
	}
	sort.Strings(lines)
	for _, l := range lines {
		w.say("%s", l)
	}
	w.seen = state
	return now, nil
}

func side(name string) string {
	if strings.Contains(name, " / ") {
		return "kproxy"
	}
	return "upstream"
}

// poll looks until done says so.
func (w *watcher) poll(ctx context.Context, within time.Duration, done func([]monitoring.Alert) bool) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for tick := time.NewTicker(300 * time.Millisecond); ; {
		now, err := w.look(ctx)
		if err == nil && done(now) {
			tick.Stop()
			return nil
		}
		select {
		case <-ctx.Done():
			tick.Stop()
			if err == nil {
				err = fmt.Errorf("alerts are %v", now)
			}
			return fmt.Errorf("after %s: %w", within, err)
		case <-tick.C:
		}
	}
}

func (w *watcher) quiet(ctx context.Context, within time.Duration) error {
	if w.began.IsZero() {
		w.began = time.Now()
	}
	// Two looks apart: no alert, and both jobs have targets that are up.
	return w.poll(ctx, within, func(now []monitoring.Alert) bool {
		if slices.ContainsFunc(now, func(a monitoring.Alert) bool { return a.Labels["kube_proxy_cause"] != "symptom" }) {
			return false // the budget that a fault has burnt stays burnt for longer
		}
		found, err := w.Query(ctx, `count(up{job="kube-proxy"}==1) and count(kproxy_cause_active{cause="crash_loop"}) and count(kproxy_sync_last_timestamp_seconds)`, time.Now())
		return err == nil && len(found) > 0
	})
}

// row is what one fault led to.
type row struct {
	fault    *fault.Fault
	ours     string
	after    time.Duration
	upstream string
	right    bool
}

func (w *watcher) try(ctx context.Context, c *cluster.Cluster, name string) (row, error) {
	f, err := fault.Find(name)
	if err != nil {
		return row{}, err
	}
	w.began, w.seen = time.Now(), map[string]string{}
	fmt.Fprintf(w.out, "\n%s: %s\n", f.Name, f.Breaks)
	if err := f.Inject(ctx, c, w.node); err != nil {
		return row{}, err
	}
	w.say("broken")
	r := row{fault: f, ours: "nothing"}
	upstream := map[string]bool{}
	// Ours has a minute and a half; then upstream gets as long as it waits, and more.
	var fired time.Time
	_ = w.poll(ctx, 90*time.Second, func(now []monitoring.Alert) bool {
		for _, a := range now {
			if a.State != "firing" {
				continue
			}
			if !a.Ours() {
				upstream[a.String()] = true
				continue
			}
			if !a.Causal() || a.Labels["kube_proxy_scope"] != "node" {
				continue
			}
			if fired.IsZero() {
				fired, r.after, r.ours = time.Now(), time.Since(w.began), a.String()
			}
			r.right = a.Labels["node"] == w.node && a.Labels["kube_proxy_cause"]+"/"+a.Labels["detail"] == f.Verdict()
			if !r.right {
				r.ours = a.String()
				return true
			}
		}
		return !fired.IsZero() && time.Since(w.began) > alertFor+15*time.Second
	})
	r.upstream = "silent"
	if len(upstream) > 0 {
		names := make([]string, 0, len(upstream))
		for n := range upstream {
			names = append(names, n)
		}
		sort.Strings(names)
		r.upstream = strings.Join(names, ", ")
	}
	if err := f.Heal(ctx, c, w.node); err != nil {
		return r, err
	}
	w.say("healed")
	if err := w.quiet(ctx, 2*time.Minute); err != nil {
		return r, fmt.Errorf("%s was healed and alerts stay: %w", f.Name, err)
	}
	return r, nil
}

func table(out io.Writer, rows []row) error {
	wrong := 0
	fmt.Fprintf(out, "\n%-20s  %-62s  %s  %s\n", "WHAT WAS BROKEN", "WHAT KPROXY-EXPORTER SAID", "AFTER", "WHAT UPSTREAM'S ALERTS SAID")
	for _, r := range rows {
		mark := "ok"
		if !r.right {
			mark = "WRONG"
			wrong++
		}
		fmt.Fprintf(out, "%-20s  %-56s %-5s %5.1fs  %s\n", r.fault.Name, strings.TrimPrefix(r.ours, "KubeProxy"), mark, r.after.Seconds(), r.upstream)
	}
	if wrong > 0 {
		return fmt.Errorf("%d of %d faults were not named right", wrong, len(rows))
	}
	fmt.Fprintf(out, "\nAll %d faults were named right.\n", len(rows))
	return nil
}
