package matrix

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kproxy-exporter/kproxy-exporter/lab/exporter"
	"github.com/kproxy-exporter/kproxy-exporter/lab/web"
)

// probeInterval is how often each Service is asked here.
const probeInterval = 3 * time.Second

// TestProbes breaks Services and the ways to them: each node's verdict must be
// the right one, and only broken rules may be called a cause of kube-proxy's.
func TestProbes(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"nftables", "iptables"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			w := startWith(t, "probes-"+mode, mode, map[string]string{"n1": exporter.NodeAddress(1), "n2": exporter.NodeAddress(2)})
			if err := web.Install(ctx, w.Cluster); err != nil {
				t.Fatal(err)
			}
			if err := exporter.InstallNode(ctx, w.Cluster, w.root, "--api.interval=3s", "--probe.interval="+probeInterval.String(), "--probe.timeout=1s"); err != nil {
				t.Fatal(err)
			}
			if err := exporter.InstallProbe(ctx, w.Cluster, w.root, "--probe.interval="+probeInterval.String(), "--probe.timeout=1s"); err != nil {
				t.Fatal(err)
			}
			w.urls = []string{"http://" + w.Listen["n1"], "http://" + w.Listen["n2"]}
			w.more = w.podVantage
			well := func(s state) string {
				for _, n := range []string{"n1", "n2", "n1/pod", "n2/pod"} {
					for service, want := range map[string]string{
						"default/kubernetes https": "ok", "web/web http": "ok", "web/web udp": "ok", "web/empty tcp": "no_endpoints", "kube-system/kube-dns dns": "ok",
					} {
						if got := s.verdicts[n+" "+service]; got != want {
							return fmt.Sprintf("%s finds %s %q, want %s", n, service, got, want)
						}
					}
				}
				for k, v := range s.verdicts {
					if v != "ok" && v != "no_endpoints" { // what stands on the nodes, too
						return k + " is still " + v
					}
				}
				return s.notSilent(2)
			}
			if _, err := w.await(ctx, time.Minute, well); err != nil {
				t.Fatalf("%v\n%s", err, w.describe(ctx))
			}
			var rows []string
			for i := range web.Faults {
				f := &web.Faults[i]
				t.Run(f.Name, func(t *testing.T) {
					took := w.tryProbe(t, f)
					rows = append(rows, fmt.Sprintf("%-26s %-10s elsewhere %-8s after %4.1fs", f.Name, f.Here, f.Elsewhere, took.Seconds()))
					if _, err := w.await(ctx, healWithin, well); err != nil {
						t.Errorf("healed: %v\n%s", err, w.describe(ctx))
					}
				})
			}
			t.Logf("%s, each Service asked every %s:\n%s", mode, probeInterval, strings.Join(rows, "\n"))
			walkCanary(t, w)
		})
	}
}

// tryProbe breaks a Service and waits for the verdict of both nodes.
func (w *world) tryProbe(t *testing.T, f *web.Fault) time.Duration {
	ctx := t.Context()
	wrong := map[string]bool{}
	look := func(s state) {
		for n, causes := range s.active {
			// The audit names at once what the probes name after two rounds.
			if f.Here != "dataplane" || n != node || slices.ContainsFunc(causes, func(c string) bool { return c != "vip_unreachable" && c != "rules_stale" }) {
				wrong[fmt.Sprintf("%s was called %v", n, causes)] = true
			}
		}
		for k, v := range s.verdicts {
			n, service, _ := strings.Cut(k, " ")
			service, _, _ = strings.Cut(service, " ")
			if ok := v == "ok" || v == "no_endpoints" || v == f.Elsewhere || v == f.Here && strings.HasPrefix(n, node) || v == f.Pod && n == node+"/pod" || v == f.PodElsewhere && n == "n2/pod"; !ok || service != f.Service && v == "dataplane" {
				wrong[fmt.Sprintf("%s finds %s", k, v)] = true
			}
		}
	}
	if err := f.Inject(ctx, w.Cluster, node); err != nil {
		t.Fatal(err)
	}
	took, err := w.await(ctx, time.Minute, func(s state) string {
		look(s)
		for n, want := range map[string]string{"n1": f.Here, "n1/pod": cmp.Or(f.Pod, f.Here), "n2": f.Elsewhere, "n2/pod": cmp.Or(f.PodElsewhere, f.Elsewhere)} {
			if strings.HasSuffix(n, "/pod") && f.Name == "rules-of-a-node-port-gone" {
				want = "ok" // which is asked from the node alone
			}
			if got := s.worst(n, f.Service); got != want {
				return fmt.Sprintf("%s finds %s %q, want %s", n, f.Service, got, want)
			}
		}
		if f.Here == "dataplane" && !slices.Contains(s.active[node], "vip_unreachable") {
			return fmt.Sprintf("%s is called %s", node, s.primary[node])
		}
		return ""
	})
	if err != nil {
		t.Errorf("%v\n%s", err, w.describe(ctx))
	}
	if err := f.Heal(context.WithoutCancel(ctx), w.Cluster, node); err != nil {
		t.Fatal(err)
	}
	for what := range wrong {
		t.Error(what)
	}
	return took
}

// podVantage is what the probers in the pods' network say.
func (w *world) podVantage(ctx context.Context) ([]string, error) {
	client, err := w.Client()
	if err != nil {
		return nil, err
	}
	pods, err := client.CoreV1().Pods(exporter.ProbeName).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var out []string
	for _, p := range pods.Items {
		body, err := client.CoreV1().Pods(exporter.ProbeName).ProxyGet("http", p.Name, "19249", "metrics", nil).DoRaw(ctx)
		if err != nil {
			return nil, err
		}
		out = append(out, string(body))
	}
	return out, nil
}

// worst is the verdict of a Service that is not ok, if one of its ports has one.
func (s state) worst(n, service string) string {
	worst := ""
	for k, v := range s.verdicts {
		if strings.HasPrefix(k, n+" "+service+" ") && (worst == "" || worst == "ok") {
			worst = v
		}
	}
	return worst
}
