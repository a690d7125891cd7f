package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/lab/cluster"
	"github.com/kproxy-exporter/kproxy-exporter/lab/exporter"
	"github.com/kproxy-exporter/kproxy-exporter/lab/machine"
)

// Budgets of a probe: the CPU of the whole exporter against a bare connection.
const (
	tcpBudget   = 1.5
	httpBudget  = 2.5
	probeWindow = 20 * time.Second
	dials       = 5000
	answerPort  = 18080
	// A server that is late by as much as a network may be: the lab's kernel has no
	// netem to make one.
	latePort = 18081
	late     = 50 * time.Millisecond
	// accuracyBudget is how much longer than a bare client it may say that it took.
	accuracyBudget = 1.05
)

// probeCost measures what a probe costs, tcp and http, with few and many targets.
func probeCost(ctx context.Context, c *cluster.Cluster, cfg Config, out io.Writer, p *cluster.Progress) error {
	m, err := c.Node(cluster.NodeName(1))
	if err != nil {
		return err
	}
	if err := m.StartService(machine.Service{Name: "answer", Argv: []string{"/opt/lab/kproxy-lab", "answer", fmt.Sprintf("--listen=:%d", answerPort)}}); err != nil {
		return err
	}
	var figures []figure
	for _, n := range []int{10, 100, 1000} {
		// A closed connection keeps its port for a minute: no more than 200 a second.
		every := max(time.Second, time.Duration(n)*time.Second/200)
		var alone float64
		if err := p.Step(fmt.Sprintf("install the node role, asking every %s, and watch it without targets of ours", every), func() error {
			if err := exporter.InstallNode(ctx, c, cfg.Root, "--probe.interval="+every.String(), "--probe.timeout=500ms"); err != nil {
				return err
			}
			alone, _, err = probing(ctx, m)
			return err
		}); err != nil {
			return err
		}
		bare, err := dial(m, every/time.Duration(2*n))
		if err != nil {
			return err
		}
		for _, module := range []string{"tcp", "http"} {
			what := fmt.Sprintf("%s, %d targets", module, n)
			if err := p.Step("watch it ask "+what, func() error {
				if err := c.Apply(ctx, targetsManifest(module, n, answerPort)); err != nil {
					return err
				}
				if err := awaitTargets(ctx, m, n); err != nil {
					return err
				}
				cpu, probes, err := probing(ctx, m)
				if err != nil {
					return err
				}
				budget := tcpBudget
				if module == "http" {
					budget = httpBudget
				}
				figures = append(figures, figure{what, "us CPU a probe", 1e6 * (cpu - alone) / probes, 1e6 * bare, budget})
				_, err = c.Kubectl(ctx, "", "delete", "namespace", "bench", "--wait")
				return err
			}); err != nil {
				return err
			}
		}
	}
	accuracy, err := probeAccuracy(ctx, c, m, p)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\nHow exact a probe is: a server that answers after %s, and how late probes begin themselves.\n", late)
	if err := print(out, "bare", accuracy); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nWhat a probe costs the whole exporter beyond what it takes without, against connecting and closing in Go at the same rate; half of them by a Service's address.\n")
	return print(out, "bare", figures)
}

// probeAccuracy measures, with 1,000 targets, what the exporter says of a server
// that is late by a known time, beside a bare client.
func probeAccuracy(ctx context.Context, c *cluster.Cluster, m *machine.Machine, p *cluster.Progress) ([]figure, error) {
	const n = 1000
	const every = n * time.Second / 200
	if err := m.StartService(machine.Service{Name: "late", Argv: []string{"/opt/lab/kproxy-lab", "answer", fmt.Sprintf("--listen=:%d", latePort), "--late=" + late.String()}}); err != nil {
		return nil, err
	}
	var ours, delay, bare float64
	err := p.Step(fmt.Sprintf("watch it ask %d targets that answer after %s", n, late), func() error {
		if err := c.Apply(ctx, targetsManifest("http", n, latePort)); err != nil {
			return err
		}
		if err := awaitTargets(ctx, m, n); err != nil {
			return err
		}
		answers, delays, err := meanOver(ctx, m)
		if err != nil {
			return err
		}
		ours, delay = answers, delays
		out, err := m.Run("/opt/lab/kproxy-lab", "dial", "--get", "--count=200", "--every="+(every/n).String(), fmt.Sprintf("%s:%d", cluster.NodeIP(1), latePort))
		if err != nil {
			return err
		}
		var d Dialled
		if err := json.Unmarshal([]byte(out), &d); err != nil {
			return err
		}
		bare = d.Answer
		_, err = c.Kubectl(ctx, "", "delete", "namespace", "bench", "--wait")
		return err
	})
	return []figure{
		{"http, 1000 targets, how long an answer takes on average", "ms", 1e3 * ours, 1e3 * bare, accuracyBudget},
		{"http, 1000 targets, how late a probe begins on average", "ms", 1e3 * delay, 0, 0},
	}, err
}

// meanOver is how long answers took, and how late probes began, on average over
// the window, in seconds.
func meanOver(ctx context.Context, m *machine.Machine) (answer, delay float64, err error) {
	read := func() (out [4]float64, err error) {
		for i, q := range [][]string{
			{"kproxy_probe_duration_seconds_sum{", `phase="answer"`, `service="bench/`}, {"kproxy_probe_duration_seconds_count{", `phase="answer"`, `service="bench/`},
			{"kproxy_probe_delay_seconds_sum{"}, {"kproxy_probe_delay_seconds_count{"},
		} {
			if out[i], err = sum(m, metricsURL, q[0], q[1:]...); err != nil {
				return out, err
			}
		}
		return out, nil
	}
	before, err := read()
	if err != nil {
		return 0, 0, err
	}
	select {
	case <-ctx.Done():
		return 0, 0, ctx.Err()
	case <-time.After(probeWindow):
	}
	after, err := read()
	if err != nil {
		return 0, 0, err
	}
	if after[1] == before[1] || after[3] == before[3] {
		return 0, 0, errors.New("nothing was probed")
	}
	return (after[0] - before[0]) / (after[1] - before[1]), (after[2] - before[2]) / (after[3] - before[3]), nil
}

// targetsManifest is Services of up to 100 ports, behind which the node itself
// answers.
func targetsManifest(module string, n, port int) string {
	var out strings.Builder
	out.WriteString("apiVersion: v1\nkind: Namespace\nmetadata: {name: bench}\n")
	for first := 0; first < n; first += 100 {
		var probes, ports, behind []string
		for i := first; i < min(n, first+100); i++ {
			probes = append(probes, fmt.Sprintf("%s:p%d", module, i))
			ports = append(ports, fmt.Sprintf("{name: p%d, port: %d}", i, 1000+i))
			behind = append(behind, fmt.Sprintf("{name: p%d, port: %d}", i, port))
		}
		fmt.Fprintf(&out, "---\napiVersion: v1\nkind: Service\nmetadata: {name: s%d, namespace: bench, annotations: {kproxy-exporter/probe: %q}}\nspec: {ports: [%s]}\n",
			first, strings.Join(probes, " "), strings.Join(ports, ", "))
		fmt.Fprintf(&out, "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s%d, namespace: bench, labels: {kubernetes.io/service-name: s%d}}\naddressType: IPv4\nports: [%s]\nendpoints: [{addresses: [%q]}]\n",
			first, first, strings.Join(behind, ", "), cluster.NodeIP(1))
	}
	return out.String()
}

// metricsURL is where the node role is scraped.
var metricsURL = "http://" + exporter.NodeAddress(1) + "/metrics"

// probed is how many attempts the exporter has counted: one scrape.
func probed(m *machine.Machine) (float64, error) { return sum(m, metricsURL, "kproxy_probes_total{") }

// failed is how many attempts at our targets failed.
func failed(m *machine.Machine) (float64, error) {
	ours, err := sum(m, metricsURL, "kproxy_probes_total{", `service="bench/`)
	if err != nil {
		return 0, err
	}
	well, err := sum(m, metricsURL, "kproxy_probes_total{", `result="ok",service="bench/`)
	return ours - well, err
}

func sum(m *machine.Machine, url, prefix string, holds ...string) (float64, error) {
	args := []string{"/opt/lab/kproxy-lab", "scrape", "--prefix=" + prefix}
	for _, h := range holds {
		args = append(args, "--holds="+h)
	}
	out, err := m.Run(append(args, url)...)
	if err != nil {
		return 0, err
	}
	var s Scraped
	return s.Sum, json.Unmarshal([]byte(out), &s)
}

// awaitTargets waits until nearly every target's Service was answered: with many
// on a busy machine one or the other is always late.
func awaitTargets(ctx context.Context, m *machine.Machine, n int) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		well, err := sum(m, metricsURL, `kproxy_probe_success{`, `service="bench/`)
		if err == nil && well >= .99*2*float64(n) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%.0f of %d ways to %d targets answer: %w", well, 2*n, n, errors.Join(err, ctx.Err()))
		case <-time.After(time.Second):
		}
	}
}

// probing is the exporter's CPU for the window, in which it is scraped once as
// Prometheus would, and how many probes it made.
func probing(ctx context.Context, m *machine.Machine) (cpu, probes float64, err error) {
	wrong, err := failed(m)
	if err != nil {
		return 0, 0, err
	}
	before, err := both(m)
	if err != nil {
		return 0, 0, err
	}
	first, err := probed(m)
	if err != nil {
		return 0, 0, err
	}
	select {
	case <-ctx.Done():
		return 0, 0, ctx.Err()
	case <-time.After(probeWindow):
	}
	after, err := both(m)
	if err != nil {
		return 0, 0, err
	}
	last, err := probed(m)
	if err != nil {
		return 0, 0, err
	}
	wrongNow, err := failed(m)
	if err != nil {
		return 0, 0, err
	}
	if wrongNow-wrong > (last-first)/100 { // a busy machine may be late now and then
		return 0, 0, fmt.Errorf("%.0f of %.0f probes failed", wrongNow-wrong, last-first)
	}
	return after[0].cpu - before[0].cpu, last - first, nil
}

// dial is the CPU of a bare connection on the node, at the same rate.
func dial(m *machine.Machine, every time.Duration) (float64, error) {
	count := min(dials, int(probeWindow/every))
	out, err := m.Run("/opt/lab/kproxy-lab", "dial", fmt.Sprintf("--count=%d", count), "--every="+every.String(), fmt.Sprintf("%s:%d", cluster.NodeIP(1), answerPort))
	if err != nil {
		return 0, err
	}
	var d Dialled
	return d.CPU, json.Unmarshal([]byte(out), &d)
}
