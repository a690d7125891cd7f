// Package cluster is a real Kubernetes on one machine: a control plane and
// nodes, each a machine of package machine, with the components' own binaries.
// It knows how to bring one up, find it again and take it down; what is broken
// in it on purpose is package fault.
package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/kproxy-exporter/kproxy-exporter/lab/machine"
)

// Addresses of the lab's own network, the same in every lab: each has its own
// network namespaces, so labs do not meet.
const (
	ControlPlane   = "cp"
	APIAddress     = "10.99.0.1:6443"
	RegistryPort   = "10.99.0.1:5000"
	PodCIDR        = "10.244.0.0/16"
	ServiceCIDR    = "10.96.0.0/16"
	ServiceCIDR6   = "fd00:10:96::/112" // for Services that ask for it
	KubeVersion    = "v1.37.2"
	kubeProxyImage = "kproxy.lab/kube-proxy:" + KubeVersion
	// PauseImage holds a pod's namespaces.
	PauseImage = "kproxy.lab/pause:lab"
	// WrongArchImage cannot be executed on this CPU.
	WrongArchImage = "kproxy.lab/kube-proxy:wrong-arch"
)

// Config says what cluster to make.
type Config struct {
	// Dir is the lab's directory; everything of the lab is in it.
	Dir string
	// Bin is the directory of the built binaries and images.
	Bin string
	// Nodes is the number of worker nodes.
	Nodes int
	// Mode is kube-proxy's: nftables, iptables or ipvs.
	Mode string
	// Forwards maps names to addresses inside the control plane's network that
	// the host shall reach; the API server is always among them.
	Forwards map[string]string
}

// Cluster is a lab that is up or coming up.
type Cluster struct {
	Config
	// ID names the lab in cgroups and sockets; it follows from Dir.
	ID string
	// Listen maps a forward's name to the host's loopback address.
	Listen map[string]string
	// NodeCount counts the nodes made so far.
	NodeCount int

	client *kubernetes.Clientset
}

// truePath is the one name of a directory, that need not exist, whichever links
// lead to it: a lab must be found again under each.
func truePath(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	rest := ""
	for parent := dir; ; parent = filepath.Dir(parent) {
		real, err := filepath.EvalSymlinks(parent)
		if err == nil {
			return filepath.Join(real, rest), nil
		}
		if parent == filepath.Dir(parent) {
			return "", err
		}
		rest = filepath.Join(filepath.Base(parent), rest)
	}
}

func labID(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return hex.EncodeToString(sum[:4])
}

func (c *Cluster) stateFile() string { return filepath.Join(c.Dir, "lab.json") }

// Kubeconfig is the path of an admin's kubeconfig that works from the host.
func (c *Cluster) Kubeconfig() string { return filepath.Join(c.Dir, "kubeconfig") }

// AdminKubeconfig renders the kubeconfig of a user who may do all, for the API
// at server.
func (c *Cluster) AdminKubeconfig(server, user string) ([]byte, error) {
	pki, err := c.pki()
	if err != nil {
		return nil, err
	}
	return pki.clientKubeconfig(server, user, "system:masters")
}

func (c *Cluster) save() error {
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(c.stateFile(), b, 0o600)
}

// Open finds the lab in dir.
func Open(dir string) (*Cluster, error) {
	dir, err := truePath(dir)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(filepath.Join(dir, "lab.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("no lab is up in %s; start one with 'make lab-up'", dir)
	}
	if err != nil {
		return nil, err
	}
	c := &Cluster{}
	if err := json.Unmarshal(b, c); err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Join(dir, "lab.json"), err)
	}
	return c, nil
}

// NodeName is the name of the i-th node, from 1.
func NodeName(i int) string { return fmt.Sprintf("n%d", i) }

// NodeIP is the address of the i-th node, from 1.
func NodeIP(i int) string { return fmt.Sprintf("10.99.0.%d", 10+i) }

// NodeIP6 is a node's address that its Node object does not have.
func NodeIP6(i int) string { return fmt.Sprintf("fd00:10:99::%x", 10+i) }

// Node finds a running machine of the lab by name, the control plane too.
func (c *Cluster) Node(name string) (*machine.Machine, error) {
	names := []string{ControlPlane}
	for i := 1; i <= c.NodeCount; i++ {
		names = append(names, NodeName(i))
	}
	if !slices.Contains(names, name) {
		return nil, fmt.Errorf("there is no node %q; there are %s", name, strings.Join(names, ", "))
	}
	return machine.Open(c.spec(name))
}

func (c *Cluster) spec(name string) machine.Spec {
	s := machine.Spec{
		Lab: c.ID, Name: name, Dir: filepath.Join(c.Dir, name), Program: filepath.Join(c.Bin, "kproxy-lab"),
		ReadOnly: map[string]string{c.Bin: "/opt/lab"},
	}
	if name == ControlPlane {
		s.Bind = map[string]string{"etcd": "/var/lib/etcd"}
		for n, target := range c.Forwards {
			s.Forwards = append(s.Forwards, machine.Forward{Listen: c.Listen[n], Target: target})
		}
		return s
	}
	// Image layers are an overlay themselves, and the kubelet wants to measure
	// a file system that it knows.
	s.Bind = map[string]string{"containerd": "/var/lib/containerd", "kubelet": "/var/lib/kubelet", "pods": "/var/log/pods"}
	return s
}

// RESTConfig is the admin's access from the host.
func (c *Cluster) RESTConfig() (*rest.Config, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return nil, err
	}
	cfg.QPS, cfg.Burst = 200, 400
	return cfg, nil
}

// Client is the admin's client; made once.
func (c *Cluster) Client() (*kubernetes.Clientset, error) {
	if c.client != nil {
		return c.client, nil
	}
	cfg, err := c.RESTConfig()
	if err != nil {
		return nil, err
	}
	c.client, err = kubernetes.NewForConfig(cfg)
	return c.client, err
}

// Up brings a cluster up and returns when every node is Ready and runs kube-proxy.
func Up(ctx context.Context, cfg Config, p *Progress) (c *Cluster, err error) {
	cfg.Dir, err = truePath(cfg.Dir)
	if err != nil {
		return nil, err
	}
	if cfg.Bin, err = filepath.Abs(cfg.Bin); err != nil {
		return nil, err
	}
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	unlock, err := lock(cfg.Dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if _, err := os.Stat(filepath.Join(cfg.Dir, "lab.json")); err == nil {
		return nil, fmt.Errorf("a lab is already in %s (or was, and died); end it with 'make lab-down'", cfg.Dir)
	}
	if err := p.Step("check this machine", func() error { return errors.Join(Preflight(), checkMode(cfg.Mode)) }); err != nil {
		return nil, err
	}
	c = &Cluster{Config: cfg, ID: labID(cfg.Dir), Listen: map[string]string{}}
	if c.Forwards == nil {
		c.Forwards = map[string]string{}
	}
	c.Forwards["api"] = APIAddress
	for name := range c.Forwards {
		if c.Listen[name], err = freePort(); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return nil, err
	}
	if err := c.save(); err != nil {
		return nil, err
	}
	if err := p.Step("start the control plane", func() error { return c.startControlPlane(ctx) }); err != nil {
		return c, err
	}
	if err := p.Step(fmt.Sprintf("start %d nodes", cfg.Nodes), func() error { return c.AddNodes(ctx, cfg.Nodes) }); err != nil {
		return c, err
	}
	if err := p.Step("install kube-proxy in mode "+cfg.Mode, func() error { return c.InstallKubeProxy(ctx) }); err != nil {
		return c, err
	}
	return c, p.Step("wait until every node is Ready and runs kube-proxy", func() error { return c.WaitReady(ctx, 90*time.Second) })
}

func (cfg Config) validate() error {
	switch cfg.Mode {
	case "nftables", "iptables", "ipvs":
	default:
		return fmt.Errorf("mode %q: it must be nftables, iptables or ipvs", cfg.Mode)
	}
	if cfg.Nodes < 1 || cfg.Nodes > 100 {
		return fmt.Errorf("%d nodes: it must be 1 to 100", cfg.Nodes)
	}
	if strings.ContainsAny(cfg.Dir, ":,") {
		return fmt.Errorf("directory %q: it must not contain ':' or ',' (overlay mount options)", cfg.Dir)
	}
	for _, f := range []string{"kube", "pause.tar", "kube-proxy.tar"} {
		if _, err := os.Stat(filepath.Join(cfg.Bin, f)); err != nil {
			return fmt.Errorf("the lab is not built: %w; run 'make lab-build'", err)
		}
	}
	return nil
}

// Down ends the lab in dir and removes all of it. It needs no intact state and
// is no error if nothing is there.
func Down(dir string) error {
	dir, err := truePath(dir)
	if err != nil {
		return err
	}
	unlock, err := lock(dir)
	if err != nil {
		return err
	}
	defer unlock()
	if err := machine.Destroy(labID(dir), ""); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "lab.json")); err != nil && len(entries) > 0 {
		return fmt.Errorf("%s is not a lab's directory (it has no lab.json): not removed", dir)
	}
	return os.RemoveAll(dir)
}

// lock keeps two commands from changing one lab at a time. The lock is an
// abstract socket: it is no file and ends with the process, however it ends.
func lock(dir string) (func(), error) {
	// A process that is being started holds a copy until it executes, so a
	// lock that was just given back may look taken for a moment.
	for deadline := time.Now().Add(2 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		l, err := net.Listen("unix", "@kproxy-lab/"+labID(dir)+"/lock")
		if err == nil {
			return func() { l.Close() }, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return nil, err
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("another command is working on the lab in %s", dir)
		}
	}
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
