// Package fault breaks kube-proxy in a lab on purpose, in ways that have names.
package fault

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/kproxy-exporter/kproxy-exporter/lab/cluster"
	"github.com/kproxy-exporter/kproxy-exporter/lab/machine"
)

// Fault is a way to break kube-proxy.
type Fault struct {
	Name string
	// Breaks says what it does, for people.
	Breaks string
	// Modes are those of kube-proxy in which it applies; all if empty.
	Modes []string
	// Cause and Detail are what the cluster role must say of the node, and of no
	// other; empty if the API does not show it.
	Cause, Detail string
	// OnNode is "cause/detail" that the node role must say on the node, and on no
	// other; empty if it is not asked.
	OnNode string
	// OrOnNode is another verdict that is as right; empty if there is none.
	OrOnNode string
	// EverywhereOnNode says that every node sees it.
	EverywhereOnNode bool
	// BesideOnNode are causes that the node role says too, by the nature of it.
	BesideOnNode []string
	// Beside are causes that are active too, by the nature of this one.
	Beside []string
	// Everywhere says that it breaks every node.
	Everywhere bool
	// Within is how long it may take to be named, if longer than others.
	Within time.Duration

	// survived says that kube-proxy goes on as it is when the fault is taken back: to
	// begin it anew would only show how slowly a kubelet returns to an API server.
	survived bool

	inject func(context.Context, *target) error
	// heal takes back what the stock installation does not take back.
	heal func(context.Context, *target) error
}

// target is the node that is broken and the means to do so.
type target struct {
	cluster *cluster.Cluster
	client  *kubernetes.Clientset
	node    string
	machine *machine.Machine
}

// Find returns the fault of that name.
func Find(name string) (*Fault, error) {
	i := slices.IndexFunc(All, func(f Fault) bool { return f.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("no fault %q; 'kproxy-lab fault list' has them", name)
	}
	return &All[i], nil
}

// Applies is whether the fault is one in this mode.
func (f *Fault) Applies(mode string) bool { return len(f.Modes) == 0 || slices.Contains(f.Modes, mode) }

// Verdict is "cause/detail" that must be said of the node, by whichever role
// sees it; those that both see have the same name in both.
func (f *Fault) Verdict() string {
	if f.Cause != "" {
		return f.Cause + "/" + f.Detail
	}
	return f.OnNode
}

func newTarget(c *cluster.Cluster, node string) (*target, error) {
	client, err := c.Client()
	if err != nil {
		return nil, err
	}
	if node == cluster.ControlPlane {
		return nil, fmt.Errorf("%s runs no kube-proxy: choose a node", node)
	}
	m, err := c.Node(node)
	if err != nil {
		return nil, err
	}
	return &target{c, client, node, m}, nil
}

// Inject breaks a node.
func (f *Fault) Inject(ctx context.Context, c *cluster.Cluster, node string) error {
	t, err := newTarget(c, node)
	if err != nil {
		return err
	}
	if err := f.inject(ctx, t); err != nil {
		return fmt.Errorf("inject %s on %s: %w", f.Name, node, err)
	}
	return nil
}

// Heal takes a fault back: what it did to the node, then kube-proxy as it was
// installed, unless nothing was done to that.
func (f *Fault) Heal(ctx context.Context, c *cluster.Cluster, node string) error {
	t, err := newTarget(c, node)
	if err != nil {
		return err
	}
	if f.heal != nil {
		if err := f.heal(ctx, t); err != nil {
			return fmt.Errorf("heal %s on %s: %w", f.Name, node, err)
		}
	}
	if f.survived {
		return nil
	}
	if err := t.reinstall(ctx); err != nil {
		return fmt.Errorf("heal %s on %s: %w", f.Name, node, err)
	}
	return nil
}

// HealAll takes every fault back, on a node, whichever it was.
func HealAll(ctx context.Context, c *cluster.Cluster, node string) error {
	for i := range All {
		if All[i].heal == nil {
			continue
		}
		t, err := newTarget(c, node)
		if err != nil {
			return err
		}
		if err := All[i].heal(ctx, t); err != nil {
			return fmt.Errorf("heal %s on %s: %w", All[i].Name, node, err)
		}
	}
	t, err := newTarget(c, node)
	if err != nil {
		return err
	}
	return t.reinstall(ctx)
}

const (
	namespace = "kube-system"
	name      = "kube-proxy"
)

// reinstall puts kube-proxy's objects back and, if its pod on the node is not
// the stock one or not well, replaces the pod.
func (t *target) reinstall(ctx context.Context) error {
	wantConfig, wantDaemonSet, err := t.cluster.KubeProxyObjects()
	if err != nil {
		return err
	}
	if _, err := t.client.AppsV1().DaemonSets(namespace).Get(ctx, name, metav1.GetOptions{}); apierrors.IsNotFound(err) {
		if err := t.cluster.InstallKubeProxy(ctx); err != nil {
			return err
		}
	}
	if err := t.editConfig(ctx, func(c *corev1.ConfigMap) { c.Data = wantConfig.Data }); err != nil {
		return err
	}
	if err := t.editDaemonSet(ctx, func(d *appsv1.DaemonSet) {
		d.Spec.Template.Spec = wantDaemonSet.Spec.Template.Spec
	}); err != nil {
		return err
	}
	if err := t.deletePod(ctx); err != nil {
		return err
	}
	return t.strategy(ctx, appsv1.RollingUpdateDaemonSetStrategyType)
}

func (t *target) editConfig(ctx context.Context, edit func(*corev1.ConfigMap)) error {
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		c, err := t.client.CoreV1().ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		edit(c)
		_, err = t.client.CoreV1().ConfigMaps(namespace).Update(ctx, c, metav1.UpdateOptions{})
		return err
	})
}

// editDaemonSet changes the DaemonSet so that no pod follows until it is
// deleted: a fault is for one node.
func (t *target) editDaemonSet(ctx context.Context, edit func(*appsv1.DaemonSet)) error {
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		d, err := t.client.AppsV1().DaemonSets(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		d.Spec.UpdateStrategy = appsv1.DaemonSetUpdateStrategy{Type: appsv1.OnDeleteDaemonSetStrategyType}
		edit(d)
		_, err = t.client.AppsV1().DaemonSets(namespace).Update(ctx, d, metav1.UpdateOptions{})
		return err
	})
}

func (t *target) strategy(ctx context.Context, kind appsv1.DaemonSetUpdateStrategyType) error {
	return t.editDaemonSet(ctx, func(d *appsv1.DaemonSet) {
		d.Spec.UpdateStrategy = appsv1.DaemonSetUpdateStrategy{Type: kind}
	})
}

// editPodSpec changes the pod that the DaemonSet makes, and replaces the node's.
func editPodSpec(edit func(*corev1.PodSpec)) func(context.Context, *target) error {
	return func(ctx context.Context, t *target) error {
		if err := t.editDaemonSet(ctx, func(d *appsv1.DaemonSet) { edit(&d.Spec.Template.Spec) }); err != nil {
			return err
		}
		return t.deletePod(ctx)
	}
}

// editKubeProxyConfig changes the configuration file, and replaces the node's pod.
func editKubeProxyConfig(edit func(string) string) func(context.Context, *target) error {
	return func(ctx context.Context, t *target) error {
		return t.replaceWith(ctx, "config.conf", edit)
	}
}

// replaceWith changes a file of kube-proxy's ConfigMap and replaces the node's
// pod by one that has it: a kubelet that is busy mounts what it last heard of.
func (t *target) replaceWith(ctx context.Context, file string, edit func(string) string) error {
	if err := t.haveRun(ctx, settled, t.node); err != nil {
		return err
	}
	want := ""
	if err := t.editConfig(ctx, func(c *corev1.ConfigMap) {
		want = edit(c.Data[file])
		c.Data[file] = want
	}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, waitReady)
	defer cancel()
	for {
		if err := t.deletePod(ctx); err != nil {
			return err
		}
		got, err := t.awaitMounted(ctx, file)
		if err != nil || got == want {
			return err
		}
	}
}

// settled is for how long a kube-proxy has run that will not begin anew by itself.
const settled = 20 * time.Second

// haveRun waits until all kube-proxies, but the one of a node, have run for a while: one
// that begins now would begin with what is meant for that node alone.
func (t *target) haveRun(ctx context.Context, while time.Duration, but string) error {
	ctx, cancel := context.WithTimeout(ctx, waitReady)
	defer cancel()
	for {
		pods, err := t.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "k8s-app=" + name})
		if err != nil {
			return err
		}
		young := ""
		for _, p := range pods.Items {
			if p.Spec.NodeName == but {
				continue
			}
			for _, s := range p.Status.ContainerStatuses {
				if r := s.State.Running; r != nil && s.RestartCount == 0 && time.Since(r.StartedAt.Time) < while {
					young = p.Name
				}
			}
		}
		if young == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s has not run for %s yet: %w", young, while, ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// awaitMounted is the file as the node's new pod has it.
func (t *target) awaitMounted(ctx context.Context, file string) (string, error) {
	for {
		pods, err := t.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "k8s-app=" + name, FieldSelector: "spec.nodeName=" + t.node})
		if err != nil {
			return "", err
		}
		for _, p := range pods.Items {
			if p.DeletionTimestamp == nil {
				b, err := os.ReadFile(t.machine.Path(fmt.Sprintf("/var/lib/kubelet/pods/%s/volumes/kubernetes.io~configmap/%s/%s", p.UID, name, file)))
				if err == nil {
					return string(b), nil
				}
			}
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("no new pod has %s: %w", file, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// deletePod deletes the node's kube-proxy pods, scheduled or only meant for it.
func (t *target) deletePod(ctx context.Context) error {
	pods, err := t.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "k8s-app=" + name})
	if err != nil {
		return err
	}
	for _, p := range pods.Items {
		if p.Spec.NodeName != t.node && p.Spec.NodeName != "" {
			continue
		}
		err := t.client.CoreV1().Pods(namespace).Delete(ctx, p.Name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// editNode changes the Node object.
func (t *target) editNode(ctx context.Context, edit func(*corev1.Node)) error {
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		n, err := t.client.CoreV1().Nodes().Get(ctx, t.node, metav1.GetOptions{})
		if err != nil {
			return err
		}
		edit(n)
		_, err = t.client.CoreV1().Nodes().Update(ctx, n, metav1.UpdateOptions{})
		return err
	})
}

// labelOthers sets or removes the fault's label on every node but this one.
func (t *target) labelOthers(ctx context.Context, set bool) error {
	nodes, err := t.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, n := range nodes.Items {
		if n.Name == t.node {
			continue
		}
		other := *t
		other.node = n.Name
		if err := other.editNode(ctx, func(n *corev1.Node) {
			if set {
				n.Labels[faultMark] = ""
			} else {
				delete(n.Labels, faultMark)
			}
		}); err != nil {
			return err
		}
	}
	return nil
}
