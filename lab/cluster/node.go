package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"golang.org/x/sync/errgroup"

	"github.com/kproxy-exporter/kproxy-exporter/lab/machine"
)

const containerdSocket = "/run/containerd/containerd.sock"

func podCIDR(i int) string { return fmt.Sprintf("10.244.%d.0/24", i) }

// AddNodes starts n more nodes at once and waits for none of them to be Ready.
func (c *Cluster) AddNodes(ctx context.Context, n int) error {
	first := c.NodeCount + 1
	c.NodeCount += n
	if err := c.save(); err != nil {
		return err
	}
	cp, err := c.Node(ControlPlane)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for i := first; i < first+n; i++ {
		g.Go(func() error { return c.startNode(ctx, cp, i) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return c.routePods()
}

// routePods tells every machine where every node's pods are, as a CNI daemon would.
func (c *Cluster) routePods() error {
	for i := 0; i <= c.NodeCount; i++ {
		name := ControlPlane
		if i > 0 {
			name = NodeName(i)
		}
		m, err := c.Node(name)
		if err != nil {
			return err
		}
		for j := 1; j <= c.NodeCount; j++ {
			if j == i {
				continue
			}
			if _, err := m.Host("ip", "route", "replace", podCIDR(j), "via", NodeIP(j)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Cluster) startNode(ctx context.Context, cp *machine.Machine, i int) error {
	name := NodeName(i)
	m, err := machine.Start(c.spec(name))
	if err != nil {
		return err
	}
	if err := connect(cp, m, i); err != nil {
		return err
	}
	if err := c.writeNodeFiles(m, i); err != nil {
		return err
	}
	// The node's pod range is given, not allocated, so that the CNI
	// configuration can be written before the kubelet asks for it.
	client, err := c.Client()
	if err != nil {
		return err
	}
	_, err = client.CoreV1().Nodes().Create(ctx, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}},
		Spec:       corev1.NodeSpec{PodCIDR: podCIDR(i), PodCIDRs: []string{podCIDR(i)}},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	if err := c.StartContainerd(ctx, m); err != nil {
		return err
	}
	for _, image := range []string{"pause", "kube-proxy"} {
		if err := c.LoadImage(m, "/opt/lab/"+image+".tar"); err != nil {
			return err
		}
	}
	return c.StartKubelet(m, i)
}

// connect joins a node's network to the control plane's bridge.
func connect(cp, m *machine.Machine, i int) error {
	port := "to-" + m.Spec.Name
	if _, err := cp.Host("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", fmt.Sprint(m.PID)); err != nil {
		return err
	}
	if _, err := cp.Host("ip", "link", "set", port, "master", "br0", "up"); err != nil {
		return err
	}
	for _, argv := range []string{
		"ip link set lo up",
		"ip addr add " + NodeIP(i) + "/24 dev eth0",
		"ip addr add " + NodeIP6(i) + "/64 dev eth0 nodad",
		"ip link set eth0 up",
		"ip route add default via 10.99.0.1",
		"sysctl -qw net.ipv4.ip_forward=1",
	} {
		if _, err := m.Run(strings.Fields(argv)...); err != nil {
			return err
		}
	}
	return nil
}

// KubeletConfig is the file that the kubelet reads; a fault may add lines.
const KubeletConfig = "/var/lib/kubelet/config.yaml"

const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://` + containerdSocket + `
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: /etc/kubernetes/pki/ca.crt}}
authorization: {mode: Webhook}
clusterDomain: cluster.local
resolvConf: ""
staticPodPath: /etc/kubernetes/manifests
imageGCHighThresholdPercent: 100
nodeStatusUpdateFrequency: 2s
nodeLeaseDurationSeconds: 8
evictionPressureTransitionPeriod: 5s
# The stock thresholds: a lab must not report the host's full disk as a node's.
evictionHard: {memory.available: 1Mi, nodefs.available: 1Mi, imagefs.available: 1Mi, nodefs.inodesFree: "1"}
`

func (c *Cluster) writeNodeFiles(m *machine.Machine, i int) error {
	pki, err := c.pki()
	if err != nil {
		return err
	}
	kubeconfig, err := pki.clientKubeconfig("https://"+APIAddress, "system:node:"+NodeName(i), "system:nodes")
	if err != nil {
		return err
	}
	files := map[string]string{
		"/etc/kubernetes/pki/ca.crt":      string(pki.ca()),
		"/etc/kubernetes/kubelet.conf":    string(kubeconfig),
		"/etc/kubernetes/manifests/.keep": "",
		KubeletConfig:                     kubeletConfig,
		CNIConfig:                         cniConfig(i),
		"/etc/containerd/config.toml": `version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "` + PauseImage + `"
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "/etc/containerd/certs.d"
`,
		"/etc/containerd/certs.d/" + RegistryPort + "/hosts.toml": "server = \"http://" + RegistryPort + "\"\n[host.\"http://" + RegistryPort + "\"]\n  capabilities = [\"pull\", \"resolve\"]\n",
		// Nobody answers here; the host's resolver is not for the lab.
		"/etc/resolv.conf": "nameserver 10.99.0.1\n",
	}
	for name, text := range files {
		if err := m.WriteFile(name, []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// CNIConfig is the file that gives pods their network.
const CNIConfig = "/etc/cni/net.d/10-ptp.conflist"

func cniConfig(i int) string {
	return `{"cniVersion": "0.4.0", "name": "lab", "plugins": [{"type": "ptp", "ipam": {"type": "host-local",
  "ranges": [[{"subnet": "` + podCIDR(i) + `"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}` + "\n"
}

// StartContainerd starts the container runtime and waits until it answers.
func (c *Cluster) StartContainerd(ctx context.Context, m *machine.Machine) error {
	err := m.StartService(machine.Service{Name: "containerd", Argv: []string{"/usr/bin/containerd"}})
	if err != nil {
		return err
	}
	return c.waitFor(ctx, 20*time.Second, []component{{m, "containerd"}}, func(context.Context) error {
		_, err := m.Run("ctr", "version")
		return err
	})
}

// LoadImage imports an image archive of the machine into its container runtime.
func (c *Cluster) LoadImage(m *machine.Machine, path string) error {
	_, err := m.Run("ctr", "-n", "k8s.io", "images", "import", path)
	return err
}

// StartKubelet starts the kubelet of the i-th node.
func (c *Cluster) StartKubelet(m *machine.Machine, i int) error {
	return m.StartService(machine.Service{Name: "kubelet", Argv: []string{"/opt/lab/kube", "kubelet",
		"--kubeconfig=/etc/kubernetes/kubelet.conf", "--config=" + KubeletConfig,
		"--hostname-override=" + NodeName(i), "--node-ip=" + NodeIP(i)}})
}

// RestartService stops a service and starts it as it was.
func RestartService(m *machine.Machine, name string) error {
	if err := m.StopService(name, syscall.SIGKILL); err != nil {
		return err
	}
	return StartService(m, name)
}

// StartService starts a service that was stopped, as it was.
func StartService(m *machine.Machine, name string) error {
	return m.StartService(machine.Service{Name: name})
}

// RemoveNode ends a node and deletes its object.
func (c *Cluster) RemoveNode(ctx context.Context, name string) error {
	if name == ControlPlane {
		return errors.New("the control plane is no node")
	}
	if err := machine.Destroy(c.ID, name); err != nil {
		return err
	}
	client, err := c.Client()
	if err != nil {
		return err
	}
	return client.CoreV1().Nodes().Delete(ctx, name, metav1.DeleteOptions{})
}

// WaitReady waits until every node is Ready and has a kube-proxy that is.
func (c *Cluster) WaitReady(ctx context.Context, timeout time.Duration) error {
	client, err := c.Client()
	if err != nil {
		return err
	}
	var on []component
	for i := 1; i <= c.NodeCount; i++ {
		m, err := c.Node(NodeName(i))
		if err != nil {
			continue // removed
		}
		on = append(on, component{m, "containerd"}, component{m, "kubelet"})
	}
	if cp, err := c.Node(ControlPlane); err == nil {
		on = append(on, component{cp, "kube-controller-manager"}, component{cp, "kube-scheduler"})
	}
	return c.waitFor(ctx, timeout, on, func(ctx context.Context) error {
		nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		pods, err := client.CoreV1().Pods("kube-system").List(ctx, metav1.ListOptions{LabelSelector: "k8s-app=kube-proxy"})
		if err != nil {
			return err
		}
		for _, n := range nodes.Items {
			if !nodeReady(&n) {
				return fmt.Errorf("node %s is not Ready", n.Name)
			}
			if !podReadyOn(pods.Items, n.Name) {
				return fmt.Errorf("kube-proxy is not Ready on %s: %s", n.Name, podStateOn(pods.Items, n.Name))
			}
		}
		return nil
	})
}

func nodeReady(n *corev1.Node) bool {
	for _, cond := range n.Status.Conditions {
		if cond.Type == corev1.NodeReady {
			return cond.Status == corev1.ConditionTrue
		}
	}
	return false
}

func podReadyOn(pods []corev1.Pod, node string) bool {
	ready := 0
	for _, p := range pods {
		if p.Spec.NodeName != node {
			continue
		}
		if p.DeletionTimestamp != nil {
			return false
		}
		for _, cond := range p.Status.Conditions {
			if cond.Type == corev1.PodReady && cond.Status == corev1.ConditionTrue {
				ready++
			}
		}
	}
	return ready == 1
}

func podStateOn(pods []corev1.Pod, node string) string {
	for _, p := range pods {
		if p.Spec.NodeName == node {
			for _, s := range p.Status.ContainerStatuses {
				if s.State.Waiting != nil {
					return s.State.Waiting.Reason + " " + s.State.Waiting.Message
				}
			}
			return string(p.Status.Phase)
		}
	}
	return "no pod"
}
