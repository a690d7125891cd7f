// Package exporter puts the exporter into a lab, as a user would: the image
// that 'make image' built, and deploy/cluster.yaml.
package exporter

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kproxy-exporter/kproxy-exporter/lab/cluster"
)

// Name is that of the namespace, Deployment and service account.
const Name = "kproxy-exporter"

// Install loads the image on every node, applies the manifest of the
// repository at root, waits until the Deployment is available, and returns the
// name of its pod and of the pod's node.
func Install(ctx context.Context, c *cluster.Cluster, root string) (pod, node string, err error) {
	image, err := os.ReadFile(filepath.Join(root, "bin/kproxy-exporter.tar"))
	if err != nil {
		return "", "", fmt.Errorf("%w; run 'make image'", err)
	}
	for i := 1; i <= c.NodeCount; i++ {
		m, err := c.Node(cluster.NodeName(i))
		if err != nil {
			return "", "", err
		}
		const path = "/run/kproxy-exporter.tar"
		if err := m.WriteFile(path, image, 0o600); err != nil {
			return "", "", err
		}
		if err := c.LoadImage(m, path); err != nil {
			return "", "", err
		}
	}
	manifest, err := os.ReadFile(filepath.Join(root, "deploy/cluster.yaml"))
	if err != nil {
		return "", "", err
	}
	if err := c.Apply(ctx, string(manifest)); err != nil {
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

// Kubeconfig writes, into the lab's directory, a kubeconfig of the exporter's
// service account, for an exporter that runs outside the cluster with no more
// rights than inside.
func Kubeconfig(ctx context.Context, c *cluster.Cluster) (string, error) {
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
	path := filepath.Join(c.Dir, "exporter.kubeconfig")
	text := strings.NewReplacer("{SERVER}", "https://"+c.Listen["api"], "{CA}", filepath.Join(c.Dir, "pki", "ca.crt"), "{TOKEN}", token.Status.Token).Replace(`apiVersion: v1
kind: Config
clusters: [{name: lab, cluster: {server: "{SERVER}", certificate-authority: "{CA}"}}]
users: [{name: exporter, user: {token: "{TOKEN}"}}]
contexts: [{name: lab, context: {cluster: lab, user: exporter}}]
current-context: lab
`)
	return path, os.WriteFile(path, []byte(text), 0o600)
}
