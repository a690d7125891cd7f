package collector

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"
	"k8s.io/klog/v2"

	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
)

// TestMain silences client-go, which complains of each of an API server's failures,
// and then sleeps by a clock that is not that of a bubble.
func TestMain(m *testing.M) {
	klog.SetLogger(logr.Discard())
	utilruntime.ErrorHandlers = nil
	os.Exit(m.Run())
}

// begin is when a synctest bubble's clock starts.
var begin = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

var update = flag.Bool("update", false, "write the golden file")

var old = metav1.NewTime(begin.Add(-24 * time.Hour))

func node(name string, change ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: old, Labels: map[string]string{corev1.LabelOSStable: "linux"}},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{
			{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastTransitionTime: old},
			{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionFalse, LastTransitionTime: old},
		}},
	}
	for _, c := range change {
		c(n)
	}
	return n
}

func pod(onNode string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "kube-proxy-" + onNode, Namespace: "kube-system", UID: "uid-" + "x", CreationTimestamp: old, Labels: map[string]string{"k8s-app": "kube-proxy"}},
		Spec:       corev1.PodSpec{NodeName: onNode, Containers: []corev1.Container{{Name: "kube-proxy"}}},
		Status: corev1.PodStatus{
			Phase:             corev1.PodRunning,
			Conditions:        []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: old}},
			ContainerStatuses: []corev1.ContainerStatus{{Name: "kube-proxy", Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: old}}}},
		},
	}
	for _, c := range change {
		c(p)
	}
	return p
}

func daemonSet(name, label string, change ...func(*appsv1.DaemonSet)) *appsv1.DaemonSet {
	d := &appsv1.DaemonSet{
		Status:     appsv1.DaemonSetStatus{DesiredNumberScheduled: 1, UpdatedNumberScheduled: 1},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "kube-system", CreationTimestamp: old},
		Spec: appsv1.DaemonSetSpec{Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"k8s-app": label}},
			Spec:       corev1.PodSpec{NodeSelector: map[string]string{corev1.LabelOSStable: "linux"}, Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}}},
		}},
	}
	for _, c := range change {
		c(d)
	}
	return d
}

// watching runs test with a Cluster that has read the objects.
func watching(t *testing.T, objects []runtime.Object, test func(*Cluster, *fake.Clientset)) {
	t.Helper()
	watchingPrepared(t, func(*fake.Clientset) {}, objects, test)
}

// watchingPrepared changes the fake API before it is read.
func watchingPrepared(t *testing.T, prepare func(*fake.Clientset), objects []runtime.Object, test func(*Cluster, *fake.Clientset)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(objects...)
		prepare(client)
		c, err := NewCluster(Config{
			API: fakeAPI{client}, Namespace: "kube-system", Selectors: []string{"k8s-app=kube-proxy"},
			StaleAfter: time.Minute, Logger: log.NewNopLogger(), Klog: logr.Discard(),
		})
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
		test(c, client)
		cancel()
		<-done
	})
}

func reportOf(t *testing.T, c *Cluster, name string) NodeReport {
	t.Helper()
	for _, n := range c.Report().Nodes {
		if n.Node == name {
			return n
		}
	}
	t.Fatalf("no report of %s", name)
	return NodeReport{}
}

func TestExposition(t *testing.T) {
	crashing := func(p *corev1.Pod) {
		p.Status.Conditions[0].Status = corev1.ConditionFalse
		p.Status.ContainerStatuses[0] = corev1.ContainerStatus{Name: "kube-proxy", RestartCount: 4,
			State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
			LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
				ContainerID: "c1", ExitCode: 1, StartedAt: old, FinishedAt: metav1.NewTime(old.Add(time.Second)),
			}},
		}
	}
	watching(t, []runtime.Object{
		node("n1"), pod("n1"), node("n2"), pod("n2", crashing), node("n3"),
		node("n4", func(n *corev1.Node) { n.Labels[corev1.LabelOSStable] = "windows" }),
		daemonSet("kube-proxy", "kube-proxy"),
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "kube-proxy", Namespace: "kube-system"}, Data: map[string]string{"config.conf": "kind: KubeProxyConfiguration\nclusterCIDR: 10.244.0.0/16\n"}},
	}, func(c *Cluster, _ *fake.Clientset) {
		// The pod of n3 has been missing for longer than a rollout lasts.
		c.Report()
		time.Sleep(40 * time.Second)
		var got bytes.Buffer
		if err := c.WriteMetrics(&got); err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.WriteFile("testdata/metrics.prom", got.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		golden, err := os.ReadFile("testdata/metrics.prom")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(golden), got.String()); diff != "" {
			t.Errorf("the exposition changed (-was +is); if that is meant, run the test with -update:\n%s", diff)
		}
		if problems, err := promlint.New(&got).Lint(); err != nil || len(problems) > 0 {
			t.Errorf("lint: %v %v", problems, err)
		}
	})
}

func TestLogNamesTheCrash(t *testing.T) {
	// The fake API answers every log request with "fake logs": a line that
	// decides nothing.
	watching(t, []runtime.Object{node("n1"), daemonSet("kube-proxy", "kube-proxy"), pod("n1")}, func(c *Cluster, client *fake.Clientset) {
		p := pod("n1", func(p *corev1.Pod) {
			p.Status.ContainerStatuses[0] = corev1.ContainerStatus{Name: "kube-proxy", RestartCount: 4,
				State:                corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
				LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ContainerID: "c1", ExitCode: 1}},
			}
		})
		for i := range 5 { // the same container in many updates
			p.Labels["x"] = string(rune('a' + i))
			if _, err := client.CoreV1().Pods("kube-system").Update(t.Context(), p, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if n := logRequests(client); n != 1 {
			t.Errorf("the log of one container was asked for %d times", n)
		}
		r := reportOf(t, c, "n1")
		if r.Primary == nil || r.Primary.Cause != "crash_loop" || r.Primary.Detail != "other" {
			t.Errorf("primary is %+v", r.Primary)
		}
		p.Status.ContainerStatuses[0].LastTerminationState.Terminated.ContainerID = "c2"
		if _, err := client.CoreV1().Pods("kube-system").Update(t.Context(), p, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := logRequests(client); n != 2 {
			t.Errorf("the logs of two containers were asked for %d times", n)
		}
	})
}

func logRequests(client *fake.Clientset) int {
	n := 0
	for _, a := range client.Actions() {
		if a.GetSubresource() == "log" {
			n++
		}
	}
	return n
}

func TestLostSourceAgesAndComesBack(t *testing.T) {
	watching(t, []runtime.Object{node("n1"), pod("n1"), daemonSet("kube-proxy", "kube-proxy")}, func(c *Cluster, _ *fake.Clientset) {
		time.Sleep(2 * settled) // the watch is an answer by now
		contact := c.nodesContact()
		contact.failed(errors.New("connection refused"))
		time.Sleep(59 * time.Second)
		if r := reportOf(t, c, "n1"); r.Healthy == nil || slices.Contains(r.Unknown, "node_not_ready") {
			t.Errorf("forgotten too early: %+v", r)
		}
		time.Sleep(2 * time.Second)
		r := reportOf(t, c, "n1")
		if r.Healthy != nil || r.Expected != nil || !strings.Contains(strings.Join(r.Unknown, " "), "node_not_ready") {
			t.Errorf("what is a minute old is still believed: %+v", r)
		}
		contact.succeeded(time.Millisecond)
		if r := reportOf(t, c, "n1"); r.Healthy == nil || slices.Contains(r.Unknown, "node_not_ready") {
			t.Errorf("it did not come back: %+v", r)
		}
	})
}

// A load balancer with nothing behind it closes every connection; client-go
// calls that a watch that is empty.
func TestEmptyWatchIsNoAnswer(t *testing.T) {
	var first *watch.FakeWatcher
	lost := false
	prepare := func(client *fake.Clientset) {
		first = watch.NewFake()
		client.PrependWatchReactor("nodes", func(k8stesting.Action) (bool, watch.Interface, error) {
			if lost {
				return true, watch.NewEmptyWatch(), nil
			}
			return true, first, nil
		})
		client.PrependReactor("list", "nodes", func(k8stesting.Action) (bool, runtime.Object, error) { return lost, nil, errors.New("EOF") })
	}
	watchingPrepared(t, prepare, []runtime.Object{node("n1"), pod("n1"), daemonSet("kube-proxy", "kube-proxy")}, func(c *Cluster, _ *fake.Clientset) {
		time.Sleep(3 * time.Minute)
		if r := reportOf(t, c, "n1"); r.Healthy == nil {
			t.Errorf("a watch that says nothing is not believed: %+v", r)
		}
		lost = true
		first.Stop()
		time.Sleep(3 * time.Minute)
		if r := reportOf(t, c, "n1"); r.Healthy != nil || r.Expected != nil {
			t.Errorf("nobody answers and it is believed: %+v", r)
		}
	})
}

func (c *Cluster) nodesContact() *contact { return c.sources.readers[0].contact }

func TestForbiddenReaderIsUnknownNotZero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(node("n1"), daemonSet("kube-proxy", "kube-proxy"))
		refuse := func(k8stesting.Action) (bool, runtime.Object, error) {
			return true, nil, errors.New("pods is forbidden")
		}
		client.PrependReactor("list", "pods", refuse)
		client.PrependWatchReactor("pods", k8stesting.DefaultWatchReactor(nil, errors.New("pods is forbidden")))
		c, err := NewCluster(Config{API: fakeAPI{client}, Namespace: "kube-system", Selectors: []string{"k8s-app=kube-proxy"}, StaleAfter: time.Minute, Logger: log.NewNopLogger(), Klog: klog.Background()})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { c.Run(ctx); close(done) }()
		time.Sleep(2 * time.Minute)
		if ok, lacks := c.Ready(); ok || lacks != "pods" {
			t.Errorf("ready is %v, lacks %q", ok, lacks)
		}
		r := reportOf(t, c, "n1")
		for _, want := range []string{"missing_on_node", "image_pull", "crash_loop"} {
			if !strings.Contains(strings.Join(r.Unknown, " "), want) {
				t.Errorf("%s is judged without pods: %+v", want, r)
			}
		}
		cancel()
		<-done
	})
}

func TestExpected(t *testing.T) {
	replaced := daemonSet("cilium", "cilium")
	nowhere := func(label string) *appsv1.DaemonSet {
		return daemonSet("kube-proxy", "kube-proxy", func(d *appsv1.DaemonSet) { d.Spec.Template.Spec.NodeSelector[label] = "true" })
	}
	calico := func(ebpf string) *appsv1.DaemonSet {
		return daemonSet("calico-node", "calico-node", func(d *appsv1.DaemonSet) {
			d.Spec.Template.Spec.Containers = []corev1.Container{{Env: []corev1.EnvVar{{Name: "FELIX_BPFENABLED", Value: ebpf}}}}
		})
	}
	in := func(namespace string) func(*appsv1.DaemonSet) {
		return func(d *appsv1.DaemonSet) { d.Namespace = namespace }
	}
	tenants := daemonSet("cilium", "cilium", in("tenant"))
	only := func(name string) *appsv1.DaemonSet {
		return daemonSet("cilium", "cilium", func(d *appsv1.DaemonSet) { d.Spec.Template.Spec.NodeSelector["only"] = name })
	}
	unscheduled := daemonSet("cilium", "cilium", func(d *appsv1.DaemonSet) { d.Status.DesiredNumberScheduled = 0 })
	fargate := node("n1", func(n *corev1.Node) { n.Labels["eks.amazonaws.com/compute-type"] = "fargate" })
	k3s := node("n1", func(n *corev1.Node) { n.Status.NodeInfo.KubeletVersion = "v1.37.2+k3s1" })
	mirror := pod("n2", func(p *corev1.Pod) { p.Annotations = map[string]string{mirrorAnnotation: "x"} })
	notEdge := daemonSet("kube-proxy", "kube-proxy", func(d *appsv1.DaemonSet) {
		d.Spec.Template.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "edge", Operator: corev1.NodeSelectorOpDoesNotExist}}}},
		}}}
	})
	for _, tc := range []struct {
		name    string
		objects []runtime.Object
		yes     bool
		reason  string
	}{
		{"a DaemonSet", []runtime.Object{node("n1"), daemonSet("kube-proxy", "kube-proxy")}, true, "daemonset"},
		{"nothing but its ConfigMap", []runtime.Object{node("n1"), configMap("kube-proxy", nil)}, true, "default"},
		{"Cilium that does not replace it", []runtime.Object{node("n1"), replaced, configMap("kube-proxy", nil), configMap(ciliumConfig, map[string]string{"kube-proxy-replacement": "false"})}, true, "default"},
		{"Cilium that does, by its ConfigMap too", []runtime.Object{node("n1"), replaced, configMap("kube-proxy", nil), configMap(ciliumConfig, map[string]string{"kube-proxy-replacement": "true"})}, false, "cilium"},
		{"Cilium that runs nowhere", []runtime.Object{node("n1"), unscheduled, configMap("kube-proxy", nil)}, true, "default"},
		{"a tenant's DaemonSet of that name", []runtime.Object{node("n1"), tenants, configMap("kube-proxy", nil)}, true, "default"},
		{"OVN-Kubernetes", []runtime.Object{node("n1"), daemonSet("ovnkube-node", "ovn", in("openshift-ovn-kubernetes"))}, false, "ovn_kubernetes"},
		{"Cilium alone", []runtime.Object{node("n1"), replaced}, false, "cilium"},
		{"Cilium beside kube-proxy", []runtime.Object{node("n1"), replaced, daemonSet("kube-proxy", "kube-proxy")}, true, "daemonset"},
		{"Cilium beside a kube-proxy that is switched off", []runtime.Object{node("n1"), replaced, nowhere("off")}, false, "cilium"},
		{"kube-proxy switched off for Calico", []runtime.Object{node("n1"), nowhere("non-calico")}, false, "excluded"},
		{"kube-proxy that selects nobody", []runtime.Object{node("n1"), nowhere("off")}, true, "daemonset"},
		{"Calico eBPF", []runtime.Object{node("n1"), calico("true")}, false, "calico_ebpf"},
		{"Calico with iptables", []runtime.Object{node("n1"), calico("false"), configMap("kube-proxy", nil)}, true, "default"},
		{"Cilium on another node alone", []runtime.Object{node("n1"), only("n2"), configMap("kube-proxy", nil)}, true, "default"},
		{"k3s", []runtime.Object{k3s}, false, "embedded"},
		{"Fargate", []runtime.Object{fargate, daemonSet("kube-proxy", "kube-proxy")}, false, "virtual_node"},
		{"static pods elsewhere", []runtime.Object{node("n1"), node("n2"), mirror}, true, "static_pod"},
		{"a kind of node that is left out", []runtime.Object{node("n1", func(n *corev1.Node) { n.Labels["edge"] = "" }), notEdge}, false, "excluded"},
		{"a node that is not left out", []runtime.Object{node("n1"), notEdge}, true, "daemonset"},
		{"a label that lacks", []runtime.Object{node("n1", func(n *corev1.Node) { delete(n.Labels, corev1.LabelOSStable) }), notEdge}, true, "daemonset"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			watching(t, tc.objects, func(c *Cluster, _ *fake.Clientset) {
				r := reportOf(t, c, "n1")
				if r.Expected == nil || *r.Expected != tc.yes || r.Reason != tc.reason {
					t.Errorf("got %+v, want %v %s", r, tc.yes, tc.reason)
				}
			})
		})
	}
}

func configMap(name string, data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "kube-system"}, Data: data}
}

// TestReplacementUnclear is for programs that replace kube-proxy only if their
// configuration says so, which was not read: whether it is expected is unknown.
func TestReplacementUnclear(t *testing.T) {
	in := func(namespace string) func(*appsv1.DaemonSet) {
		return func(d *appsv1.DaemonSet) { d.Namespace = namespace }
	}
	forbidden := func(client *fake.Clientset) {
		client.PrependReactor("list", "configmaps", func(k8stesting.Action) (bool, runtime.Object, error) {
			return true, nil, errors.New("forbidden")
		})
	}
	for name, tc := range map[string]struct {
		prepare func(*fake.Clientset)
		objects []runtime.Object
	}{
		"Cilium in a namespace whose cilium-config is not read": {func(*fake.Clientset) {}, []runtime.Object{node("n1"), daemonSet("cilium", "cilium", in("cilium")), configMap("kube-proxy", nil)}},
		"Cilium, and ConfigMaps cannot be read":                 {forbidden, []runtime.Object{node("n1"), daemonSet("cilium", "cilium")}},
		"Antrea":                                                {func(*fake.Clientset) {}, []runtime.Object{node("n1"), daemonSet("antrea-agent", "antrea"), configMap("kube-proxy", nil)}},
		"nothing, and ConfigMaps cannot be read":                {forbidden, []runtime.Object{node("n1")}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := fake.NewClientset(tc.objects...)
				tc.prepare(client)
				c, err := NewCluster(Config{API: fakeAPI{client}, Namespace: "kube-system", Selectors: []string{"k8s-app=kube-proxy"}, StaleAfter: time.Minute, Logger: log.NewNopLogger(), Klog: logr.Discard()})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() { c.Run(ctx); close(done) }()
				time.Sleep(40 * time.Second)
				synctest.Wait()
				if r := reportOf(t, c, "n1"); r.Expected != nil || r.Healthy != nil || r.NotFound != "" || r.Primary != nil || !slices.Contains(r.Unknown, "missing_on_node") {
					t.Errorf("got %+v", r)
				}
				cancel()
				<-done
			})
		})
	}
}

// TestNothingFound is for clusters whose kube-proxy runs in a way that is not
// known here, or not at all: unknown, with where it was looked for, until
// kube-proxy was seen.
func TestNothingFound(t *testing.T) {
	watching(t, []runtime.Object{node("n1"), daemonSet("kube-router", "kube-router")}, func(c *Cluster, client *fake.Clientset) {
		var said bytes.Buffer
		c.cfg.Logger = log.NewLogfmtLogger(&said)
		for range 2 {
			time.Sleep(10 * time.Second)
			synctest.Wait()
			r := reportOf(t, c, "n1")
			if r.Expected != nil || r.Healthy != nil || r.Primary != nil || r.State() != StateUnknown || !slices.Contains(r.Unknown, "missing_on_node") {
				t.Errorf("nothing was found: %+v", r)
			}
			if want := "namespace kube-system with the labels k8s-app=kube-proxy"; r.NotFound != want {
				t.Errorf("it was looked for in %q, want %q", r.NotFound, want)
			}
			var metrics bytes.Buffer
			if err := c.WriteMetrics(&metrics); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(metrics.String(), "kproxy_expected{") {
				t.Error("kproxy_expected has a sample")
			}
		}
		if want := `level=warn msg="kube-proxy not found" namespace=kube-system selectors="k8s-app=kube-proxy"`; strings.Count(said.String(), want) != 1 {
			t.Errorf("the log has %s", said.String())
		}
		ctx := t.Context()
		daemonSets := client.AppsV1().DaemonSets("kube-system")
		if _, err := daemonSets.Create(ctx, daemonSet("kube-proxy", "kube-proxy"), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if r := reportOf(t, c, "n1"); r.Expected == nil || !*r.Expected || r.Reason != "daemonset" || r.NotFound != "" {
			t.Errorf("a DaemonSet: %+v", r)
		}
		if err := daemonSets.Delete(ctx, "kube-proxy", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(35 * time.Second)
		synctest.Wait()
		if r := reportOf(t, c, "n1"); r.Primary == nil || r.Primary.Detail != "not_installed" || r.Reason != "default" {
			t.Errorf("it was seen, and is gone: %+v", r)
		}
	})
}

func TestGoneNodeIsForgotten(t *testing.T) {
	watching(t, []runtime.Object{node("n1"), node("n2"), pod("n2"), daemonSet("kube-proxy", "kube-proxy")}, func(c *Cluster, client *fake.Clientset) {
		c.Report()
		if err := client.CoreV1().Nodes().Delete(t.Context(), "n1", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if r := c.Report(); len(r.Nodes) != 1 || r.Nodes[0].Node != "n2" {
			t.Errorf("nodes are %+v", r.Nodes)
		}
		if len(c.presence.gone) != 0 || len(c.history.known) != 0 {
			t.Errorf("left behind: %v %v", c.presence.gone, c.history.known)
		}
	})
}

func TestPresence(t *testing.T) {
	p := newPresence()
	at := func(s int) time.Time { return begin.Add(time.Duration(s) * time.Second) }
	live := &podRow{node: "n1"}
	dying := &podRow{node: "n1"}
	dying.status.Deleting = true
	if got, seen := p.goneSince("n1", at(0)); got != at(0) || seen {
		t.Errorf("never seen: gone since %v", got)
	}
	p.podChanged(nil, live, at(1))
	if got, _ := p.goneSince("n1", at(2)); !got.IsZero() {
		t.Errorf("it is there: gone since %v", got)
	}
	p.podChanged(live, dying, at(3))
	p.podChanged(dying, nil, at(5))
	if got, seen := p.goneSince("n1", at(9)); got != at(5) || !seen {
		t.Errorf("gone since %v, want when it went", got)
	}
	if got := p.wantedSince("n1", &cause.Placement{Selected: true}, at(9)); got != at(9) {
		t.Errorf("wanted since %v", got)
	}
	if got := p.wantedSince("n1", &cause.Placement{Selected: true}, at(10)); got != at(9) {
		t.Errorf("wanted since %v", got)
	}
	p.wantedSince("n1", &cause.Placement{}, at(11))
	if got := p.wantedSince("n1", &cause.Placement{Selected: true}, at(12)); got != at(12) {
		t.Errorf("it was not wanted meanwhile, and is wanted since %v", got)
	}
	if e := p.lastEviction("n1"); e != nil {
		t.Errorf("nobody was evicted: %v", e)
	}
	evicted := &podRow{node: "n1", status: cause.Pod{Name: "x", Phase: "Failed", Reason: "Evicted", Message: "m"}}
	p.podChanged(live, evicted, at(13))
	p.podChanged(evicted, evicted, at(14)) // said twice
	p.podChanged(evicted, nil, at(15))
	if e := p.lastEviction("n1"); e == nil || *e != (cause.Eviction{Pod: "x", Message: "m", Seen: at(13)}) {
		t.Errorf("evicted: %+v", e)
	}
	again := func(second int) *podRow {
		return &podRow{node: "n1", status: cause.Pod{Name: "y", Phase: "Running", Container: &cause.Container{Started: at(second)}}}
	}
	p.podChanged(nil, again(16), at(16))
	p.podChanged(again(16), evicted, at(60)) // it ran for long, and is evicted too
	if e := p.lastEviction("n1"); e == nil || e.Seen != at(60) {
		t.Errorf("evicted again: %+v", e)
	}
	p.podChanged(again(61), nil, at(90))
	if p.lastEviction("n1") == nil {
		t.Error("it had run for 29s only")
	}
	p.podChanged(again(61), nil, at(91))
	if p.lastEviction("n1") != nil {
		t.Error("it had come back, and is still called evicted")
	}
	p.podChanged(nil, evicted, at(92))
	if p.forget("n1"); p.lastEviction("n1") != nil {
		t.Error("the eviction outlives the node")
	}
}

func TestBadSelectors(t *testing.T) {
	for _, s := range [][]string{nil, {""}, {"a in"}} {
		if _, err := NewCluster(Config{API: fakeAPI{fake.NewClientset()}, Selectors: s}); err == nil {
			t.Errorf("selectors %q are taken", s)
		}
	}
}
