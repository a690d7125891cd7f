package collector

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kproxy-exporter/kproxy-exporter/collector/kubeapi"
	"github.com/kproxy-exporter/kproxy-exporter/collector/kubeapi/apitest"
)

// TestDay lives through a day of faults and heals at random, on several nodes at
// once, while the API server goes away, ends watches, and forgets versions: after
// each, every node's first cause must be the truth, or unknown where nobody can know.
// KPROXY_DAY_SEED repeats a day.
func TestDay(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("KPROXY_DAY_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		const nodes = 12
		api := apitest.New()
		for i := range nodes {
			api.Put(node(dayNode(i)), pod(dayNode(i)))
		}
		api.Put(daemonSet("kube-proxy", "kube-proxy", func(d *appsv1.DaemonSet) { d.Spec.Template.Spec.Tolerations = nil }))
		wire := apitest.NewPipes(api)
		client, err := kubeapi.New(wire.Config())
		if err != nil {
			t.Fatal(err)
		}
		c, err := NewCluster(Config{API: client, Namespace: "kube-system", Selectors: []string{"k8s-app=kube-proxy"}, StaleAfter: time.Minute, Logger: log.NewNopLogger(), Klog: logr.Discard()})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { c.Run(ctx); close(done) }()
		synctest.Wait()
		if ok, lacks := c.Ready(); !ok {
			t.Fatalf("not ready: %s", lacks)
		}
		d := &day{t: t, c: c, api: api, wire: wire, seed: seed, random: rand.New(rand.NewPCG(seed, 0)), faults: make([]*dayFault, nodes), counts: map[string]int{}}
		for time.Since(begin) < 24*time.Hour && !t.Failed() {
			i := d.random.IntN(nodes)
			switch {
			case d.random.IntN(10) < 2, wire.IsAway() && d.random.IntN(2) == 0:
				d.disturb()
			case d.faults[i] == nil:
				d.faults[i] = &dayFaults[d.random.IntN(len(dayFaults))]
				d.write(i)
				d.counts[d.faults[i].want]++
			default:
				d.faults[i] = nil
				d.write(i)
				d.counts["healed"]++
			}
			// Longer than any grace, and than client-go waits before it asks again.
			for rest := 4*time.Minute + time.Duration(d.random.IntN(60))*time.Second; rest > 0; rest -= 15 * time.Second {
				c.Report() // as Prometheus does
				time.Sleep(min(rest, 15*time.Second))
			}
			d.check()
		}
		t.Logf("24 hours, seed %d: %v", seed, d.counts)
		cancel()
		<-done
		wire.Close()
		synctest.Wait()
	})
}

func dayNode(i int) string { return fmt.Sprintf("n%02d", i) }

// dayFault is what is wrong with a node, and how it must be called.
type dayFault struct {
	want string // cause/detail
	node func(*corev1.Node)
	pod  func(*corev1.Pod)
	gone bool // there is no pod
}

func readyIs(status corev1.ConditionStatus, message string) func(*corev1.Node) {
	return func(n *corev1.Node) {
		n.Status.Conditions[0] = corev1.NodeCondition{Type: corev1.NodeReady, Status: status, Message: message, LastTransitionTime: metav1.Now()}
	}
}

func underPressure(kind corev1.NodeConditionType) func(*corev1.Node) {
	return func(n *corev1.Node) {
		n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()})
	}
}

// waits is a container that waits, and how it ended before, if it did.
func waits(reason, message string, last *corev1.ContainerStateTerminated) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.Conditions[0] = corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: metav1.Now()}
		c := corev1.ContainerStatus{Name: "kube-proxy", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}}
		if last != nil {
			ended := *last
			ended.ContainerID, ended.StartedAt, ended.FinishedAt = fmt.Sprint("containerd://", time.Now().UnixNano()), metav1.Now(), metav1.Now()
			c.RestartCount, c.LastTerminationState.Terminated = 4, &ended
		}
		p.Status.ContainerStatuses[0] = c
	}
}

var dayFaults = []dayFault{
	{want: "node_not_ready/not_ready", node: readyIs(corev1.ConditionFalse, "container runtime network not ready")},
	{want: "node_not_ready/unknown", node: readyIs(corev1.ConditionUnknown, "Kubelet stopped posting node status.")},
	{want: "node_pressure/disk", node: underPressure(corev1.NodeDiskPressure)},
	{want: "node_pressure/pid", node: underPressure(corev1.NodePIDPressure)},
	{want: "missing_on_node/not_created", gone: true},
	{want: "missing_on_node/taint", gone: true, node: func(n *corev1.Node) {
		n.Spec.Taints = []corev1.Taint{{Key: "maintenance", Effect: corev1.TaintEffectNoExecute}}
	}},
	{want: "image_pull/not_found", pod: waits("ImagePullBackOff", `Back-off pulling image "x": manifest unknown`, nil)},
	{want: "image_pull/unreachable", pod: waits("ErrImagePull", "dial tcp: lookup registry.example: no such host", nil)},
	{want: "crash_loop/other", pod: waits("CrashLoopBackOff", "back-off", &corev1.ContainerStateTerminated{ExitCode: 1, Reason: "Error"})},
	{want: "oom_killed/container", pod: waits("CrashLoopBackOff", "back-off", &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "OOMKilled"})},
	{want: "evicted/memory", pod: func(p *corev1.Pod) {
		p.Status = corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted", Message: "The node was low on resource: memory."}
	}},
}

// day is the truth, and who is judged by it.
type day struct {
	t      *testing.T
	c      *Cluster
	api    *apitest.Server
	wire   *apitest.Pipes
	seed   uint64
	random *rand.Rand
	faults []*dayFault // by node; nil if it is well
	pods   int
	counts map[string]int
}

// write makes a node's objects what the truth is; its pod is another one each time.
func (d *day) write(i int) {
	name, f := dayNode(i), d.faults[i]
	if f == nil {
		f = &dayFault{}
	}
	n := node(name)
	if f.node != nil {
		f.node(n)
	}
	d.api.Put(n)
	d.api.Delete(pod(name))
	if f.gone {
		return
	}
	d.pods++
	d.api.Put(pod(name, func(p *corev1.Pod) {
		p.UID = types.UID(fmt.Sprint("uid-", d.pods))
		p.CreationTimestamp = metav1.Now()
		p.Status.Conditions[0].LastTransitionTime = metav1.Now()
		p.Status.ContainerStatuses[0].State.Running.StartedAt = metav1.Now()
		if f.pod != nil {
			f.pod(p)
		}
	}))
}

// disturb does something to the API server.
func (d *day) disturb() {
	var what string
	switch r := d.random.IntN(4); {
	case d.wire.IsAway():
		what = "API server back"
		d.wire.Away(false)
	case r == 0:
		what = "API server away"
		d.wire.Away(true)
	case r == 1:
		what = "versions forgotten"
		d.api.Forget()
		d.api.EndWatches()
	case r == 2:
		what = "garbage"
		d.api.Garble([]byte("\x00\x00\x00\x04what"))
	default:
		what = "watches ended"
		d.api.EndWatches()
	}
	d.counts[what]++
}

// check compares every verdict with the truth.
func (d *day) check() {
	away := d.wire.IsAway()
	reports := d.c.Report().Nodes
	if len(reports) != len(d.faults) {
		d.t.Errorf("seed %d: %d nodes", d.seed, len(reports))
	}
	for _, r := range reports {
		var i int
		if _, err := fmt.Sscanf(r.Node, "n%d", &i); err != nil {
			d.t.Fatal(err)
		}
		got, want := "none", "none"
		if r.Primary != nil {
			got = r.Primary.Cause + "/" + r.Primary.Detail
		} else if r.Healthy == nil {
			got = "unknown"
		}
		switch f := d.faults[i]; {
		case away:
			want = "unknown"
		case f != nil:
			want = f.want
		}
		if d.counts["verdicts"]++; got != want {
			d.t.Errorf("seed %d, %s after the beginning: %s is called %s, want %s (away: %t); unknown: %v", d.seed, time.Since(begin), r.Node, got, want, away, r.Unknown)
		}
	}
	for _, r := range d.c.sources.readers {
		if s := r.contact.state(time.Now(), time.Minute); d.t.Failed() && (!s.fresh || !s.ok) {
			d.t.Logf("reader %s, last well %s ago: %s", r.contact.reader, time.Since(s.lastOK), r.contact.lastError)
		}
	}
}
