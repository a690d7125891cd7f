package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/procfs"
	corev1 "k8s.io/api/core/v1"

	"github.com/kproxy-exporter/kproxy-exporter/lab/cluster"
	"github.com/kproxy-exporter/kproxy-exporter/lab/exporter"
	"github.com/kproxy-exporter/kproxy-exporter/lab/machine"
)

// Budgets of design: ours against kube-state-metrics' in the same run.
const (
	memoryBudget     = 0.2
	expositionBudget = 0.2
	scrapeBudget     = 0.5
)

const (
	peerName    = "kube-state-metrics"
	peerAddress = "10.99.0.1:8080"
	// window is how long the two are watched while pods change.
	window = 2 * time.Minute
	// interval is how often both are scraped meanwhile.
	interval = 15 * time.Second
	// scrapes is how many are timed, in turn.
	scrapes = 15
)

// process is a service on the control plane's machine that is measured.
type process struct {
	m       *machine.Machine
	service string
	url     string
	// series is what a node's line begins with in its exposition.
	series string
	user   string
}

// scale compares the cluster role with kube-state-metrics on one large cluster.
// Both run alone, one after the other, so that neither takes the other's time.
func scale(ctx context.Context, c *cluster.Cluster, cfg Config, out io.Writer, p *cluster.Progress) error {
	cp, err := c.Node(cluster.ControlPlane)
	if err != nil {
		return err
	}
	if err := p.Step(fmt.Sprintf("pretend %d nodes and %d pods", cfg.Scale.Nodes, cfg.Scale.Nodes+cfg.Scale.Pods), func() error {
		// They would mend what is pretended.
		for _, s := range []string{"kube-controller-manager", "kube-scheduler"} {
			if err := cp.StopService(s, syscall.SIGTERM); err != nil {
				return err
			}
		}
		return errors.Join(exporter.Apply(ctx, c, cfg.Root), populate(ctx, c, cfg.Scale), answerForNodes(cp))
	}); err != nil {
		return err
	}
	var ours, theirs usage
	var named []float64
	if err := p.Step("watch the exporter", func() error {
		began := time.Now()
		if err := exporter.Start(ctx, c, cfg.Root); err != nil {
			return err
		}
		p := process{cp, exporter.Service, "http://" + exporter.Address + "/metrics", "kproxy_healthy{", "system:serviceaccount:" + exporter.Name + ":" + exporter.Name}
		if ours, err = watch(ctx, c, p, began, cfg.Scale); err != nil {
			return err
		}
		named, err = timeToName(ctx, c, p)
		return err
	}); err != nil {
		return fmt.Errorf("%w\n%s", err, exporter.Log(c))
	}
	if err := p.Step("watch "+peerName, func() error {
		began := time.Now()
		if err := startPeer(c, cp); err != nil {
			return err
		}
		theirs, err = watch(ctx, c, process{cp, peerName, "http://" + peerAddress + "/metrics", "kube_node_info{", cluster.Peer}, began, cfg.Scale)
		return err
	}); err != nil {
		return fmt.Errorf("%w\n%s", err, cp.Tail(peerName, 20))
	}
	if err := p.Step("time scrapes of both in turn", func() error {
		for range scrapes {
			for _, one := range []struct {
				u   *usage
				url string
			}{{&ours, "http://" + exporter.Address + "/metrics"}, {&theirs, "http://" + peerAddress + "/metrics"}} {
				s, err := scrape(cp, one.url, "")
				if err != nil {
					return err
				}
				one.u.scrapes = append(one.u.scrapes, s.Seconds)
			}
		}
		return nil
	}); err != nil {
		return err
	}
	fmt.Fprintf(out, "\n%d nodes, %d kube-proxy pods, %d other pods; then pods change, and both are scraped every %s.\n",
		cfg.Scale.Nodes, cfg.Scale.Nodes, cfg.Scale.Pods, interval)
	err = print(out, peerName, []figure{
		{"resident memory, highest", "MB", ours.peakMB, theirs.peakMB, 0},
		{"resident memory, at the end", "MB", ours.residentMB, theirs.residentMB, memoryBudget},
		{"exposition", "MB", ours.expositionMB, theirs.expositionMB, expositionBudget},
		{"scrape, median", "s", median(ours.scrapes), median(theirs.scrapes), scrapeBudget},
		{"start to first whole scrape", "s", ours.ready, theirs.ready, 0},
		{"CPU to get there", "s", ours.readyCPU, theirs.readyCPU, 0},
		{"CPU while pods change", "% of a core", ours.churnCPU, theirs.churnCPU, 0},
		{"API requests to get there", "", float64(ours.startRequests), float64(theirs.startRequests), 0},
		{"API requests while pods change", "", float64(ours.churnRequests), float64(theirs.churnRequests), 0},
	})
	fmt.Fprintf(out, "From the change of a node's condition in the API to its cause in the metrics: median %.3f s, longest %.3f s of %d.\n", median(named), slices.Max(named), len(named))
	fmt.Fprintf(out, "Of the pods %.2f %% changed in a minute while ours was measured, %.2f %% for theirs.\n", ours.churnRate, theirs.churnRate)
	fmt.Fprintf(out, "The exporter asked the API server: %s\n", strings.Join(ours.verbs, ", "))
	return err
}

// answerForNodes makes every pretended node's kube-proxy ports answer.
func answerForNodes(cp *machine.Machine) error {
	if _, err := cp.Run("ip", "route", "add", "local", nodeRange, "dev", "lo"); err != nil {
		return err
	}
	return cp.StartService(machine.Service{Name: "ports", Argv: []string{"/opt/lab/kproxy-lab", "answer", "--listen=:10249", "--listen=:10256"}})
}

func startPeer(c *cluster.Cluster, cp *machine.Machine) error {
	const path = "/etc/kubernetes/peer.conf"
	kubeconfig, err := c.AdminKubeconfig("https://"+cluster.APIAddress, cluster.Peer)
	if err != nil {
		return err
	}
	if err := cp.WriteFile(path, kubeconfig, 0o600); err != nil {
		return err
	}
	return cp.StartService(machine.Service{Name: peerName, Argv: []string{
		"/opt/lab/kube-state-metrics", "--kubeconfig=" + path, "--resources=pods,nodes,daemonsets", "--namespaces=kube-system", "--host=10.99.0.1",
	}})
}

// usage is what a process took.
type usage struct {
	ready, readyCPU    float64 // seconds
	peakMB, residentMB float64
	expositionMB       float64
	churnCPU           float64 // percent of a core
	startRequests      int
	churnRequests      int
	churnRate          float64 // percent of the pods in a minute
	verbs              []string
	scrapes            []float64 // seconds
}

// watch waits until a process shows every node, then measures it while pods
// change, and leaves it running.
func watch(ctx context.Context, c *cluster.Cluster, p process, began time.Time, s Scale) (usage, error) {
	var u usage
	for {
		if err := ctx.Err(); err != nil {
			return u, err
		}
		got, err := scrape(p.m, p.url, p.series)
		if err == nil && got.Lines >= s.Nodes {
			break
		}
		if time.Since(began) > 3*time.Minute {
			return u, fmt.Errorf("%s shows %d of %d nodes after 3m: %w", p.service, got.Lines, s.Nodes, err)
		}
		time.Sleep(200 * time.Millisecond) // polling an HTTP page
	}
	u.ready = time.Since(began).Seconds()
	atStart, err := p.stat()
	if err != nil {
		return u, err
	}
	u.readyCPU = atStart.cpu
	before, err := p.requests()
	if err != nil {
		return u, err
	}
	u.startRequests = len(before)
	client, err := c.Client()
	if err != nil {
		return u, err
	}
	churning, stop := context.WithTimeout(ctx, window)
	defer stop()
	failed := make(chan error, 1)
	go func() {
		changes, err := churn(churning, client, s)
		u.churnRate = 100 * float64(changes) / float64(s.Nodes+s.Pods) / window.Minutes()
		failed <- err
	}()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for churning.Err() == nil {
		got, err := scrape(p.m, p.url, p.series)
		if err != nil {
			return u, err
		}
		u.expositionMB = float64(got.Bytes) / 1e6
		select {
		case <-tick.C:
		case <-churning.Done():
		}
	}
	if err := <-failed; err != nil {
		return u, err
	}
	atEnd, err := p.stat()
	if err != nil {
		return u, err
	}
	u.churnCPU = 100 * (atEnd.cpu - atStart.cpu) / window.Seconds()
	u.residentMB, u.peakMB = atEnd.residentMB, atEnd.peakMB
	after, err := p.requests()
	if err != nil {
		return u, err
	}
	u.churnRequests = len(after) - len(before)
	u.verbs = count(after)
	return u, nil
}

// timeToName changes a node's condition, again and again, and returns how many
// seconds it took each time until the metrics named the cause.
func timeToName(ctx context.Context, c *cluster.Cluster, p process) ([]float64, error) {
	client, err := c.Client()
	if err != nil {
		return nil, err
	}
	set := func(i int, status corev1.ConditionStatus) error {
		patch := fmt.Sprintf(`{"status":{"conditions":[{"type":"MemoryPressure","status":%q}]}}`, status)
		_, err := client.CoreV1().Nodes().PatchStatus(ctx, nodeName(i), []byte(patch))
		return err
	}
	var out []float64
	for i := range 15 {
		began := time.Now()
		if err := set(i, corev1.ConditionTrue); err != nil {
			return nil, err
		}
		line := fmt.Sprintf("kproxy_cause_active{cause=\"node_pressure\",node=%q} 1", nodeName(i))
		for {
			s, err := scrape(p.m, p.url, line)
			if err != nil {
				return nil, err
			}
			if s.Lines == 1 {
				break
			}
			if time.Since(began) > time.Minute {
				return nil, fmt.Errorf("no metric says %s", line)
			}
		}
		out = append(out, time.Since(began).Seconds())
		if err := set(i, corev1.ConditionFalse); err != nil {
			return nil, err
		}
	}
	return out, nil
}

type stat struct{ cpu, residentMB, peakMB float64 }

// stat reads what the kernel counts for the process.
func (p process) stat() (stat, error) {
	states, err := p.m.Services()
	if err != nil {
		return stat{}, err
	}
	i := slices.IndexFunc(states, func(s machine.ServiceState) bool { return s.Name == p.service && s.Running })
	if i < 0 {
		return stat{}, fmt.Errorf("%s does not run", p.service)
	}
	fs, err := procfs.NewFS(p.m.Path("/proc"))
	if err != nil {
		return stat{}, err
	}
	proc, err := fs.Proc(states[i].PID)
	if err != nil {
		return stat{}, err
	}
	return statOf(proc)
}

func statOf(proc procfs.Proc) (stat, error) {
	now, err := proc.Stat()
	if err != nil {
		return stat{}, err
	}
	status, err := proc.NewStatus()
	if err != nil {
		return stat{}, err
	}
	return stat{cpu: now.CPUTime(), residentMB: float64(status.VmRSS) / 1e6, peakMB: float64(status.VmHWM) / 1e6}, nil
}

// requests is what the API server noted of the process: "verb resource" each.
func (p process) requests() ([]string, error) {
	f, err := os.Open(p.m.Path(cluster.AuditLog))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []string
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e struct {
			Verb, RequestURI string
			User             struct{ Username string }
			ObjectRef        struct{ Resource, Subresource string }
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("audit log: %w", err)
		}
		if e.User.Username != p.user {
			continue
		}
		what := strings.TrimSuffix(e.Verb+" "+e.ObjectRef.Resource+"/"+e.ObjectRef.Subresource, "/")
		if e.ObjectRef.Resource == "" {
			what = e.Verb + " " + strings.Split(e.RequestURI, "?")[0]
		}
		out = append(out, what)
	}
	return out, lines.Err()
}

func count(requests []string) []string {
	n := map[string]int{}
	for _, r := range requests {
		n[r]++
	}
	var out []string
	for r, k := range n {
		out = append(out, fmt.Sprintf("%d %s", k, r))
	}
	slices.Sort(out)
	return out
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
