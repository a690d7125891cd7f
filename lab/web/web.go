// Package web puts Services into a lab that work and can be broken: an HTTP
// Service of four pods, the cluster's DNS of two, and one behind which nobody is.
package web

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kproxy-exporter/kproxy-exporter/lab/cluster"
)

//go:embed web.yaml
var manifest string

// Namespace is that of the HTTP Service and of the empty one.
const Namespace = "web"

// Install loads the image on every node, applies the manifest and waits until
// every pod is ready.
func Install(ctx context.Context, c *cluster.Cluster) error {
	image, err := os.ReadFile(filepath.Join(c.Bin, "web.tar"))
	if err != nil {
		return fmt.Errorf("%w; run 'make lab-build'", err)
	}
	for i := 1; i <= c.NodeCount; i++ {
		m, err := c.Node(cluster.NodeName(i))
		if err != nil {
			return err
		}
		const path = "/run/web.tar"
		if err := m.WriteFile(path, image, 0o600); err != nil {
			return err
		}
		if err := c.LoadImage(m, path); err != nil {
			return err
		}
	}
	if err := c.Apply(ctx, manifest); err != nil {
		return err
	}
	for _, what := range [][]string{{Namespace, "web"}, {"kube-system", "dns"}} {
		if _, err := c.Kubectl(ctx, "", "-n", what[0], "rollout", "status", "deployment/"+what[1], "--timeout=90s"); err != nil {
			return err
		}
	}
	return nil
}

// Fault breaks a Service, or the way to it, on a node.
type Fault struct {
	Name string
	// Breaks says what it does, for people.
	Breaks string
	// Service is the one that is broken, as its verdict's labels have it.
	Service string
	// Here is the verdict of the node that is broken, Elsewhere of the others.
	Here, Elsewhere string
	// Pod and PodElsewhere are those of the pods' networks, if they are others.
	Pod, PodElsewhere string

	inject, heal func(context.Context, *target) error
}

type target struct {
	c    *cluster.Cluster
	node string
}

// Inject breaks it.
func (f *Fault) Inject(ctx context.Context, c *cluster.Cluster, node string) error {
	if err := f.inject(ctx, &target{c, node}); err != nil {
		return fmt.Errorf("inject %s on %s: %w", f.Name, node, err)
	}
	return nil
}

// Heal takes it back.
func (f *Fault) Heal(ctx context.Context, c *cluster.Cluster, node string) error {
	if err := f.heal(ctx, &target{c, node}); err != nil {
		return fmt.Errorf("heal %s on %s: %w", f.Name, node, err)
	}
	return nil
}

// Faults are all of them.
var Faults = []Fault{
	{
		Name: "rules-of-a-service-gone", Breaks: "somebody removes the rules of a Service on the node", Service: "web/web", Here: "dataplane", Elsewhere: "ok",
		inject: func(ctx context.Context, t *target) error {
			ip, err := t.c.Kubectl(ctx, "", "-n", Namespace, "get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
			if err != nil {
				return err
			}
			if t.c.Mode == "nftables" {
				return t.run(t.node, "nft delete element ip kube-proxy service-ips '{ "+ip+" . tcp . 80 }'")
			}
			return t.run(t.node, "iptables-nft -w -t nat -F $(iptables-nft -w -t nat -S KUBE-SERVICES | grep -- '-d "+ip+"/32' | grep -o 'KUBE-SVC-[A-Z0-9]*' | head -n 1)")
		},
		heal: restartKubeProxy,
	},
	{
		Name: "rules-of-a-node-port-gone", Breaks: "somebody removes the rules of the nodes' port on the node", Service: "web/web", Here: "dataplane", Elsewhere: "ok",
		inject: func(_ context.Context, t *target) error {
			if t.c.Mode == "nftables" {
				return t.run(t.node, "nft delete element ip kube-proxy service-nodeports '{ tcp . 30080 }'")
			}
			return t.run(t.node, "iptables-nft -w -t nat -F KUBE-NODEPORTS")
		},
		heal: restartKubeProxy,
	},
	{
		Name: "endpoint-dead", Breaks: "the process of one of four pods is stopped: its port is open and nobody answers", Service: "web/web", Here: "backend", Elsewhere: "backend",
		inject: func(ctx context.Context, t *target) error { return t.signal(ctx, "STOP") },
		heal:   func(ctx context.Context, t *target) error { return t.signal(ctx, "CONT") },
	},
	{
		Name: "endpoint-black-holed", Breaks: "nothing gets to one of four pods", Service: "web/web", Here: "backend", Elsewhere: "backend",
		inject: func(ctx context.Context, t *target) error {
			p, err := t.pod(ctx)
			if err != nil {
				return err
			}
			return t.run(p.Spec.NodeName, "nft 'add table inet lab; add chain inet lab leaving { type filter hook postrouting priority 200; }; add rule inet lab leaving ip daddr "+p.Status.PodIP+" drop'")
		},
		heal: unblock,
	},
	{
		Name: "route-cut", Breaks: "the node has lost its way to the other nodes' pods", Service: "web/web", Here: "network", Elsewhere: "ok",
		PodElsewhere: "network", // what its pods answer is lost too
		inject: func(_ context.Context, t *target) error {
			// After the connection has been noted, as on the wire.
			return t.run(t.node, "nft 'add table netdev lab; add chain netdev lab leaving { type filter hook egress device eth0 priority 0; }; add rule netdev lab leaving ip daddr 10.244.0.0/16 drop'")
		},
		heal: unblock,
	},
	{
		Name: "pods-cut-off", Breaks: "the node forwards nothing from its pods to other nodes'", Service: "web/web", Here: "ok", Elsewhere: "ok", Pod: "network", PodElsewhere: "network",
		inject: func(_ context.Context, t *target) error {
			return t.run(t.node, "nft 'add table inet lab; add chain inet lab through { type filter hook forward priority 200; }; add rule inet lab through oifname eth0 ip saddr 10.244.0.0/16 ip daddr 10.244.0.0/16 drop'")
		},
		heal: unblock,
	},
	{
		Name: "backend-gone", Breaks: "no pod listens any more", Service: "web/web", Here: "backend", Elsewhere: "backend",
		inject: func(ctx context.Context, t *target) error { return t.command(ctx, Namespace, "app=web", "/close") },
		heal: func(ctx context.Context, t *target) error {
			if _, err := t.c.Kubectl(ctx, "", "-n", Namespace, "rollout", "restart", "deployment/web"); err != nil {
				return err
			}
			_, err := t.c.Kubectl(ctx, "", "-n", Namespace, "rollout", "status", "deployment/web", "--timeout=90s")
			return err
		},
	},
	{
		Name: "dns-slow", Breaks: "every pod of the cluster's DNS takes half a minute for an answer", Service: "kube-system/kube-dns", Here: "backend", Elsewhere: "backend",
		inject: func(ctx context.Context, t *target) error {
			return t.command(ctx, "kube-system", "k8s-app=kube-dns", "/delay?ms=30000")
		},
		heal: func(ctx context.Context, t *target) error {
			return t.command(ctx, "kube-system", "k8s-app=kube-dns", "/delay?ms=0")
		},
	},
}

func (t *target) run(node, script string) error {
	m, err := t.c.Node(node)
	if err != nil {
		return err
	}
	_, err = m.Run("sh", "-c", script)
	return err
}

// pod is one of the four, on a node other than the broken one.
func (t *target) pod(ctx context.Context) (*corev1.Pod, error) {
	client, err := t.c.Client()
	if err != nil {
		return nil, err
	}
	pods, err := client.CoreV1().Pods(Namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=web"})
	if err != nil {
		return nil, err
	}
	for i := range pods.Items {
		if p := &pods.Items[i]; p.Spec.NodeName != t.node && p.DeletionTimestamp == nil {
			return p, nil
		}
	}
	return nil, errors.New("no pod of web is on another node")
}

// signal signals the process of that pod.
func (t *target) signal(ctx context.Context, name string) error {
	p, err := t.pod(ctx)
	if err != nil {
		return err
	}
	return t.run(p.Spec.NodeName, "for p in /proc/[0-9]*; do if [ \"$(cat $p/comm 2>/dev/null)\" = web ] && grep -q "+strings.ReplaceAll(string(p.UID), "-", "[-_]")+" $p/cgroup; then kill -"+name+" ${p#/proc/}; fi; done")
}

// command asks every pod's port for commands, from its own node.
func (t *target) command(ctx context.Context, namespace, selector, path string) error {
	client, err := t.c.Client()
	if err != nil {
		return err
	}
	pods, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return err
	}
	for _, p := range pods.Items {
		if err := t.run(p.Spec.NodeName, "/opt/lab/kproxy-lab scrape 'http://"+p.Status.PodIP+":8081"+path+"'"); err != nil {
			return err
		}
	}
	return nil
}

func restartKubeProxy(ctx context.Context, t *target) error {
	if _, err := t.c.Kubectl(ctx, "", "-n", "kube-system", "delete", "pod", "-l", "k8s-app=kube-proxy", "--field-selector", "spec.nodeName="+t.node); err != nil {
		return err
	}
	return t.c.WaitReady(ctx, 90*time.Second)
}

func unblock(_ context.Context, t *target) error {
	for i := 1; i <= t.c.NodeCount; i++ {
		if err := t.run(cluster.NodeName(i), "nft delete table inet lab 2>/dev/null; nft delete table netdev lab 2>/dev/null; true"); err != nil {
			return err
		}
	}
	return nil
}
