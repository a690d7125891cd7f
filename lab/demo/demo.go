// Package demo breaks kube-proxy on a node in several ways, one after the
// other, and shows what a real Prometheus makes of it: with the mixin's alerts
// and, beside them, the generic ones.
package demo

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sort"
	"strings"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/lab/cluster"
	"github.com/kproxy-exporter/kproxy-exporter/lab/exporter"
	"github.com/kproxy-exporter/kproxy-exporter/lab/fault"
	"github.com/kproxy-exporter/kproxy-exporter/lab/machine"
)

// Both sides' alerts wait this long here, instead of minutes.
const (
	alertFor       = 5 * time.Second
	scrapeInterval = "1s"
	prometheusPort = "10.99.0.1:9090"
)

// faults are what the demo breaks, in order.
var faults = []string{"bad-config-field", "image-not-found", "taint", "network-plugin-gone", "vip-rules-gone"}

//go:embed prometheus.yml
var prometheusConfig string

//go:embed upstream.yaml
var upstreamRules string

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
	cfg.Forwards = map[string]string{"prometheus": prometheusPort}
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
	if err := p.Step("start Prometheus with the mixin and the upstream alerts", func() error { return startPrometheus(ctx, c, cfg.Rules) }); err != nil {
		return err
	}
	w := &watcher{url: "http://" + c.Listen["prometheus"], out: out, node: victim(c, home)}
	fmt.Fprintf(out, "\nEvery alert, ours and upstream's, waits %s here instead of its minutes (upstream: 15m).\nkube-proxy is broken on %s.\n", alertFor, w.node)
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

func startPrometheus(ctx context.Context, c *cluster.Cluster, rules string) error {
	cp, err := c.Node(cluster.ControlPlane)
	if err != nil {
		return err
	}
	ours, err := os.ReadFile(rules)
	if err != nil {
		return err
	}
	kubeconfig, err := c.AdminKubeconfig("https://"+cluster.APIAddress, "prometheus")
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		"prometheus.yml": strings.ReplaceAll(prometheusConfig, "{INTERVAL}", scrapeInterval),
		"upstream.yaml":  strings.ReplaceAll(upstreamRules, "{FOR}", alertFor.String()),
		"kproxy.yaml":    string(ours),
		"kubeconfig":     string(kubeconfig),
	} {
		if err := cp.WriteFile("/etc/prometheus/"+name, []byte(text), 0o600); err != nil {
			return err
		}
	}
	err = cp.StartService(machine.Service{Name: "discovery", Argv: []string{"/opt/lab/kproxy-lab",
		"discovery", "--kubeconfig=/etc/prometheus/kubeconfig", "--listen=127.0.0.1:9091"}})
	if err != nil {
		return err
	}
	err = cp.StartService(machine.Service{Name: "prometheus", Argv: []string{"/opt/lab/prometheus",
		"--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/var/lib/prometheus", "--web.listen-address=" + prometheusPort}})
	if err != nil {
		return err
	}
	return c.WaitService(ctx, cp, "prometheus", 30*time.Second, func(ctx context.Context) error {
		_, err := get(ctx, "http://"+c.Listen["prometheus"]+"/-/ready")
		return err
	})
}

func get(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, res.Status)
	}
	return b, err
}

// alert is one as Prometheus has it.
type alert struct {
	Labels map[string]string `json:"labels"`
	State  string            `json:"state"`
}

func (a alert) ours() bool { return a.Labels["kube_proxy_cause"] != "" }

func (a alert) String() string {
	if a.ours() {
		return fmt.Sprintf("%s %s: %s / %s", a.Labels["alertname"], a.Labels["node"], a.Labels["kube_proxy_cause"], a.Labels["detail"])
	}
	return strings.TrimSpace(a.Labels["alertname"] + " " + a.Labels["instance"])
}

// watcher follows the alerts and prints what changes.
type watcher struct {
	url, node string
	out       io.Writer
	began     time.Time
	seen      map[string]string
}

func (w *watcher) alerts(ctx context.Context) ([]alert, error) {
	b, err := get(ctx, w.url+"/api/v1/alerts")
	if err != nil {
		return nil, err
	}
	var body struct {
		Data struct{ Alerts []alert } `json:"data"`
	}
	return body.Data.Alerts, json.Unmarshal(b, &body)
}

func (w *watcher) say(format string, args ...any) {
	fmt.Fprintf(w.out, "  %6.1fs  %s\n", time.Since(w.began).Seconds(), fmt.Sprintf(format, args...))
}

// look prints the changes since the last look.
func (w *watcher) look(ctx context.Context) ([]alert, error) {
	now, err := w.alerts(ctx)
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
func (w *watcher) poll(ctx context.Context, within time.Duration, done func([]alert) bool) error {
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
	return w.poll(ctx, within, func(now []alert) bool {
		if len(now) > 0 {
			return false
		}
		b, err := get(ctx, w.url+`/api/v1/query?query=count(up{job="kube-proxy"}==1)%20and%20count(kproxy_cause_active{cause="crash_loop"})%20and%20count(kproxy_sync_last_timestamp_seconds)`)
		return err == nil && strings.Contains(string(b), `"value"`)
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
	_ = w.poll(ctx, 90*time.Second, func(now []alert) bool {
		for _, a := range now {
			if a.State != "firing" {
				continue
			}
			if !a.ours() {
				upstream[a.String()] = true
				continue
			}
			if fired.IsZero() {
				fired, r.after, r.ours = time.Now(), time.Since(w.began), a.String()
			}
			r.right = a.Labels["node"] == w.node && a.Labels["kube_proxy_cause"]+"/"+a.Labels["detail"] == wanted(f)
			if !r.right {
				r.ours = a.String()
				return true
			}
		}
		return !fired.IsZero() && time.Since(fired) > 3*alertFor
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

// wanted is "cause/detail", of the API's view if that shows the fault.
func wanted(f *fault.Fault) string {
	if f.Cause != "" {
		return f.Cause + "/" + f.Detail
	}
	return f.OnNode
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
