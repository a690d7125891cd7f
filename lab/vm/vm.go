// Package vm is a small virtual machine that qemu emulates in software, for
// what the host's kernel has not: Debian's kernel in it has ip_vs. All of its
// file system is in memory and is gone with it. Only the host's loopback is
// reached, in both directions. It ends with the process that started it: no
// other process finds it again. It is no node: it runs no kubelet and no pods,
// and only x86.
package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
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
	defer os.Remove(initrd)
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

// result is what became of a command; the agent has the same.
type result struct {
	Stdout          []byte
	Stderr, Failure string
}

// Exec runs a command as root in the guest and returns its output; an error
// carries what it wrote to its other one. The context ends the command too.
func (v *VM) Exec(ctx context.Context, args ...string) (string, error) {
	b, err := json.Marshal(args)
	if err != nil {
		return "", err
	}
	var res result
	b, err = v.ask(ctx, http.MethodPost, "/exec", bytes.NewReader(b))
	if err == nil {
		err = json.Unmarshal(b, &res)
	}
	if err == nil && res.Failure != "" {
		err = fmt.Errorf("%s: %s", res.Failure, strings.TrimSpace(res.Stderr))
	}
	if err != nil {
		return string(res.Stdout), fmt.Errorf("%s: %s: %w", v.Name, strings.Join(args, " "), err)
	}
	return string(res.Stdout), nil
}

// Start starts a command in the guest and leaves it running; Log is what it writes.
func (v *VM) Start(ctx context.Context, name string, args ...string) error {
	_, err := v.Exec(ctx, append([]string{"sh", "-c", `out=$1; shift; "$@" >"$out" 2>&1 &`, name, logPath(name)}, args...)...)
	return err
}

// Log is what a command that Start started has written.
func (v *VM) Log(ctx context.Context, name string) (string, error) {
	return v.Exec(ctx, "cat", logPath(name))
}

func logPath(name string) string { return "/var/log/" + name + ".log" }

// Put writes a file in the guest, with its directories.
func (v *VM) Put(ctx context.Context, path string, content io.Reader, mode os.FileMode) error {
	query := url.Values{"path": {path}, "mode": {strconv.FormatUint(uint64(mode.Perm()), 8)}}
	if _, err := v.ask(ctx, http.MethodPut, "/file?"+query.Encode(), content); err != nil {
		return fmt.Errorf("%s: write %s: %w", v.Name, path, err)
	}
	return nil
}

func (v *VM) ask(ctx context.Context, method, path string, body io.Reader) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+v.Forward(agentPort)+path, body)
	if err != nil {
		return nil, err
	}
	req.Close = true // no connection waits for a machine that may be gone
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		select {
		case <-v.ended:
			return nil, v.describe(errors.New("it has ended"))
		default:
			return nil, err
		}
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = errors.New(strings.TrimSpace(string(b)))
	}
	return b, err
}
