package collector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"

	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
	"github.com/kproxy-exporter/kproxy-exporter/collector/kubeapi"
)

func crashed(containerID string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.Conditions[0].Status = corev1.ConditionFalse
		p.Status.ContainerStatuses[0] = corev1.ContainerStatus{Name: "kube-proxy", RestartCount: 4,
			State:                corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
			LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ContainerID: containerID, ExitCode: 1}},
		}
	}
}

func event(name, kind, object, reason, message string) *corev1.Event {
	return &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Name: name, Namespace: "kube-system"},
		InvolvedObject: corev1.ObjectReference{Kind: kind, Name: object, Namespace: "kube-system"},
		Type:           corev1.EventTypeWarning, Reason: reason, Message: message, LastTimestamp: metav1.NewTime(begin),
	}
}

func TestEventsReachTheirObject(t *testing.T) {
	starting := func(p *corev1.Pod) {
		p.Name = "rke2-kube-proxy-n1" // the label counts, not the name
		p.Status.ContainerStatuses[0] = corev1.ContainerStatus{Name: "kube-proxy", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}}
	}
	const sandbox = "failed to get sandbox image x"
	watching(t, []runtime.Object{
		node("n1"), pod("n1", starting), daemonSet("kube-proxy", "kube-proxy"),
		event("a", "Pod", "rke2-kube-proxy-n1", "FailedCreatePodSandBox", sandbox),
	}, func(c *Cluster, _ *fake.Clientset) {
		if r := reportOf(t, c, "n1"); r.Primary == nil || r.Primary.Cause != "image_pull" || r.Primary.Detail != "sandbox_image" {
			t.Errorf("primary is %+v", r.Primary)
		}
	})
	watching(t, []runtime.Object{
		node("n1"), pod("n1", starting), daemonSet("kube-proxy", "kube-proxy"),
		event("a", "Pod", "another", "FailedCreatePodSandBox", sandbox),
	}, func(c *Cluster, _ *fake.Clientset) {
		if r := reportOf(t, c, "n1"); r.Primary != nil {
			t.Errorf("the event of another pod makes %+v", r.Primary)
		}
	})
	watching(t, []runtime.Object{
		node("n1"), daemonSet("kube-proxy", "kube-proxy"),
		event("a", "DaemonSet", "kube-proxy", "FailedPlacement", "x"), event("b", "DaemonSet", "kube-proxy", "FailedCreate", "exceeded quota"),
	}, func(c *Cluster, _ *fake.Clientset) {
		if r := reportOf(t, c, "n1"); r.Primary == nil || r.Primary.Detail != "not_created" {
			t.Errorf("primary is %+v", r.Primary)
		}
	})
}

func TestLogRequestIsBoundedAndOfThePrevious(t *testing.T) {
	watching(t, []runtime.Object{node("n1"), pod("n1", crashed("c1")), daemonSet("kube-proxy", "kube-proxy")}, func(_ *Cluster, client *fake.Clientset) {
		for _, a := range client.Actions() {
			if a.GetSubresource() != "log" {
				continue
			}
			o, ok := a.(k8stesting.GenericAction).GetValue().(*corev1.PodLogOptions)
			if !ok || !o.Previous || o.Container != "kube-proxy" || o.TailLines == nil || o.LimitBytes == nil {
				t.Errorf("asked for %+v", o)
			}
			return
		}
		t.Error("no log was asked for")
	})
}

// A running container that is not well has its log read, now and again; one
// that is well again has not.
func TestLogOfARunningContainer(t *testing.T) {
	unready := func(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }
	watching(t, []runtime.Object{node("n1"), pod("n1", unready), daemonSet("kube-proxy", "kube-proxy")}, func(c *Cluster, client *fake.Clientset) {
		time.Sleep(2 * reviewEvery)
		synctest.Wait()
		if n := logRequests(client); n != 1 {
			t.Errorf("its log was asked for %d times", n)
		}
		time.Sleep(logAgain)
		synctest.Wait()
		if n := logRequests(client); n != 2 {
			t.Errorf("its log was asked for %d times after a minute", n)
		}
		if _, running := c.logs.log("uid-x"); running == nil {
			t.Error("its log is not known")
		}
		if _, err := client.CoreV1().Pods("kube-system").UpdateStatus(t.Context(), pod("n1"), metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * reviewEvery)
		synctest.Wait()
		if _, running := c.logs.log("uid-x"); running != nil {
			t.Error("it is well, and its old words are kept")
		}
	})
}

// A log that could not be read is a failure for as long as somebody wants it:
// until its pod is well, or gone.
func TestLogThatIsNotWantedAnyMore(t *testing.T) {
	one, other := &podRow{uid: "one"}, &podRow{uid: "other"}
	for name, end := range map[string]func(*logReader, *podRow){
		"well": func(l *logReader, r *podRow) { l.review(r, false, time.Now()) },
		"gone": func(l *logReader, r *podRow) { l.podChanged(r, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLogReader(refusingLogs{err: errors.New("connection refused")}, log.NewNopLogger())
			failing := func() bool { return l.contact.state(time.Now(), time.Minute).failed }
			for _, r := range []*podRow{one, other} {
				l.review(r, true, time.Now())
				request, _ := l.queue.Get()
				l.handle(t.Context(), request)
				if !failing() {
					t.Error("it failed and does not say so")
				}
			}
			end(l, one)
			if !failing() {
				t.Error("the other's log is still wanted")
			}
			end(l, other)
			if failing() {
				t.Error("nobody wants a log, and the reader still fails")
			}
			l.handle(t.Context(), logRequest{uid: "other", current: true}) // it was on its way
			if failing() {
				t.Error("the log of a pod that is gone is a failure")
			}
		})
	}
}

// A right that lacks is a failure whether or not a log is wanted now, until one
// can be read again.
func TestLogsThatMayNotBeRead(t *testing.T) {
	pod := &podRow{uid: "one"}
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "pods/log"}, "one", nil)
	l := newLogReader(refusingLogs{err: errors.New("connection refused")}, log.NewNopLogger())
	other := &podRow{uid: "other"}
	l.review(other, true, time.Now())
	l.handle(t.Context(), logRequest{uid: "other", current: true})
	l.api = refusingLogs{err: forbidden}
	failing := func() bool { return l.contact.state(time.Now(), time.Minute).failed }
	l.review(pod, true, time.Now())
	request := logRequest{uid: "one", current: true}
	l.handle(t.Context(), request)
	l.review(pod, false, time.Now())
	l.review(other, false, time.Now())
	if !failing() {
		t.Error("a pod that is well gives no rights")
	}
	l.api = refusingLogs{err: apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, "one")}
	l.handle(t.Context(), request)
	if failing() {
		t.Error("the API server answered, and the reader still fails")
	}
}

// What failed once and is known to be gone now is no failure that a later one of
// another pod could leave behind.
func TestLogThatIsGone(t *testing.T) {
	gone, other := &podRow{uid: "gone"}, &podRow{uid: "other"}
	l := newLogReader(refusingLogs{err: errors.New("connection refused")}, log.NewNopLogger())
	for _, r := range []*podRow{gone, other} {
		l.review(r, true, time.Now())
	}
	l.handle(t.Context(), logRequest{uid: "gone", current: true})
	l.api = refusingLogs{err: apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, "gone")}
	l.handle(t.Context(), logRequest{uid: "gone", current: true})
	l.api = refusingLogs{err: errors.New("connection refused")}
	l.handle(t.Context(), logRequest{uid: "other", current: true})
	l.review(other, false, time.Now())
	if l.contact.state(time.Now(), time.Minute).failed {
		t.Error("no log is wanted that cannot be read, and the reader fails")
	}
}

// refusingLogs cannot read logs.
type refusingLogs struct {
	API
	err error
}

func (r refusingLogs) Log(context.Context, string, string, *corev1.PodLogOptions) (io.ReadCloser, error) {
	return nil, r.err
}

func TestLostLog(t *testing.T) {
	for text, want := range map[string]bool{
		"": true, "\n": true, "unable to retrieve container logs for containerd://0123": true,
		"E1101 02:59:00.0 1 run.go:72] x\n": false,
	} {
		if got := lost([]byte(text)); got != want {
			t.Errorf("%q is lost: %v", text, got)
		}
	}
}

func TestRelistForgetsWhatIsGone(t *testing.T) {
	table := newTable(convertNode, nil, func() {})
	if err := table.Replace([]any{node("n1"), node("n2")}, ""); err != nil {
		t.Fatal(err)
	}
	if err := table.Replace([]any{node("n2")}, ""); err != nil {
		t.Fatal(err)
	}
	if table.has("/n1") || !table.has("/n2") {
		t.Error("a second list does not replace the first")
	}
}

func TestDuplicateConditionsAreOne(t *testing.T) {
	twice := func(n *corev1.Node) {
		n.Status.Conditions[1].Status = corev1.ConditionTrue
		n.Status.Conditions = append(n.Status.Conditions, n.Status.Conditions[1])
	}
	row, _ := convertNode(node("n1", twice))
	if len(row.status.Pressure) != 1 {
		t.Errorf("pressure is %+v", row.status.Pressure)
	}
}

func TestInitContainerCounts(t *testing.T) {
	initial := func(s corev1.ContainerState) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "init", State: s}}
			p.Status.ContainerStatuses[0].State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "PodInitializing"}}
		}
	}
	for name, tc := range map[string]struct {
		state corev1.ContainerState
		want  string
	}{
		"it cannot be pulled": {corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}}, "ImagePullBackOff"},
		"it is done":          {corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}, "PodInitializing"},
		"it has not begun":    {corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "PodInitializing"}}, "PodInitializing"},
	} {
		row, _ := convertPod(pod("n1", initial(tc.state)))
		if got := row.status.Container.WaitingReason; got != tc.want {
			t.Errorf("%s: the container waits with %s, want %s", name, got, tc.want)
		}
	}
}

func TestContainerThatNeverBegan(t *testing.T) {
	row, _ := convertPod(pod("n1", func(p *corev1.Pod) {
		p.Status.ContainerStatuses[0].LastTerminationState = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			Reason: "StartError", StartedAt: metav1.NewTime(time.Unix(0, 0)), FinishedAt: old,
		}}
	}))
	if l := row.status.Container.Last; l == nil || l.Finished.Sub(l.Started) != 0 {
		t.Errorf("it ran for %+v", l)
	}
	row, _ = convertPod(pod("n1", func(p *corev1.Pod) {
		p.Status.ContainerStatuses[0].LastTerminationState = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "ContainerStatusUnknown", ExitCode: 137}}
	}))
	if l := row.status.Container.Last; l != nil {
		t.Errorf("a container that was lost track of ended as %+v", l)
	}
}

func TestNoTarget(t *testing.T) {
	service := func(name, label string, port int32) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "kube-system"},
			Spec: corev1.ServiceSpec{Selector: map[string]string{"k8s-app": label}, Ports: []corev1.ServicePort{{Port: port}}}}
	}
	for name, tc := range map[string]struct {
		services []runtime.Object
		want     string
	}{
		"none":                 {nil, ""},
		"one that selects":     {[]runtime.Object{service("x-kube-proxy", "kube-proxy", 10249)}, ""},
		"one that does not":    {[]runtime.Object{service("x-kube-proxy", "other", 10249)}, "kube-system/x-kube-proxy"},
		"by its port":          {[]runtime.Object{service("metrics", "other", 10249)}, "kube-system/metrics"},
		"a dashboard of it":    {[]runtime.Object{service("kube-proxy-dashboard", "other", 80)}, ""},
		"another does":         {[]runtime.Object{service("x-kube-proxy", "other", 10249), service("y-kube-proxy", "kube-proxy", 10249)}, ""},
		"of something else":    {[]runtime.Object{service("kube-dns", "kube-dns", 53)}, ""},
		"one without selector": {[]runtime.Object{&corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "kube-proxy", Namespace: "kube-system"}}}, ""},
	} {
		watching(t, append(tc.services, node("n1"), pod("n1"), daemonSet("kube-proxy", "kube-proxy")), func(c *Cluster, _ *fake.Clientset) {
			if got := c.noTarget(); got != tc.want {
				t.Errorf("%s: %q, want %q", name, got, tc.want)
			}
		})
	}
}

// A ConfigMap is kube-proxy's only if the file of --config is of it.
func TestConfigFrom(t *testing.T) {
	mounted := func(argv ...string) func(*corev1.Pod) {
		volume := func(name, configMap string) corev1.Volume {
			return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: configMap}}}}
		}
		return func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{volume("a", "kube-proxy"), volume("b", "pool"), {Name: "c"}}
			p.Spec.Containers[0].Command = argv
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{
				{Name: "a", MountPath: "/var/lib/kube-proxy"}, {Name: "b", MountPath: "/etc/pool/"}, {Name: "c", MountPath: "/copied"},
			}
		}
	}
	for name, tc := range map[string]struct {
		argv []string
		want string
	}{
		"as kubeadm does":      {[]string{"kube-proxy", "--config=/var/lib/kube-proxy/config.conf"}, "kube-system/kube-proxy"},
		"in two words":         {[]string{"kube-proxy", "--config", "/var/lib/kube-proxy/config.conf"}, "kube-system/kube-proxy"},
		"of another ConfigMap": {[]string{"kube-proxy", "--config=/etc/pool/config.conf"}, "kube-system/pool"},
		"copied by an init":    {[]string{"kube-proxy", "--config=/copied/config.conf"}, ""},
		"beside the mount":     {[]string{"kube-proxy", "--config=/var/lib/kube-proxy-2/config.conf"}, ""},
		"by flags alone":       {[]string{"kube-proxy", "--kubeconfig=/var/lib/kube-proxy/kubeconfig.conf"}, ""},
		"by a shell":           {[]string{"sh", "-c", "kube-proxy --config=/var/lib/kube-proxy/config.conf"}, ""},
		"another flag, alike":  {[]string{"kube-proxy", "--config-sync-period=15m"}, ""},
	} {
		row, ok := convertPod(pod("n1", mounted(tc.argv...)))
		if !ok || row.status.ConfigFrom != tc.want || !row.status.ArgsKnown {
			t.Errorf("%s: %q, want %q", name, row.status.ConfigFrom, tc.want)
		}
	}
}

// TestBinds reads from where the ports can be reached: from the flags where they
// count, and from the ConfigMap where the pod reads it.
func TestBinds(t *testing.T) {
	config := func(metrics, healthz string) *cause.Config {
		return &cause.Config{Name: "kube-system/kube-proxy", MetricsBind: metrics, HealthzBind: healthz}
	}
	const all, node, unknown = cause.ReachAll, cause.ReachLoopback, cause.ReachUnknown
	kubeadm := func(p *corev1.Pod) {
		p.Spec.Containers[0].Command = []string{"/usr/local/bin/kube-proxy", "--config=/var/lib/kube-proxy/config.conf"}
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "kube-proxy", MountPath: "/var/lib/kube-proxy"}}
		p.Spec.Volumes = []corev1.Volume{{Name: "kube-proxy", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "kube-proxy"}}}}}
	}
	argv := func(argv ...string) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Spec.Containers[0].Command = argv }
	}
	tests := map[string]struct {
		pod              func(*corev1.Pod)
		config           *cause.Config
		metrics, healthz bind
	}{
		"kubeadm's defaults":              {kubeadm, config("", ""), bind{10249, node}, bind{10256, all}},
		"kubeadm, metrics for monitoring": {kubeadm, config("0.0.0.0:10249", "0.0.0.0:10256"), bind{10249, all}, bind{10256, all}},
		"hardened":                        {kubeadm, config("127.0.0.1:10249", "127.0.0.1:10256"), bind{10249, node}, bind{10256, node}},
		"hardened, IPv6":                  {kubeadm, config("[::1]:10349", "::1"), bind{10349, node}, bind{10256, node}},
		"the ConfigMap cannot be parsed":  {kubeadm, &cause.Config{Name: "kube-system/kube-proxy", Error: "x"}, bind{10249, unknown}, bind{10256, unknown}},
		"the ConfigMap was not read":      {kubeadm, nil, bind{10249, unknown}, bind{10256, unknown}},
		"another ConfigMap":               {argv("kube-proxy", "--config=/etc/kube-proxy.conf"), config("", ""), bind{10249, unknown}, bind{10256, unknown}},
		// k3s and RKE2: k3s-io/k3s pkg/daemons/agent/agent_linux.go kubeProxyArgs.
		"RKE2":                {argv("kube-proxy", "--cluster-cidr=10.42.0.0/16", "--conntrack-max-per-core=0", "--healthz-bind-address=127.0.0.1", "--kubeconfig=/var/lib/rancher/rke2/agent/kubeproxy.kubeconfig", "--proxy-mode=iptables"), nil, bind{10249, node}, bind{10256, node}},
		"AKS":                 {argv("kube-proxy", "--metrics-bind-address=0.0.0.0:10249", "--v=3"), nil, bind{10249, all}, bind{10256, all}},
		"flags, two words":    {argv("kube-proxy", "--metrics-bind-address", ":10349"), config("", "127.0.0.1"), bind{10349, all}, bind{10256, all}},
		"one address":         {argv("kube-proxy", "--metrics-bind-address=192.0.2.1:10249"), nil, bind{10249, unknown}, bind{10256, all}},
		"a variable":          {argv("kube-proxy", "--metrics-bind-address=$(HOST_IP):10249"), nil, bind{10249, unknown}, bind{10256, all}},
		"a shell":             {argv("/bin/sh", "-c", "exec kube-proxy --v=2 1>>/var/log/kube-proxy.log 2>&1"), nil, bind{10249, unknown}, bind{10256, unknown}},
		"a script":            {argv("/scripts/start-kube-proxy.sh"), nil, bind{10249, unknown}, bind{10256, unknown}},
		"PowerShell":          {argv("powershell", "$env:CONTAINER_SANDBOX_MOUNT_POINT/start.ps1"), nil, bind{10249, unknown}, bind{10256, unknown}},
		"go-runner (kops)":    {argv("/go-runner", "--log-file=/var/log/kube-proxy.log", "/usr/local/bin/kube-proxy", "--v=2"), nil, bind{10249, node}, bind{10256, all}},
		"underscores":         {argv("kube-proxy", "--healthz_bind_address=127.0.0.1", "--metrics_bind_address", "0.0.0.0"), nil, bind{10249, all}, bind{10256, node}},
		"the older flag":      {argv("kube-proxy", "--healthz-port=0"), nil, bind{10249, node}, bind{10256, unknown}},
		"the image's command": {argv(), nil, bind{10249, unknown}, bind{10256, unknown}},
		"bad addresses":       {argv("kube-proxy", "--metrics-bind-address=x:y", "--healthz-bind-address=127.0.0.1:70000"), nil, bind{10249, unknown}, bind{10256, unknown}},
	}
	for name, tc := range tests {
		row, ok := convertPod(pod("n1", tc.pod))
		if !ok {
			t.Fatal(name)
		}
		if m, h := bindsOf(&row.status, tc.config); m != tc.metrics || h != tc.healthz {
			t.Errorf("%s: metrics %v, healthz %v; want %v, %v", name, m, h, tc.metrics, tc.healthz)
		}
	}
	row, _ := convertPod(pod("n1", kubeadm))
	for _, changed := range []*cause.Config{{Since: old.Add(time.Second)}, {Modified: old.Add(time.Second)}} {
		changed.Name, changed.MetricsBind, changed.HealthzBind = "kube-system/kube-proxy", "0.0.0.0:10249", "0.0.0.0:10256"
		if m, h := bindsOf(&row.status, changed); m.reach != unknown || h.reach != unknown {
			t.Errorf("a ConfigMap that was changed after the container began: %v, %v", m, h)
		}
	}
	row, _ = convertPod(pod("n1", argv("kube-proxy", "--hostname-override=N1 ")))
	if row.status.Hostname != "n1" {
		t.Errorf("kube-proxy makes %q of it", row.status.Hostname)
	}
}

// TestAnswersSince is since when a source has answered without a break.
func TestAnswersSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesired(&NodeConfig{API: fakeAPI{fake.NewClientset()}})
		first, second := d.sources.readers[0].contact, d.sources.readers[1].contact
		first.logger, second.logger = log.NewNopLogger(), log.NewNopLogger()
		want := func(what string, want time.Time) {
			t.Helper()
			if got := d.heardSince(time.Now()); !got.Equal(want) {
				t.Errorf("%s: since %s, want %s", what, got, want)
			}
		}
		want("at first", time.Time{})
		first.succeeded(0)
		want("after an answer", time.Time{})
		time.Sleep(time.Minute)
		first.failed(errors.New("refused"))
		time.Sleep(time.Minute)
		second.failed(errors.New("refused"))
		time.Sleep(time.Minute)
		want("while two do not", time.Now())
		first.succeeded(0)
		want("while one does not", time.Now())
		time.Sleep(time.Minute)
		second.succeeded(0)
		back := time.Now()
		want("when both do again", back)
		time.Sleep(time.Minute)
		first.succeeded(0)
		want("a while later", back)
	})
}

// A version that is too old ends a watch, and is no failure; where even a list is
// answered so, nobody knows anything.
func TestExpired(t *testing.T) {
	gone := apierrors.NewResourceExpired("too old")
	k := &contact{logger: log.NewNopLogger()}
	lw := k.listWatch(
		func(context.Context, metav1.ListOptions) (runtime.Object, error) { return nil, gone },
		func(context.Context, metav1.ListOptions) (watch.Interface, error) { return nil, gone })
	k.markSynced()
	k.succeeded(0)
	if _, err := lw.WatchWithContext(t.Context(), metav1.ListOptions{}); err == nil || k.state(time.Now(), 0).failed {
		t.Errorf("a watch: %v, failed %t", err, k.state(time.Now(), 0).failed)
	}
	if _, err := lw.ListWithContext(t.Context(), metav1.ListOptions{}); err == nil || !k.state(time.Now(), 0).failed {
		t.Errorf("a list: %v, failed %t", err, k.state(time.Now(), 0).failed)
	}
}

// refusingAPI refuses every connection until a time, and counts who comes.
type refusingAPI struct {
	back  time.Time
	tried atomic.Int32
	came  atomic.Pointer[time.Time] // the first after it came back
}

func (a *refusingAPI) List(context.Context, kubeapi.Resource, string, metav1.ListOptions) (runtime.Object, error) {
	return nil, a.refuse()
}

func (a *refusingAPI) Watch(context.Context, kubeapi.Resource, string, metav1.ListOptions) (watch.Interface, error) {
	return watch.NewFake(), a.refuse()
}

func (a *refusingAPI) refuse() error {
	a.tried.Add(1)
	if now := time.Now(); !now.Before(a.back) {
		a.came.CompareAndSwap(nil, &now)
		return nil
	}
	return fmt.Errorf("dial: %w", syscall.ECONNREFUSED)
}

// TestRefused is of an API server that refuses connections: it is asked seldom, soon
// after it is back, and whoever waits for it ends at once when it should.
func TestRefused(t *testing.T) {
	start := func(t *testing.T, back time.Duration) (*refusingAPI, func()) {
		api := &refusingAPI{back: time.Now().Add(back)}
		all := &sources{api: api, logger: log.NewNopLogger(), klog: logr.Discard()}
		add(all, source{resource: kubeapi.Nodes, reader: "nodes"}, nodePart, func(any) (int, bool) { return 0, false }, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { all.run(ctx); close(done) }()
		return api, func() { cancel(); <-done }
	}
	synctest.Test(t, func(t *testing.T) {
		for _, after := range []time.Duration{time.Second, 10 * time.Second, 90 * time.Second, time.Hour} {
			api, end := start(t, 2*time.Hour)
			time.Sleep(after)
			synctest.Wait()
			if n := api.tried.Load(); n == 0 || n > 6+int32(after/(10*time.Second)) {
				t.Errorf("%s: tried %d times", after, n)
			}
			began := time.Now()
			if end(); time.Since(began) > 0 {
				t.Errorf("%s: it went on for %s after its end", after, time.Since(began))
			}
		}
		api, end := start(t, time.Hour)
		time.Sleep(time.Hour + 20*time.Second)
		synctest.Wait()
		if api.came.Load() == nil {
			t.Error("it was not asked for 20 s after it came back")
		}
		end()
	})
}
