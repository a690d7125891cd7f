package matrix

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/kproxy-exporter/kproxy-exporter/lab/cluster"
	"github.com/kproxy-exporter/kproxy-exporter/lab/exporter"
)

// world is a lab, the exporter installed in it as users do, and one beside it
// with the same rights, whose metrics are judged: it can be asked while the API
// server is gone.
type world struct {
	*cluster.Cluster
	root string
	// urls are the exporters whose metrics are judged together.
	urls []string
	// more are expositions of others that are judged too; nil if there are none.
	more func(context.Context) ([]string, error)
	// named is done when a fault has its name, before it is healed.
	named func()
	// lost is whether the lab did not fall silent after a fault.
	lost bool
}

func start(t *testing.T, name, mode string) *world {
	t.Helper()
	return startWith(t, name, mode, map[string]string{"exporter": exporter.Address})
}

func startWith(t *testing.T, name, mode string, forwards map[string]string) *world {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, ".lab-matrix-"+name)
	down := func() {
		if err := cluster.Down(dir); err != nil {
			t.Errorf("lab down: %v", err)
		}
	}
	down()
	t.Cleanup(down)
	bin := filepath.Join(root, "lab/bin")
	c, err := cluster.Up(t.Context(), cluster.Config{Dir: dir, Bin: bin, Nodes: 2, Mode: mode, Forwards: forwards},
		cluster.NewProgress(logWriter{t}, filepath.Join(bin, "timings.json")))
	if err != nil {
		t.Fatal(err)
	}
	return &world{Cluster: c, root: root, urls: []string{"http://" + c.Listen["exporter"]}}
}

// exporterArgs make it notice sooner than users need it to.
var exporterArgs = []string{"--api.stale-after", "5s", "--ports.interval", "2s"}

// install puts the very image and manifest that users get into the lab and
// wants it to say that all is well.
func (w *world) install(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	pod, _, err := exporter.Install(ctx, w.Cluster, w.root)
	if err != nil {
		t.Fatal(err)
	}
	if err := exporter.Start(ctx, w.Cluster, w.root, exporterArgs...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if log, exit, err := exporter.Stop(w.Cluster); err != nil || exit != "exit code 0" {
			t.Errorf("the exporter did not end cleanly: %s %v\n%s", exit, err, log)
		}
	})
	if _, err := w.await(ctx, namedWithin, func(s state) string { return s.notSilent(2) }); err != nil {
		t.Fatal(err)
	}
	client, err := w.Client()
	if err != nil {
		t.Fatal(err)
	}
	body, err := client.CoreV1().Pods(exporter.Name).ProxyGet("http", pod, "19249", "metrics", nil).DoRaw(ctx)
	if err != nil {
		t.Fatalf("the installed exporter: %v", err)
	}
	for _, n := range []string{"n1", "n2"} {
		if want := fmt.Sprintf(`kproxy_primary_cause{cause="none",detail="",node="%s"} 1`, n); !strings.Contains(string(body), want) {
			t.Errorf("the installed exporter does not say %s:\n%s", want, body)
		}
	}
}

type logWriter struct{ t *testing.T }

func (l logWriter) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimRight(string(b), "\n"))
	return len(b), nil
}

// noRefusals wants that the API server refused the exporter nothing.
func (w *world) noRefusals(t *testing.T) {
	t.Helper()
	if log := exporter.Log(w.Cluster); strings.Contains(log, "refuses this reader") {
		t.Errorf("the rights in deploy/cluster.yaml do not suffice:\n%s", log)
	}
}

// get asks the exporter that is judged.
func (w *world) get(ctx context.Context, path string) (string, error) {
	return get(ctx, w.urls[0]+path)
}

func get(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, res.Status, b)
	}
	return string(b), err
}

// state is what the exporter says now.
type state struct {
	primary map[string]string // node -> cause/detail
	active  map[string][]string
	judged  map[string]int // node -> causes with a sample
	// verdicts are those of probes that are 1, by "node service module".
	verdicts map[string]string
	// behind is for how long the canary has not been followed, latencies how long
	// it took to follow, by node.
	behind    map[string]float64
	latencies map[string]latency
	// audited are nodes that know how their rules stand.
	audited map[string]bool
	// resident is the memory of the exporter that takes most, in bytes.
	resident float64
}

// latency is how often something was measured, and what all took together, in seconds.
type latency struct {
	count uint64
	sum   float64
}

func (w *world) scrape(ctx context.Context) (state, error) {
	s := state{primary: map[string]string{}, active: map[string][]string{}, judged: map[string]int{}, verdicts: map[string]string{}, behind: map[string]float64{}, latencies: map[string]latency{}, audited: map[string]bool{}}
	for _, url := range w.urls {
		body, err := get(ctx, url+"/metrics")
		if err != nil {
			return s, err
		}
		if err := s.read(body); err != nil {
			return s, err
		}
	}
	if w.more != nil {
		bodies, err := w.more(ctx)
		if err != nil {
			return s, err
		}
		for _, body := range bodies {
			if err := s.read(body); err != nil {
				return s, err
			}
		}
	}
	return s, nil
}

// read adds what an exposition says.
func (s *state) read(body string) error {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		return err
	}
	label := func(m *dto.Metric, name string) string {
		for _, l := range m.Label {
			if l.GetName() == name {
				return l.GetValue()
			}
		}
		return ""
	}
	for _, m := range families["process_resident_memory_bytes"].GetMetric() {
		s.resident = max(s.resident, m.GetGauge().GetValue())
	}
	for _, m := range families["kproxy_audit_drift"].GetMetric() {
		s.audited[label(m, "node")] = true
	}
	for _, m := range families["kproxy_canary_behind_seconds"].GetMetric() {
		s.behind[label(m, "node")] = m.GetGauge().GetValue()
	}
	for _, m := range families["kproxy_canary_latency_seconds"].GetMetric() {
		s.latencies[label(m, "node")] = latency{m.GetHistogram().GetSampleCount(), m.GetHistogram().GetSampleSum()}
	}
	for _, m := range families["kproxy_probe_verdict"].GetMetric() {
		if m.GetGauge().GetValue() == 1 {
			from := label(m, "node")
			if v := label(m, "vantage"); v != "host" {
				from += "/" + v
			}
			s.verdicts[from+" "+label(m, "service")+" "+label(m, "module")] = label(m, "verdict")
		}
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
	return nil
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

// describe is for a person who reads a failure.
func (w *world) describe(ctx context.Context) string {
	var out strings.Builder
	for _, args := range [][]string{
		{"get", "pods,nodes,daemonsets", "-A", "-o", "wide"},
		{"-n", "kube-system", "get", "events", "--sort-by=.lastTimestamp"},
		{"-n", exporter.NodeName, "logs", "-l", "app.kubernetes.io/name=" + exporter.NodeName, "--prefix", "--tail=8"},
		{"get", "endpointslices", "-A", "-o", `go-template={{range .items}}{{.metadata.namespace}}/{{.metadata.name}} {{.metadata.resourceVersion}} {{range .endpoints}}{{.addresses}}{{.conditions}} {{end}}{{"\n"}}{{end}}`},
	} {
		text, err := w.Kubectl(ctx, "", args...)
		lines := strings.Split(strings.TrimSpace(text), "\n")
		fmt.Fprintln(&out, strings.Join(lines[max(0, len(lines)-15):], "\n"), err)
	}
	if s, err := w.scrape(ctx); err == nil {
		fmt.Fprintf(&out, "exporter: %+v\n", s)
	}
	for _, url := range w.urls {
		if body, err := get(ctx, url+"/causes?format=json"); err == nil {
			fmt.Fprintln(&out, body)
		}
	}
	return out.String()
}
