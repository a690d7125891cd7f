// Package exporter puts the exporter into a lab, as a user would: the image
// that 'make image' built, and deploy/cluster.yaml.
package exporter

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kproxy-exporter/kproxy-exporter/lab/cluster"
	"github.com/kproxy-exporter/kproxy-exporter/lab/machine"
)

// Name is that of the namespace, Deployment and service account.
const Name = "kproxy-exporter"

// Install loads the image on every node, applies the manifest of the
// repository at root, waits until the Deployment is available, and returns the
// name of its pod and of the pod's node.
func Install(ctx context.Context, c *cluster.Cluster, root string) (pod, node string, err error) {
	if err := LoadImage(c, root); err != nil {
		return "", "", err
	}
	if err := Apply(ctx, c, root); err != nil {
		return "", "", err
	}
	if _, err := c.Kubectl(ctx, "", "-n", Name, "rollout", "status", "deployment/"+Name, "--timeout=60s"); err != nil {
		why, _ := c.Kubectl(ctx, "", "-n", Name, "describe", "pods")
		return "", "", fmt.Errorf("%w\n%s", err, why)
	}
	client, err := c.Client()
	if err != nil {
		return "", "", err
	}
	pods, err := client.CoreV1().Pods(Name).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", "", err
	}
	if len(pods.Items) != 1 {
		return "", "", fmt.Errorf("%d pods of the exporter, want 1", len(pods.Items))
	}
	return pods.Items[0].Name, pods.Items[0].Spec.NodeName, nil
}

// LoadImage loads the exporter's image on every node.
func LoadImage(c *cluster.Cluster, root string) error {
	image, err := os.ReadFile(filepath.Join(root, "bin/kproxy-exporter.tar"))
	if err != nil {
		return fmt.Errorf("%w; run 'make image'", err)
	}
	for i := 1; i <= c.NodeCount; i++ {
		m, err := c.Node(cluster.NodeName(i))
		if err != nil {
			return err
		}
		const path = "/run/kproxy-exporter.tar"
		if err := m.WriteFile(path, image, 0o600); err != nil {
			return err
		}
		if err := c.LoadImage(m, path); err != nil {
			return err
		}
	}
	return nil
}

// Apply applies the manifest of the repository at root: rights and Deployment.
func Apply(ctx context.Context, c *cluster.Cluster, root string) error {
	manifest, err := os.ReadFile(filepath.Join(root, "deploy/cluster.yaml"))
	if err != nil {
		return err
	}
	return c.Apply(ctx, string(manifest))
}

// InstallCanary loads the image on every node and applies the cluster role with
// the canary, which is moved that often.
func InstallCanary(ctx context.Context, c *cluster.Cluster, root string, every time.Duration) error {
	if err := LoadImage(c, root); err != nil {
		return err
	}
	for _, file := range []string{"deploy/cluster.yaml", "deploy/canary.yaml"} {
		manifest, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			return err
		}
		if err := c.Apply(ctx, strings.Replace(string(manifest), "args: [cluster", "args: [cluster, --canary.interval="+every.String(), 1)); err != nil {
			return err
		}
	}
	if _, err := c.Kubectl(ctx, "", "-n", Name, "rollout", "status", "deployment/"+Name, "--timeout=60s"); err != nil {
		why, _ := c.Kubectl(ctx, "", "-n", Name, "describe", "pods")
		return fmt.Errorf("%w\n%s", err, why)
	}
	return nil
}

// Address is where an exporter that Start started listens, in the lab's network.
const Address = "10.99.0.1:19249"

// Where Start puts the binary and its access to the API, on the control plane's machine.
const (
	Binary         = "/usr/local/bin/kproxy-exporter"
	KubeconfigPath = "/etc/kubernetes/exporter.conf"
)

// Service is the name of its process on the control plane's machine.
const Service = "exporter"

// Start runs the exporter's binary of the repository at root on the control
// plane's machine, with the rights of the installed one: it stands in the lab's
// network, and can be asked while the API server is gone.
func Start(ctx context.Context, c *cluster.Cluster, root string, args ...string) error {
	cp, err := c.Node(cluster.ControlPlane)
	if err != nil {
		return err
	}
	binary, err := os.ReadFile(filepath.Join(root, "bin/kproxy-exporter"))
	if err != nil {
		return fmt.Errorf("%w; run 'make build'", err)
	}
	if err := cp.WriteFile(Binary, binary, 0o755); err != nil {
		return err
	}
	text, err := serviceAccountKubeconfig(ctx, c)
	if err != nil {
		return err
	}
	if err := cp.WriteFile(KubeconfigPath, []byte(text), 0o600); err != nil {
		return err
	}
	return cp.StartService(machine.Service{Name: Service, Argv: append([]string{Binary, "cluster",
		"--kubeconfig", KubeconfigPath, "--web.listen-address", Address}, args...)})
}

// NodeName is that of the node role's namespace and DaemonSet.
const NodeName = "kproxy-exporter-node"

// NodeAddress is where the node role listens on the i-th node, from 1.
func NodeAddress(i int) string { return cluster.NodeIP(i) + ":19249" }

// ProbeName is that of the prober's namespace and DaemonSet in the pods' network.
const ProbeName = "kproxy-exporter-probe"

// InstallNode loads the image on every node, applies the manifest of the node
// role with more arguments, and waits until it runs everywhere.
func InstallNode(ctx context.Context, c *cluster.Cluster, root string, args ...string) error {
	return installDaemonSet(ctx, c, root, "deploy/node.yaml", NodeName, args)
}

// InstallProbe is InstallNode for the prober in the pods' network.
func InstallProbe(ctx context.Context, c *cluster.Cluster, root string, args ...string) error {
	return installDaemonSet(ctx, c, root, "deploy/probe.yaml", ProbeName, args)
}

func installDaemonSet(ctx context.Context, c *cluster.Cluster, root, file, name string, args []string) error {
	if err := LoadImage(c, root); err != nil {
		return err
	}
	manifest, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		return err
	}
	with := strings.Join(append([]string{"args: [node"}, args...), ", ")
	if err := c.Apply(ctx, strings.Replace(string(manifest), "args: [node", with, 1)); err != nil {
		return err
	}
	if _, err := c.Kubectl(ctx, "", "-n", name, "rollout", "status", "daemonset/"+name, "--timeout=60s"); err != nil {
		why, _ := c.Kubectl(ctx, "", "-n", name, "describe", "pods")
		return fmt.Errorf("%w\n%s", err, why)
	}
	return nil
}

// Stop ends what Start started, as the kubelet ends a container, and returns
// its log and how it ended.
func Stop(c *cluster.Cluster) (log, exit string, err error) {
	cp, err := c.Node(cluster.ControlPlane)
	if err != nil {
		return "", "", err
	}
	if err := cp.StopService(Service, syscall.SIGTERM); err != nil {
		return "", "", err
	}
	states, err := cp.Services()
	if err != nil {
		return "", "", err
	}
	for _, s := range states {
		if s.Name == Service {
			exit = s.Exit
		}
	}
	return Log(c), exit, nil
}

// Log is what it has said so far.
func Log(c *cluster.Cluster) string {
	cp, err := c.Node(cluster.ControlPlane)
	if err != nil {
		return err.Error()
	}
	return cp.Tail(Service, 10000)
}

// serviceAccountKubeconfig renders access with the exporter's own rights.
func serviceAccountKubeconfig(ctx context.Context, c *cluster.Cluster) (string, error) {
	client, err := c.Client()
	if err != nil {
		return "", err
	}
	hours := int64(12 * 3600)
	token, err := client.CoreV1().ServiceAccounts(Name).CreateToken(ctx, Name,
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &hours}}, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	return strings.NewReplacer("{SERVER}", "https://"+cluster.APIAddress, "{TOKEN}", token.Status.Token).Replace(`apiVersion: v1
kind: Config
clusters: [{name: lab, cluster: {server: "{SERVER}", certificate-authority: /etc/kubernetes/pki/ca.crt}}]
users: [{name: exporter, user: {token: "{TOKEN}"}}]
contexts: [{name: lab, context: {cluster: lab, user: exporter}}]
current-context: lab
`), nil
}
