package vm

import (
	"bytes"
	"context"
	"fmt"
	"net"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/kproxy-exporter/kproxy-exporter/lab/cluster"
)

const (
	// Kube is where the guest has the lab's binary of all components; it must
	// be among its Files for StartKubeProxy.
	Kube = "/opt/lab/kube"
	// KubeProxy is the name under which StartKubeProxy starts it; see Log.
	KubeProxy = "kube-proxy"

	serviceAccountDir = "/var/run/secrets/kubernetes.io/serviceaccount"
	configDir         = "/var/lib/kube-proxy"
)

// StartKubeProxy makes the guest a node of a lab by its Node object and starts
// kube-proxy in it, with the configuration, the rights and the files of one that
// runs in a pod of the lab, but in mode ipvs. It does not wait for it. Called
// again after kube-proxy was ended, it starts it again.
func (v *VM) StartKubeProxy(ctx context.Context, c *cluster.Cluster) error {
	if err := v.createNode(ctx, c); err != nil {
		return err
	}
	files, err := v.kubeProxyFiles(ctx, c)
	if err != nil {
		return err
	}
	for name, content := range files {
		if err := v.Put(ctx, name, bytes.NewReader(content), 0o600); err != nil {
			return err
		}
	}
	return v.Start(ctx, KubeProxy, Kube, "kube-proxy", "--config="+configDir+"/config.conf", "--hostname-override="+v.Name)
}

// createNode creates the Node object; the lab's controllers give it a pod CIDR.
func (v *VM) createNode(ctx context.Context, c *cluster.Cluster) error {
	client, err := c.Client()
	if err != nil {
		return err
	}
	node := &corev1.Node{
		// Without the label of an operating system the lab's DaemonSet wants no
		// kube-proxy there.
		ObjectMeta: metav1.ObjectMeta{Name: v.Name},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: GuestIP}, {Type: corev1.NodeHostName, Address: v.Name},
		}},
	}
	if _, err := client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create node %s: %w", v.Name, err)
	}
	return nil
}

// kubeProxyFiles are what a pod of kube-proxy has mounted.
func (v *VM) kubeProxyFiles(ctx context.Context, c *cluster.Cluster) (map[string][]byte, error) {
	ipvs := &cluster.Cluster{Config: cluster.Config{Mode: "ipvs"}}
	config, _, err := ipvs.KubeProxyObjects()
	if err != nil {
		return nil, err
	}
	kubeconfig, err := throughHost([]byte(config.Data["kubeconfig.conf"]), c.Listen["api"])
	if err != nil {
		return nil, err
	}
	admin, err := c.RESTConfig()
	if err != nil {
		return nil, err
	}
	client, err := c.Client()
	if err != nil {
		return nil, err
	}
	token, err := client.CoreV1().ServiceAccounts("kube-system").CreateToken(ctx, "kube-proxy", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("create a token of kube-proxy: %w", err)
	}
	return map[string][]byte{
		configDir + "/config.conf":     []byte(config.Data["config.conf"]),
		configDir + "/kubeconfig.conf": kubeconfig,
		serviceAccountDir + "/ca.crt":  admin.CAData,
		serviceAccountDir + "/token":   []byte(token.Status.Token),
	}, nil
}

// throughHost is a kubeconfig for the API server that listens on the host's
// loopback: its certificate does not know the guest's name for that.
func throughHost(kubeconfig []byte, listen string) ([]byte, error) {
	cfg, err := clientcmd.Load(kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read the lab's kubeconfig: %w", err)
	}
	for _, c := range cfg.Clusters {
		c.Server, c.TLSServerName = "https://"+FromGuest(listen), "kubernetes"
	}
	return clientcmd.Write(*cfg)
}

// FromGuest is how the guest reaches an address of the host's loopback.
func FromGuest(listen string) string {
	_, port, _ := net.SplitHostPort(listen)
	return net.JoinHostPort(HostIP, port)
}
