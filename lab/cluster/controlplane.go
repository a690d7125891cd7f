package cluster

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/lab/machine"
)

const pkiDir = "/etc/kubernetes/pki"

func (c *Cluster) pki() (*PKI, error) { return openPKI(filepath.Join(c.Dir, "pki")) }

// AuditLog is where the API server notes what the exporter, and the peer that it
// is compared with, ask for: one JSON object a request.
const AuditLog = "/var/log/audit.log"

const auditPolicyFile = "/etc/kubernetes/audit.yaml"

const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [ResponseStarted, ResponseComplete]
rules:
- {level: Metadata, users: ["system:serviceaccount:kproxy-exporter:kproxy-exporter", "` + Peer + `"]}
- {level: None}
`

// Peer is the user as which a peer is run beside the exporter.
const Peer = "peer"

// startControlPlane starts etcd, the API server, the controller manager, the
// scheduler and an image registry.
func (c *Cluster) startControlPlane(ctx context.Context) error {
	pki, err := newPKI(filepath.Join(c.Dir, "pki"))
	if err != nil {
		return err
	}
	m, err := machine.Start(c.spec(ControlPlane))
	if err != nil {
		return err
	}
	for _, argv := range []string{
		"ip link set lo up",
		"ip link add br0 type bridge",
		"ip addr add 10.99.0.1/24 dev br0",
		"ip link set br0 up",
		"sysctl -qw net.ipv4.ip_forward=1",
	} {
		if _, err := m.Run(strings.Fields(argv)...); err != nil {
			return err
		}
	}
	if err := c.writeControlPlaneFiles(m, pki); err != nil {
		return err
	}
	admin, err := pki.clientKubeconfig("https://"+c.Listen["api"], "kubernetes-admin", "system:masters")
	if err != nil {
		return err
	}
	if err := os.WriteFile(c.Kubeconfig(), admin, 0o600); err != nil {
		return err
	}
	for _, s := range controlPlaneServices() {
		if err := m.StartService(s); err != nil {
			return err
		}
		if s.Name == "kube-apiserver" {
			if err := c.WaitAPI(ctx, m, 60*time.Second); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Cluster) writeControlPlaneFiles(m *machine.Machine, pki *PKI) error {
	apiserver, err := pki.server("kube-apiserver", []net.IP{net.IPv4(10, 99, 0, 1), net.IPv4(10, 96, 0, 1), net.IPv4(127, 0, 0, 1)},
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost")
	if err != nil {
		return err
	}
	kubeletClient, err := pki.client("kube-apiserver-kubelet-client", "system:masters")
	if err != nil {
		return err
	}
	saKey, err := os.ReadFile(filepath.Join(c.Dir, "pki", "sa.key"))
	if err != nil {
		return err
	}
	caKey, err := os.ReadFile(filepath.Join(c.Dir, "pki", "ca.key"))
	if err != nil {
		return err
	}
	if err := m.WriteFile(auditPolicyFile, []byte(auditPolicy), 0o600); err != nil {
		return err
	}
	files := map[string][]byte{
		"ca.crt": pki.ca(), "ca.key": caKey, "sa.key": saKey,
		"apiserver.crt": apiserver.cert, "apiserver.key": apiserver.key,
		"apiserver-kubelet-client.crt": kubeletClient.cert, "apiserver-kubelet-client.key": kubeletClient.key,
	}
	for name, b := range files {
		if err := m.WriteFile(filepath.Join(pkiDir, name), b, 0o600); err != nil {
			return err
		}
	}
	for file, user := range map[string]string{
		"controller-manager.conf": "system:kube-controller-manager",
		"scheduler.conf":          "system:kube-scheduler",
	} {
		b, err := pki.clientKubeconfig("https://"+APIAddress, user)
		if err != nil {
			return err
		}
		if err := m.WriteFile(filepath.Join("/etc/kubernetes", file), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// controlPlaneServices are the components with kubeadm's flags; what differs
// makes a fault visible in seconds rather than minutes, or keeps a lab light.
func controlPlaneServices() []machine.Service {
	service := func(name string, args ...string) machine.Service {
		return machine.Service{Name: name, Argv: append([]string{"/opt/lab/kube", name}, args...)}
	}
	return []machine.Service{
		service("etcd",
			"--data-dir=/var/lib/etcd/data",
			"--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379",
			"--listen-peer-urls=http://127.0.0.1:2380", "--initial-advertise-peer-urls=http://127.0.0.1:2380",
			"--initial-cluster=default=http://127.0.0.1:2380",
			"--unsafe-no-fsync"),
		service("kube-apiserver",
			"--etcd-servers=http://127.0.0.1:2379",
			"--bind-address=0.0.0.0", "--secure-port=6443", "--advertise-address=10.99.0.1",
			"--service-cluster-ip-range="+ServiceCIDR+","+ServiceCIDR6,
			"--client-ca-file="+pkiDir+"/ca.crt",
			"--tls-cert-file="+pkiDir+"/apiserver.crt", "--tls-private-key-file="+pkiDir+"/apiserver.key",
			"--kubelet-client-certificate="+pkiDir+"/apiserver-kubelet-client.crt",
			"--kubelet-client-key="+pkiDir+"/apiserver-kubelet-client.key",
			"--kubelet-preferred-address-types=InternalIP",
			"--service-account-issuer=https://kubernetes.default.svc",
			"--service-account-key-file="+pkiDir+"/sa.key", "--service-account-signing-key-file="+pkiDir+"/sa.key",
			"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
			"--audit-policy-file="+auditPolicyFile, "--audit-log-path="+AuditLog,
			"--allow-privileged=true"),
		service("kube-controller-manager",
			"--kubeconfig=/etc/kubernetes/controller-manager.conf",
			"--authentication-kubeconfig=/etc/kubernetes/controller-manager.conf",
			"--authorization-kubeconfig=/etc/kubernetes/controller-manager.conf",
			"--root-ca-file="+pkiDir+"/ca.crt", "--service-account-private-key-file="+pkiDir+"/sa.key",
			"--cluster-signing-cert-file="+pkiDir+"/ca.crt", "--cluster-signing-key-file="+pkiDir+"/ca.key",
			"--use-service-account-credentials=true",
			"--allocate-node-cidrs=true", "--cluster-cidr="+PodCIDR, "--service-cluster-ip-range="+ServiceCIDR+","+ServiceCIDR6,
			"--node-monitor-period=1s", "--node-monitor-grace-period=10s",
			"--leader-elect=false"),
		service("kube-scheduler",
			"--kubeconfig=/etc/kubernetes/scheduler.conf",
			"--authentication-kubeconfig=/etc/kubernetes/scheduler.conf",
			"--authorization-kubeconfig=/etc/kubernetes/scheduler.conf",
			"--leader-elect=false"),
		{Name: "registry", Argv: []string{"/opt/lab/kproxy-lab", "registry", "--listen=" + RegistryPort}},
	}
}

// WaitAPI waits until the API server says that it is ready.
func (c *Cluster) WaitAPI(ctx context.Context, cp *machine.Machine, timeout time.Duration) error {
	client, err := c.Client()
	if err != nil {
		return err
	}
	return c.waitFor(ctx, timeout, []component{{cp, "etcd"}, {cp, "kube-apiserver"}}, func(ctx context.Context) error {
		b, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		if err != nil {
			return fmt.Errorf("the API server is not ready: %w %s", err, b)
		}
		return nil
	})
}

// WaitService waits until ok, and blames the service if it ends before.
func (c *Cluster) WaitService(ctx context.Context, m *machine.Machine, service string, timeout time.Duration, ok func(context.Context) error) error {
	return c.waitFor(ctx, timeout, []component{{m, service}}, ok)
}

// component names a service on a machine, to be blamed when a wait fails.
type component struct {
	m       *machine.Machine
	service string
}

// hints say what to do when a component ends.
var hints = map[string]string{
	"etcd":       "see that the disk is not full",
	"containerd": "see that the kernel has the overlay file system and that cgroups are mounted",
	"kubelet":    "see that the cgroup controllers cpu, cpuset, memory and pids are enabled",
}

// waitFor repeats ok until it returns nil. When a component that it depends on
// ends, or the time is over, the error names the component and shows its log.
func (c *Cluster) waitFor(ctx context.Context, timeout time.Duration, on []component, ok func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		err := ok(ctx)
		if err == nil {
			return nil
		}
		for _, d := range on {
			if ended := d.ended(); ended != "" {
				return fmt.Errorf("%s on %s: %s; its last log lines:\n%s\nWhat to do: %s", d.service, d.m.Spec.Name, ended, d.m.Tail(d.service, 15), d.hint())
			}
		}
		select {
		case <-ctx.Done():
			var logs strings.Builder
			for _, d := range on {
				fmt.Fprintf(&logs, "\nlast log lines of %s on %s:\n%s\nWhat to do: %s", d.service, d.m.Spec.Name, d.m.Tail(d.service, 8), d.hint())
			}
			return fmt.Errorf("after %s: %w%s", timeout, err, logs.String())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (d component) ended() string {
	states, err := d.m.Services()
	if err != nil {
		return "its machine does not answer: " + err.Error()
	}
	for _, s := range states {
		if s.Name == d.service && !s.Running {
			return "it ended with " + s.Exit
		}
	}
	return ""
}

func (d component) hint() string {
	if h := hints[d.service]; h != "" {
		return h + "; then 'make lab-down lab-up'"
	}
	return "read the whole log (" + filepath.Join(d.m.Spec.Dir, "upper", machine.LogPath(d.service)) + "), then 'make lab-down lab-up'"
}

// ExpiredAddress is where ServeExpired listens.
const ExpiredAddress = "10.99.0.1:6445"

const expiredService = "expired"

// ServeExpired shows a serving certificate of the cluster's own authority that
// ended yesterday.
func (c *Cluster) ServeExpired() error {
	cp, err := c.Node(ControlPlane)
	if err != nil {
		return err
	}
	pki, err := c.pki()
	if err != nil {
		return err
	}
	p, err := pki.expired("kube-apiserver", net.IPv4(10, 99, 0, 1))
	if err != nil {
		return err
	}
	if err := cp.WriteFile(pkiDir+"/expired.crt", p.cert, 0o600); err != nil {
		return err
	}
	if err := cp.WriteFile(pkiDir+"/expired.key", p.key, 0o600); err != nil {
		return err
	}
	return cp.StartService(machine.Service{Name: expiredService, Argv: []string{
		"/opt/lab/kproxy-lab", "registry", "--listen=" + ExpiredAddress, "--cert=" + pkiDir + "/expired.crt", "--key=" + pkiDir + "/expired.key",
	}})
}

// StopExpired ends what ServeExpired started.
func (c *Cluster) StopExpired() error {
	cp, err := c.Node(ControlPlane)
	if err != nil {
		return err
	}
	return cp.StopService(expiredService, syscall.SIGKILL)
}
