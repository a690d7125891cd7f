package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// Conntrack is the use of the kernel's table of connections.
type Conntrack struct {
	Entries, Max float64
	// Drops counts, over all CPUs, the connections that found no room.
	Drops float64
}

// ReadConntrack reads the table of this network namespace.
func ReadConntrack(path string) (Conntrack, error) {
	var c Conntrack
	var err error
	if c.Entries, err = readNumber(filepath.Join(path, "sys/net/netfilter/nf_conntrack_count")); err != nil {
		return c, err
	}
	if c.Max, err = readNumber(filepath.Join(path, "sys/net/netfilter/nf_conntrack_max")); err != nil {
		return c, err
	}
	f, err := procfs.NewFS(path)
	if err != nil {
		return c, err
	}
	stats, err := f.ConntrackStat()
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil // a kernel without CONFIG_NF_CONNTRACK_PROCFS does not count
	}
	if err != nil {
		return c, err
	}
	for _, cpu := range stats {
		c.Drops += float64(cpu.Drop)
	}
	return c, nil
}

func readNumber(path string) (float64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", path, err)
	}
	return float64(n), nil
}

// TryInotify asks the kernel for an inotify instance and gives it back. The
// limit is counted by user, so it says something about kube-proxy, which is
// root, only if we are too.
func TryInotify() error {
	if os.Geteuid() != 0 {
		return errors.New("the limit is counted by user, and this is not root")
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
		return &LimitError{err}
	}
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// LimitError says that there is none of a resource left.
type LimitError struct{ Err error }

func (e *LimitError) Error() string { return e.Err.Error() }
func (e *LimitError) Unwrap() error { return e.Err }

// runtimeSockets are where container runtimes listen.
var runtimeSockets = []string{"run/containerd/containerd.sock", "run/crio/crio.sock", "run/k3s/containerd/containerd.sock", "run/cri-dockerd.sock"}

// socketTimeout is long for a socket of the same machine.
const socketTimeout = 2 * time.Second

// TryRuntime connects to the container runtime's socket below root, the first at
// which somebody listens; path is empty if there is none. Of several that nobody
// listens at it is the first.
func TryRuntime(ctx context.Context, root string) (path string, err error) {
	for _, s := range runtimeSockets {
		p := filepath.Join(root, s)
		info, statErr := os.Stat(p)
		if statErr != nil || info.Mode()&os.ModeSocket == 0 {
			continue
		}
		conn, dialErr := (&net.Dialer{Timeout: socketTimeout}).DialContext(ctx, "unix", p)
		if dialErr == nil {
			conn.Close()
			return "/" + s, nil
		}
		if path == "" || !errors.Is(dialErr, syscall.ECONNREFUSED) {
			path, err = "/"+s, dialErr
		}
	}
	return path, err
}
