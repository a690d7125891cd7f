package fault

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kproxy-exporter/kproxy-exporter/lab/cluster"
)

// Change is something that happens to healthy clusters. While it runs, and
// after, nothing may be called wrong on any node.
type Change struct {
	Name string
	// Does says what happens, for people.
	Does string
	// Run makes it happen and takes it back.
	Run func(ctx context.Context, c *cluster.Cluster, node string) error
}

// waitReady is how long a cluster may take to be whole again.
const waitReady = 90 * time.Second

// Changes are the healthy ones.
var Changes = slices.Concat(clusterChanges, serviceChanges)

// clusterChanges are what happens to nodes, to the control plane and to
// kube-proxy itself.
var clusterChanges = []Change{
	{
		Name: "rolling-restart", Does: "kube-proxy's pods are replaced one after the other",
		Run: func(ctx context.Context, c *cluster.Cluster, _ string) error {
			return kubectl(ctx, c,
				[]string{"-n", namespace, "rollout", "restart", "daemonset/" + name},
				[]string{"-n", namespace, "rollout", "status", "daemonset/" + name, "--timeout=90s"})
		},
	},
	{
		Name: "cordon", Does: "the node takes no new pods, and kube-proxy's pod is replaced meanwhile",
		Run: func(ctx context.Context, c *cluster.Cluster, node string) error {
			return kubectl(ctx, c,
				[]string{"cordon", node},
				[]string{"-n", namespace, "rollout", "restart", "daemonset/" + name},
				[]string{"-n", namespace, "rollout", "status", "daemonset/" + name, "--timeout=90s"},
				[]string{"uncordon", node})
		},
	},
	{
		Name: "drain", Does: "the node is emptied as the cluster autoscaler does before it removes a node",
		Run: func(ctx context.Context, c *cluster.Cluster, node string) error {
			const taint = "ToBeDeletedByClusterAutoscaler"
			return kubectl(ctx, c,
				[]string{"taint", "node", node, taint + "=1:NoSchedule"},
				[]string{"drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=60s"},
				[]string{"taint", "node", node, taint + "-"},
				[]string{"uncordon", node})
		},
	},
	{
		Name: "node-added", Does: "a node joins, works, and is removed again",
		Run: func(ctx context.Context, c *cluster.Cluster, _ string) error {
			if err := c.AddNodes(ctx, 1); err != nil {
				return err
			}
			if err := c.WaitReady(ctx, waitReady); err != nil {
				return err
			}
			return c.RemoveNode(ctx, cluster.NodeName(c.NodeCount))
		},
	},
	{
		Name: "api-server-restarted", Does: "the API server ends and starts again",
		Run: func(ctx context.Context, c *cluster.Cluster, _ string) error {
			cp, err := c.Node(cluster.ControlPlane)
			if err != nil {
				return err
			}
			if err := cluster.RestartService(cp, "kube-apiserver"); err != nil {
				return err
			}
			if err := c.WaitAPI(ctx, cp, waitReady); err != nil {
				return err
			}
			return c.WaitReady(ctx, waitReady)
		},
	},
	{
		Name: "replaced", Does: "Cilium takes kube-proxy's place, and kube-proxy comes back",
		Run: func(ctx context.Context, c *cluster.Cluster, node string) error {
			t, err := newTarget(c, node)
			if err != nil {
				return err
			}
			// One that an API server refused for a moment, as it began anew, says so for a minute.
			if err := t.haveRun(ctx, time.Minute, ""); err != nil {
				return err
			}
			if err := c.Apply(ctx, ciliumManifest); err != nil {
				return err
			}
			if err := kubectl(ctx, c,
				[]string{"-n", namespace, "rollout", "status", "daemonset/cilium", "--timeout=90s"},
				[]string{"-n", namespace, "delete", "daemonset", name, "--wait"}); err != nil {
				return err
			}
			if err := waitGone(ctx, c); err != nil {
				return err
			}
			if err := c.InstallKubeProxy(ctx); err != nil {
				return err
			}
			if err := c.WaitReady(ctx, waitReady); err != nil {
				return err
			}
			return kubectl(ctx, c, []string{"-n", namespace, "delete", "daemonset", "cilium", "--wait"})
		},
	},
	restarted("controllers-restarted", "the controller manager and the scheduler end and start again", cluster.ControlPlane, "kube-controller-manager", "kube-scheduler"),
	restarted("etcd-restarted", "etcd ends and starts again", cluster.ControlPlane, "etcd"),
	restarted("kubelet-restarted", "a node's kubelet ends and starts again", "", "kubelet"),
	{
		Name: "config-rolled-out", Does: "the ConfigMap changes, then the pods are restarted, as one does",
		Run: func(ctx context.Context, c *cluster.Cluster, node string) error {
			return withConfig(ctx, c, node, func(old string) string {
				return strings.Replace(old, "clusterCIDR:", "configSyncPeriod: 10m\nclusterCIDR:", 1)
			})
		},
	},
	{
		Name: "mode-changed", Does: "kube-proxy is moved to another mode and back",
		Run: func(ctx context.Context, c *cluster.Cluster, node string) error {
			other := map[string]string{"nftables": "iptables", "iptables": "nftables"}[c.Mode]
			return withConfig(ctx, c, node, func(old string) string { return strings.Replace(old, "mode: "+c.Mode, "mode: "+other, 1) })
		},
	},
	{
		Name: "node-labelled", Does: "a node gets labels, annotations and a taint that all tolerate",
		Run: func(ctx context.Context, c *cluster.Cluster, node string) error {
			return kubectl(ctx, c,
				[]string{"label", "node", node, "topology.kubernetes.io/zone=a"}, []string{"annotate", "node", node, "note=x"}, []string{"taint", "node", node, "dedicated=x:NoSchedule"},
				[]string{"taint", "node", node, "dedicated-"}, []string{"annotate", "node", node, "note-"}, []string{"label", "node", node, "topology.kubernetes.io/zone-"})
		},
	},
}

// restarted is a change in which services of a machine, the node's if machine is
// empty, end and start again at once.
func restarted(name, does, machine string, services ...string) Change {
	return Change{
		Name: name, Does: does,
		Run: func(ctx context.Context, c *cluster.Cluster, node string) error {
			m, err := c.Node(cmp.Or(machine, node))
			if err != nil {
				return err
			}
			for _, s := range services {
				if err := cluster.RestartService(m, s); err != nil {
					return err
				}
			}
			cp, err := c.Node(cluster.ControlPlane)
			if err != nil {
				return err
			}
			if err := c.WaitAPI(ctx, cp, waitReady); err != nil {
				return err
			}
			return c.WaitReady(ctx, waitReady)
		},
	}
}

// withConfig changes kube-proxy's configuration, restarts its pods, and takes
// both back.
func withConfig(ctx context.Context, c *cluster.Cluster, node string, edit func(string) string) error {
	t, err := newTarget(c, node)
	if err != nil {
		return err
	}
	stock, _, err := c.KubeProxyObjects()
	if err != nil {
		return err
	}
	const file = "config.conf"
	changed := edit(stock.Data[file])
	if changed == stock.Data[file] {
		return errors.New("the lab's kube-proxy configuration does not have what this change changes")
	}
	for _, text := range []string{changed, stock.Data[file]} {
		if err := t.editConfig(ctx, func(m *corev1.ConfigMap) { m.Data[file] = text }); err != nil {
			return err
		}
		if err := kubectl(ctx, c,
			[]string{"-n", namespace, "rollout", "restart", "daemonset/" + name},
			[]string{"-n", namespace, "rollout", "status", "daemonset/" + name, "--timeout=90s"}); err != nil {
			return err
		}
	}
	return nil
}

// ciliumManifest is what the exporter can see of Cilium: a DaemonSet of its name.
const ciliumManifest = `apiVersion: apps/v1
kind: DaemonSet
metadata: {name: cilium, namespace: kube-system, labels: {k8s-app: cilium}}
spec:
  selector: {matchLabels: {k8s-app: cilium}}
  template:
    metadata: {labels: {k8s-app: cilium}}
    spec:
      hostNetwork: true
      tolerations: [{operator: Exists}]
      terminationGracePeriodSeconds: 0
      containers: [{name: cilium-agent, image: "` + cluster.PauseImage + `", imagePullPolicy: Never}]
`

func kubectl(ctx context.Context, c *cluster.Cluster, commands ...[]string) error {
	for _, args := range commands {
		if _, err := c.Kubectl(ctx, "", args...); err != nil {
			return err
		}
	}
	return nil
}

// waitGone waits until no kube-proxy pod is left.
func waitGone(ctx context.Context, c *cluster.Cluster) error {
	client, err := c.Client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, waitReady)
	defer cancel()
	for {
		pods, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "k8s-app=" + name})
		if err == nil && len(pods.Items) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("kube-proxy's pods do not go: %v: %w", podNames(pods), err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func podNames(list *corev1.PodList) (out []string) {
	if list != nil {
		for _, p := range list.Items {
			out = append(out, p.Name)
		}
	}
	return out
}
