package fault

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kproxy-exporter/kproxy-exporter/lab/cluster"
	"github.com/kproxy-exporter/kproxy-exporter/lab/machine"
)

// configFaults are wrong configurations and versions.
var configFaults = []Fault{
	{
		Name: "mode-ipvs", Breaks: "the ConfigMap wants mode ipvs, which this kernel does not have", OnNode: "prerequisite_missing/ip_vs",
		BesideOnNode: []string{"vip_unreachable"}, // it removes the rules of its old mode first
		Cause:        "prerequisite_missing", Detail: "ip_vs", Beside: []string{"crash_loop"},
		inject: editKubeProxyConfig(func(c string) string { return replaceLine(c, "mode:", "mode: ipvs") }),
	},
	{
		Name: "cluster-cidr-beside", Breaks: "clusterCIDR in the ConfigMap is not the pods' range",
		Cause: "config_mismatch", Detail: "cluster_cidr",
		inject: editKubeProxyConfig(func(c string) string { return replaceLine(c, "clusterCIDR:", "clusterCIDR: 10.10.0.0/16") }),
	},
	{
		Name: "config-not-applied", Breaks: "the ConfigMap is changed and kube-proxy is not restarted", Everywhere: true,
		Cause: "config_mismatch", Detail: "not_applied", Within: 3 * time.Minute,
		inject: editConfigOnly(func(c string) string { return "oomScoreAdj: -998\n" + c }),
	},
	{
		Name: "ip-family-mismatch", Breaks: "clusterCIDR in the ConfigMap is of the other IP family",
		Cause: "config_mismatch", Detail: "ip_family",
		inject: editKubeProxyConfig(func(c string) string { return replaceLine(c, "clusterCIDR:", "clusterCIDR: fd00:10::/48") }),
	},
	{
		Name: "hostname-wrong", Breaks: "the DaemonSet passes a name that no Node has", OnNode: "config_mismatch/hostname",
		Cause: "config_mismatch", Detail: "hostname",
		inject: editPodSpec(func(s *corev1.PodSpec) {
			s.Containers[0].Command = append(s.Containers[0].Command[:2:2], "--hostname-override=nobody")
		}),
	},
	{
		Name: "two-proxies", Breaks: "Cilium says that it replaces kube-proxy, which still runs", Everywhere: true,
		Cause: "conflicting_rules", Detail: "other_proxy",
		inject: func(ctx context.Context, t *target) error {
			_, err := t.client.CoreV1().ConfigMaps(namespace).Create(ctx, &corev1.ConfigMap{
				ObjectMeta: metav1.ObjectMeta{Name: "cilium-config"}, Data: map[string]string{"kube-proxy-replacement": "true"},
			}, metav1.CreateOptions{})
			return err
		},
		heal: func(ctx context.Context, t *target) error {
			return gone(t.client.CoreV1().ConfigMaps(namespace).Delete(ctx, "cilium-config", metav1.DeleteOptions{}))
		},
	},
	{
		Name: "metrics-on-localhost", Breaks: "the metrics are bound to the loopback address, kubeadm's default", OnNode: "metrics_unreachable/localhost_bind",
		Cause: "metrics_unreachable", Detail: "localhost_bind",
		inject: editKubeProxyConfig(func(c string) string {
			return replaceLine(c, "metricsBindAddress:", "metricsBindAddress: 127.0.0.1:10249")
		}),
	},
	{
		Name: "metrics-port-taken", Breaks: "somebody else listens on the metrics port",
		Cause: "port_conflict", Detail: "metrics", Beside: []string{"crash_loop"},
		inject: func(ctx context.Context, t *target) error {
			if err := t.squat("10249"); err != nil {
				return err
			}
			return editKubeProxyConfig(func(c string) string { return "bindAddressHardFail: true\n" + c })(ctx, t)
		},
		heal: stopSquatter,
	},
	{
		Name: "metrics-port-foreign", Breaks: "somebody else listens on the metrics port, and kube-proxy runs on without it", OnNode: "port_conflict/metrics",
		Cause: "port_conflict", Detail: "metrics",
		inject: func(ctx context.Context, t *target) error {
			if err := t.squat("10249"); err != nil {
				return err
			}
			return t.deletePod(ctx)
		},
		heal: stopSquatter,
	},
	{
		Name: "healthz-port-taken", Breaks: "somebody else listens on the health port",
		Cause: "port_conflict", Detail: "healthz", Beside: []string{"crash_loop"},
		inject: func(ctx context.Context, t *target) error {
			if err := t.squat("10256"); err != nil {
				return err
			}
			return editKubeProxyConfig(func(c string) string { return "bindAddressHardFail: true\n" + c })(ctx, t)
		},
		heal: stopSquatter,
	},
	{
		Name: "no-target", Breaks: "the Service that monitoring scrapes selects labels that no pod has", Everywhere: true,
		Cause: "metrics_unreachable", Detail: "no_target",
		inject: func(ctx context.Context, t *target) error {
			_, err := t.client.CoreV1().Services(namespace).Create(ctx, &corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Name: "monitoring-kube-proxy"},
				Spec: corev1.ServiceSpec{
					ClusterIP: corev1.ClusterIPNone, Selector: map[string]string{"component": "kube-proxy"},
					Ports: []corev1.ServicePort{{Name: "http-metrics", Port: 10249}},
				},
			}, metav1.CreateOptions{})
			return err
		},
		heal: func(ctx context.Context, t *target) error {
			return gone(t.client.CoreV1().Services(namespace).Delete(ctx, "monitoring-kube-proxy", metav1.DeleteOptions{}))
		},
	},
}

// policyFaults are what the node or the cluster does not let kube-proxy do.
var policyFaults = []Fault{
	{
		Name: "no-such-command", Breaks: "the DaemonSet starts a program that is not in the image",
		Cause: "container_runtime", Detail: "create_container", Beside: []string{"crash_loop"},
		inject: editPodSpec(func(s *corev1.PodSpec) { s.Containers[0].Command = []string{"/nope"} }),
	},
	{
		Name: "image-without-nft", Breaks: "kube-proxy does not find the nft program", Modes: []string{"nftables"},
		Cause: "prerequisite_missing", Detail: "nft", Beside: []string{"crash_loop"}, inject: editPodSpec(noPath),
	},
	{
		Name: "image-without-iptables", Breaks: "kube-proxy does not find the iptables programs", Modes: []string{"iptables"},
		Cause: "prerequisite_missing", Detail: "binary", Beside: []string{"crash_loop"}, inject: editPodSpec(noPath),
	},
	{
		Name: "pod-security", Breaks: "kube-system enforces the PodSecurity level baseline",
		Cause: "security_policy", Detail: "pod_security", Beside: []string{"missing_on_node"},
		inject: func(ctx context.Context, t *target) error {
			if err := t.enforce(ctx, `"baseline"`); err != nil {
				return err
			}
			return t.deletePod(ctx)
		},
		heal: func(ctx context.Context, t *target) error { return t.enforce(ctx, "null") },
	},
	{
		Name: "token-refused", Breaks: "the token in kube-proxy's kubeconfig is not one of this cluster", OnNode: "api_unreachable/unauthorized",
		Cause: "api_unreachable", Detail: "unauthorized", inject: editKubeconfig("    tokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token", "    token: not-a-token"),
	},
	{
		Name: "wrong-server", Breaks: "the kubeconfig names a port on which no API server listens", OnNode: "api_unreachable/refused",
		Cause: "api_unreachable", Detail: "refused", inject: editKubeconfig("https://10.99.0.1:6443", "https://10.99.0.1:6444"),
	},
	{
		Name: "server-certificate-expired", Breaks: "the address in the kubeconfig shows a certificate that has expired", OnNode: "api_unreachable/cert_expired",
		Cause: "api_unreachable", Detail: "cert_expired",
		inject: func(ctx context.Context, t *target) error {
			if err := t.cluster.ServeExpired(); err != nil {
				return err
			}
			return editKubeconfig("https://10.99.0.1:6443", "https://"+cluster.ExpiredAddress)(ctx, t)
		},
		heal: func(_ context.Context, t *target) error { return t.cluster.StopExpired() },
	},
	{
		Name: "wrong-ca", Breaks: "the kubeconfig trusts another CA", OnNode: "api_unreachable/tls",
		Cause: "api_unreachable", Detail: "tls", inject: editKubeconfig("    certificate-authority: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt\n", ""),
	},
	{
		Name: "rights-removed", Breaks: "kube-proxy's service account lost its rights, and its pod starts anew", OnNode: "api_unreachable/forbidden", EverywhereOnNode: true,
		Cause: "api_unreachable", Detail: "forbidden",
		inject: func(ctx context.Context, t *target) error {
			if err := t.subjects(ctx, nil); err != nil {
				return err
			}
			return t.deletePod(ctx)
		},
		heal: func(ctx context.Context, t *target) error {
			return t.subjects(ctx, []rbacv1.Subject{{Kind: "ServiceAccount", Name: name, Namespace: namespace}})
		},
	},
	{
		Name: "metrics-firewalled", Breaks: "a firewall on the node drops what comes for the metrics port",
		Cause: "metrics_unreachable", Detail: "firewall",
		inject: func(_ context.Context, t *target) error {
			_, err := t.machine.Run("nft", "add table inet lab; add chain inet lab in { type filter hook input priority 0; }; add rule inet lab in iifname eth0 tcp dport 10249 drop")
			return err
		},
		heal: unfirewall,
	},
	{
		Name: "containerd-stopped", Breaks: "the container runtime is stopped", OnNode: "container_runtime/down",
		Cause: "container_runtime", Detail: "down", Beside: []string{"node_not_ready"},
		inject: func(_ context.Context, t *target) error { return t.machine.StopService("containerd", syscall.SIGKILL) },
		heal: func(ctx context.Context, t *target) error {
			if err := startIfStopped(t.machine, "containerd"); err != nil {
				return err
			}
			if err := cluster.RestartService(t.machine, "kubelet"); err != nil {
				return err
			}
			return t.keepKubelet(ctx)
		},
	},
}

// keepKubelet starts the kubelet as often as it ends, as systemd does, until it has run
// for a while: a container runtime that has just begun refuses it, and it ends.
func (t *target) keepKubelet(ctx context.Context) error {
	const while = 3 * time.Second
	ctx, cancel := context.WithTimeout(ctx, waitReady)
	defer cancel()
	for began := time.Now(); time.Since(began) < while; {
		states, err := t.machine.Services()
		if err != nil {
			return err
		}
		for _, s := range states {
			if s.Name == "kubelet" && !s.Running {
				began = time.Now()
				if err := cluster.StartService(t.machine, "kubelet"); err != nil {
					return err
				}
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the kubelet does not stay: %w", ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
	return nil
}

// squat listens on a port of the node as soon as kube-proxy lets go of it.
func (t *target) squat(port string) error {
	return t.machine.StartService(machine.Service{Name: "squatter", Argv: []string{
		"/opt/lab/kproxy-lab", "registry", "--patient", "--listen=0.0.0.0:" + port,
	}})
}

func stopSquatter(_ context.Context, t *target) error {
	return t.machine.StopService("squatter", syscall.SIGKILL)
}

func noPath(s *corev1.PodSpec) {
	s.Containers[0].Env = append(s.Containers[0].Env, corev1.EnvVar{Name: "PATH", Value: "/nowhere"})
}

// gone is nil if what should be deleted was not there.
func gone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// editConfigOnly changes the configuration file and lets every pod run on; one that
// begins now would begin with it.
func editConfigOnly(edit func(string) string) func(context.Context, *target) error {
	return func(ctx context.Context, t *target) error {
		if err := t.haveRun(ctx, settled, ""); err != nil {
			return err
		}
		return t.editConfig(ctx, func(c *corev1.ConfigMap) { c.Data["config.conf"] = edit(c.Data["config.conf"]) })
	}
}

// editKubeconfig changes kube-proxy's access to the API, and replaces the node's pod.
func editKubeconfig(old, with string) func(context.Context, *target) error {
	return func(ctx context.Context, t *target) error {
		if err := t.strategy(ctx, appsv1.OnDeleteDaemonSetStrategyType); err != nil {
			return err
		}
		return t.replaceWith(ctx, "kubeconfig.conf", func(text string) string { return strings.ReplaceAll(text, old, with) })
	}
}

// enforce sets the PodSecurity level of kube-system; level is JSON.
func (t *target) enforce(ctx context.Context, level string) error {
	_, err := t.client.CoreV1().Namespaces().Patch(ctx, namespace, types.MergePatchType,
		[]byte(`{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":`+level+`}}}`), metav1.PatchOptions{})
	return err
}

// subjects sets who has kube-proxy's rights.
func (t *target) subjects(ctx context.Context, subjects []rbacv1.Subject) error {
	const binding = "kubeadm:node-proxier"
	b, err := t.client.RbacV1().ClusterRoleBindings().Get(ctx, binding, metav1.GetOptions{})
	if err != nil {
		return err
	}
	b.Subjects = subjects
	_, err = t.client.RbacV1().ClusterRoleBindings().Update(ctx, b, metav1.UpdateOptions{})
	return err
}
