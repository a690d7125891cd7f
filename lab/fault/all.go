package fault

import (
	"context"
	"os"
	"slices"
	"strings"
	"syscall"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kproxy-exporter/kproxy-exporter/lab/cluster"
	"github.com/kproxy-exporter/kproxy-exporter/lab/machine"
)

const (
	// faultMark is the key of taints and labels that a fault sets.
	faultMark = "kproxy-lab/fault"
	quotaName = "kproxy-lab-fault"
)

// All are the faults, those that are quick to take back first.
var All = slices.Concat(podFaults, configFaults, policyFaults, nodeFaults, ownFaults, ruleFaults)

// podFaults are what keeps kube-proxy's pod from being or from running.
var podFaults = []Fault{
	{
		Name: "bad-config-field", Breaks: "the ConfigMap names a proxy mode that does not exist", OnNode: "crash_loop/config_invalid",
		Cause: "crash_loop", Detail: "config_invalid",
		inject: editKubeProxyConfig(func(c string) string { return replaceLine(c, "mode:", "mode: userspace") }),
	},
	{
		Name: "broken-config", Breaks: "the ConfigMap is not YAML any more",
		Cause: "crash_loop", Detail: "config_parse",
		inject: editKubeProxyConfig(func(c string) string { return "{ " + c }),
	},
	{
		Name: "sysctl-denied", Breaks: "the ConfigMap wants conntrack limits that a node in a container may not set",
		Cause: "crash_loop", Detail: "sysctl_denied",
		inject: editKubeProxyConfig(func(c string) string { return replaceLine(c, "conntrack:", "conntrack: {min: 1000000}") }),
	},
	{
		Name: "kubeconfig-missing", Breaks: "the ConfigMap names a kubeconfig that is not there",
		Cause: "crash_loop", Detail: "kubeconfig",
		inject: editKubeProxyConfig(func(c string) string {
			return replaceLine(c, "  kubeconfig:", "  kubeconfig: /var/lib/kube-proxy/none.conf")
		}),
	},
	{
		Name: "bad-flag", Breaks: "the DaemonSet passes a flag that kube-proxy does not have",
		Cause: "crash_loop", Detail: "bad_flag",
		inject: editPodSpec(func(s *corev1.PodSpec) { s.Containers[0].Command = append(s.Containers[0].Command, "--no-such-flag") }),
	},
	{
		Name: "wrong-arch", Breaks: "the image is for another CPU",
		Cause: "crash_loop", Detail: "wrong_arch",
		inject: func(ctx context.Context, t *target) error {
			if err := t.cluster.LoadImage(t.machine, "/opt/lab/wrong-arch.tar"); err != nil {
				return err
			}
			return editPodSpec(func(s *corev1.PodSpec) { s.Containers[0].Image = cluster.WrongArchImage })(ctx, t)
		},
	},
	{
		Name: "low-memory", Breaks: "the container may use so little memory that the kernel kills it",
		Cause: "oom_killed", Detail: "container", Beside: []string{"crash_loop"},
		inject: editPodSpec(func(s *corev1.PodSpec) {
			s.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("16Mi")}
		}),
	},
	{
		Name: "failing-liveness-probe", Breaks: "a liveness probe asks a port that nobody serves",
		Cause: "crash_loop", Detail: "liveness_killed",
		inject: editPodSpec(func(s *corev1.PodSpec) {
			s.Containers[0].LivenessProbe = &corev1.Probe{
				ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(10299), Host: "127.0.0.1"}},
				PeriodSeconds: 1, FailureThreshold: 2,
			}
		}),
	},
	{
		Name: "image-not-found", Breaks: "the DaemonSet names a tag that the registry does not have",
		Cause: "image_pull", Detail: "not_found",
		inject: editPodSpec(func(s *corev1.PodSpec) { s.Containers[0].Image = cluster.RegistryPort + "/kube-proxy:v0.0.0" }),
	},
	{
		Name: "registry-unreachable", Breaks: "the DaemonSet names a registry that does not answer",
		Cause: "image_pull", Detail: "unreachable",
		inject: editPodSpec(func(s *corev1.PodSpec) { s.Containers[0].Image = "10.99.0.1:5999/kube-proxy:v0.0.0" }),
	},
	{
		Name: "sandbox-image-gone", Breaks: "the pause image is gone from the node and nobody has it",
		Cause: "image_pull", Detail: "sandbox_image",
		inject: func(ctx context.Context, t *target) error {
			if _, err := t.machine.Run("ctr", "-n", "k8s.io", "images", "rm", "--sync", cluster.PauseImage); err != nil {
				return err
			}
			return t.deletePod(ctx)
		},
		heal: func(_ context.Context, t *target) error { return t.cluster.LoadImage(t.machine, "/opt/lab/pause.tar") },
	},
	{
		Name: "taint", Breaks: "the node has a taint and the DaemonSet lost its tolerations",
		Cause: "missing_on_node", Detail: "taint",
		inject: func(ctx context.Context, t *target) error {
			err := t.editDaemonSet(ctx, func(d *appsv1.DaemonSet) { d.Spec.Template.Spec.Tolerations = nil })
			if err != nil {
				return err
			}
			if err := t.editNode(ctx, func(n *corev1.Node) {
				n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: faultMark, Effect: corev1.TaintEffectNoExecute})
			}); err != nil {
				return err
			}
			return t.deletePod(ctx)
		},
		heal: func(ctx context.Context, t *target) error {
			return t.editNode(ctx, func(n *corev1.Node) {
				var keep []corev1.Taint
				for _, taint := range n.Spec.Taints {
					if taint.Key != faultMark {
						keep = append(keep, taint)
					}
				}
				n.Spec.Taints = keep
			})
		},
	},
	{
		Name: "selector-mismatch", Breaks: "the DaemonSet selects a label that every node has but this one",
		Cause: "missing_on_node", Detail: "selector",
		inject: func(ctx context.Context, t *target) error {
			// Not kubernetes.io/os: the kubelet puts that back by itself.
			if err := t.labelOthers(ctx, true); err != nil {
				return err
			}
			return t.editDaemonSet(ctx, func(d *appsv1.DaemonSet) { d.Spec.Template.Spec.NodeSelector[faultMark] = "" })
		},
		heal: func(ctx context.Context, t *target) error { return t.labelOthers(ctx, false) },
	},
	{
		Name: "does-not-fit", Breaks: "the pod asks for more CPU than the node has",
		Cause: "missing_on_node", Detail: "fit",
		inject: editPodSpec(func(s *corev1.PodSpec) {
			s.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1000")}
		}),
	},
	{
		Name: "quota", Breaks: "a quota forbids new pods in kube-system",
		Cause: "missing_on_node", Detail: "not_created",
		inject: func(ctx context.Context, t *target) error {
			_, err := t.client.CoreV1().ResourceQuotas(namespace).Create(ctx, &corev1.ResourceQuota{
				ObjectMeta: metav1.ObjectMeta{Name: quotaName},
				Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("0")}},
			}, metav1.CreateOptions{})
			if err != nil {
				return err
			}
			return t.deletePod(ctx)
		},
		heal: func(ctx context.Context, t *target) error {
			err := t.client.CoreV1().ResourceQuotas(namespace).Delete(ctx, quotaName, metav1.DeleteOptions{})
			if apierrors.IsNotFound(err) {
				return nil
			}
			return err
		},
	},
	{
		Name: "not-installed", Breaks: "the DaemonSet is deleted", Everywhere: true,
		Cause: "missing_on_node", Detail: "not_installed",
		inject: func(ctx context.Context, t *target) error {
			return t.client.AppsV1().DaemonSets(namespace).Delete(ctx, name, metav1.DeleteOptions{})
		},
	},
}

// nodeFaults are what is wrong with the node under it.
var nodeFaults = []Fault{
	kubeletThreshold("memory-pressure", "memory", "memory.available: 99.99%"),
	kubeletThreshold("disk-pressure", "disk", "nodefs.available: 99.99%"),
	kubeletThreshold("pid-pressure", "pid", "pid.available: 99.99%"),
	{
		Name: "evicted", Breaks: "the pod has no priority, and the kubelet evicts what has none for want of memory",
		Cause: "evicted", Detail: "memory", Beside: []string{"node_pressure", "node_not_ready"},
		inject: func(ctx context.Context, t *target) error {
			if err := editPodSpec(func(s *corev1.PodSpec) { s.PriorityClassName, s.Priority = "", nil })(ctx, t); err != nil {
				return err
			}
			return configureKubelet(t, func(c string) string { return c + evictMemory })
		},
		heal: func(_ context.Context, t *target) error {
			return configureKubelet(t, func(c string) string { return strings.ReplaceAll(c, evictMemory, "") })
		},
	},
	{
		Name: "network-plugin-gone", Breaks: "the node's CNI configuration is moved away",
		Cause: "node_not_ready", Detail: "not_ready",
		inject: func(_ context.Context, t *target) error {
			return os.Rename(t.machine.Path(cluster.CNIConfig), t.machine.Path(cluster.CNIConfig+".away"))
		},
		heal: func(_ context.Context, t *target) error {
			err := os.Rename(t.machine.Path(cluster.CNIConfig+".away"), t.machine.Path(cluster.CNIConfig))
			if os.IsNotExist(err) {
				return nil
			}
			return err
		},
	},
	{
		Name: "kubelet-stopped", Breaks: "the kubelet is stopped",
		Cause: "node_not_ready", Detail: "unknown",
		inject: func(_ context.Context, t *target) error { return t.machine.StopService("kubelet", syscall.SIGKILL) },
		heal:   func(_ context.Context, t *target) error { return startIfStopped(t.machine, "kubelet") },
	},
}

const evictMemory = "evictionHard: {memory.available: 99.99%}\n"

// configureKubelet changes the kubelet's configuration and restarts it.
func configureKubelet(t *target, change func(string) string) error {
	p := t.machine.Path(cluster.KubeletConfig)
	b, err := os.ReadFile(p)
	if err != nil {
		return err
	}
	now := change(string(b))
	if now == string(b) {
		return nil
	}
	if err := os.WriteFile(p, []byte(now), 0o600); err != nil {
		return err
	}
	return cluster.RestartService(t.machine, "kubelet")
}

// kubeletThreshold makes the kubelet call what there is too little.
func kubeletThreshold(fault, detail, threshold string) Fault {
	added := "evictionSoft: {" + threshold + "}\nevictionSoftGracePeriod: {" + strings.SplitN(threshold, ":", 2)[0] + ": 1h}\n"
	return Fault{
		Name: fault, Breaks: "the kubelet's threshold for " + threshold + " is crossed",
		Cause: "node_pressure", Detail: detail,
		Beside: []string{"node_not_ready"}, // for a moment, of a kubelet that is started anew on a busy machine
		inject: func(_ context.Context, t *target) error {
			return configureKubelet(t, func(c string) string { return c + added })
		},
		heal: func(_ context.Context, t *target) error {
			return configureKubelet(t, func(c string) string { return strings.ReplaceAll(c, added, "") })
		},
	}
}

func startIfStopped(m *machine.Machine, service string) error {
	states, err := m.Services()
	if err != nil {
		return err
	}
	for _, s := range states {
		if s.Name == service && !s.Running {
			return m.StartService(machine.Service{Name: service})
		}
	}
	return nil
}

// replaceLine replaces the line of a text that begins with start.
func replaceLine(text, start, line string) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, start) {
			lines[i] = line
		}
	}
	return strings.Join(lines, "\n")
}
