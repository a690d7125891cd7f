package cluster

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// kubeProxyManifest is what kubeadm installs; {MODE} and {IMAGE} are filled in.
//
//go:embed kube-proxy.yaml
var kubeProxyManifest string

// InstallKubeProxy applies kubeadm's kube-proxy with this lab's mode.
func (c *Cluster) InstallKubeProxy(ctx context.Context) error {
	return c.Apply(ctx, c.manifest())
}

func (c *Cluster) manifest() string {
	return strings.NewReplacer("{MODE}", c.Mode, "{IMAGE}", kubeProxyImage).Replace(kubeProxyManifest)
}

// KubeProxyObjects are the ConfigMap and the DaemonSet as they are installed.
func (c *Cluster) KubeProxyObjects() (*corev1.ConfigMap, *appsv1.DaemonSet, error) {
	config, daemonSet := &corev1.ConfigMap{}, &appsv1.DaemonSet{}
	for _, document := range strings.Split(c.manifest(), "\n---\n") {
		var into any
		switch {
		case strings.Contains(document, "kind: ConfigMap"):
			into = config
		case strings.Contains(document, "kind: DaemonSet"):
			into = daemonSet
		default:
			continue
		}
		if err := yaml.UnmarshalStrict([]byte(document), into); err != nil {
			return nil, nil, fmt.Errorf("the lab's own manifest: %w", err)
		}
	}
	return config, daemonSet, nil
}

// Apply applies manifests as the admin.
func (c *Cluster) Apply(ctx context.Context, manifest string) error {
	_, err := c.Kubectl(ctx, manifest, "apply", "--server-side", "--force-conflicts", "-f", "-")
	return err
}

// Kubectl runs kubectl from the host as the admin and returns its output.
func (c *Cluster) Kubectl(ctx context.Context, stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(c.Bin, "kube"), append([]string{"kubectl"}, args...)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig(), "HOME="+c.Dir)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, lastLines(string(out), 10))
	}
	return string(out), nil
}
