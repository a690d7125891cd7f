// Package vm is a small virtual machine that qemu emulates in software, for
// what the host's kernel has not: Debian's kernel in it has ip_vs. All of its
// file system is in memory and is gone with it. Only the host's loopback is
// reached, in both directions. It ends with the process that started it: no
// other process finds it again. It is no node: it runs no kubelet and no pods,
// and only x86.
package vm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/lab/cluster"
)

// Addresses as the guest sees them.
const (
	// GuestIP is the guest's own.
	GuestIP = "10.0.2.15"
	// HostIP is the host's loopback.
	HostIP = "10.0.2.2"
)

// agentPort is where the agent listens in the guest.
const agentPort = 9

var programs = []cluster.Program{
	{Name: "qemu-system-x86_64", Package: "qemu-system-x86"},
	{Name: "/bin/busybox", Package: "busybox-static"},
	{Name: "/usr/sbin/ipset", Package: "ipset"},
	{Name: "/usr/sbin/xtables-nft-multi", Package: "iptables"},
	{Name: "depmod", Package: "kmod"},
	{Name: "ldd", Package: "libc-bin"},
}

// Config says what machine to make.
type Config struct {
	// Dir is the machine's directory: the agent, logs of qemu and of the console.
	Dir string
	// Bin is the directory of the built binaries; the kernel is kept there.
	Bin string
	// Root is the repository, from which the agent is built.
	Root string
	// Name is the guest's host name.
	Name string
	// MemoryMB is the guest's memory; 1024 if 0.
	MemoryMB int
	// Files maps paths of the guest to files of the host that are there when it
	// starts. A large one comes in sooner this way than with Put.
	Files map[string]string
	// Ports are the guest's TCP ports that the host shall reach.
	Ports []int
}

// VM is a machine that runs.
type VM struct {
	Config
	// BootTook is the time from the start of qemu to the agent's first answer.
	BootTook time.Duration

	forwards map[int]string
	process  *os.Process
	// ended is closed when qemu has ended.
	ended chan struct{}
}

// Up starts a machine and returns when it runs commands; what lacks on the host
// it installs. The context bounds the start, not the life.
func Up(ctx context.Context, cfg Config) (*VM, error) {
	if runtime.GOARCH != "amd64" {
		return nil, fmt.Errorf("the virtual machine is an x86, this is %s", runtime.GOARCH)
	}
	if cfg.MemoryMB == 0 {
		cfg.MemoryMB = 1024
	}
	for _, dir := range []*string{&cfg.Dir, &cfg.Bin} {
		var err error
		if *dir, err = filepath.Abs(*dir); err != nil {
			return nil, err
		}
	}
	if err := cluster.Require(programs...); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return nil, err
	}
	k, err := ensureKernel(filepath.Join(cfg.Bin, "linux"))
	if err != nil {
		return nil, fmt.Errorf("get a kernel: %w", err)
	}
	// What only starts the guest is not needed after.
	agent, initrd := filepath.Join(cfg.Dir, "agent"), filepath.Join(cfg.Dir, "initrd")
	defer func() { _ = os.Remove(initrd) }()
	if err := buildAgent(ctx, cfg.Root, agent); err != nil {
		return nil, err
	}
	f, err := os.Create(initrd)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(initramfs(f, cfg, k, agent), f.Close()); err != nil {
		return nil, err
	}
	v := &VM{Config: cfg, ended: make(chan struct{})}
	if v.forwards, err = freePorts(append([]int{agentPort}, cfg.Ports...)); err != nil {
		return nil, err
	}
	began := time.Now()
	if err := v.start(k.image(), initrd); err != nil {
		return nil, err
	}
	if err := v.awaitAgent(ctx); err != nil {
		return nil, errors.Join(err, v.Down())
	}
	v.BootTook = time.Since(began)
	return v, nil
}

func buildAgent(ctx context.Context, root, to string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags", "-s -w", "-o", to, "./vm/agent")
	cmd.Dir = filepath.Join(root, "lab")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the guest's agent: %w: %s", err, out)
	}
	return nil
}

// freePorts finds a port of the host's loopback for each of the guest's.
func freePorts(guest []int) (map[int]string, error) {
	out := map[int]string{}
	for _, p := range guest {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // after the last was found, so that all differ
		out[p] = l.Addr().String()
	}
	return out, nil
}

// Forward is the host's address of one of the guest's Ports; "" of another.
func (v *VM) Forward(port int) string { return v.forwards[port] }

// PID is that of qemu.
func (v *VM) PID() int { return v.process.Pid }

// Down ends the machine and returns when qemu is gone. It may be called twice.
func (v *VM) Down() error {
	if err := v.process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end qemu: %w", err)
	}
	<-v.ended
	return nil
}
