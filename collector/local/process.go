package local

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	securejoin "github.com/cyphar/filepath-securejoin"
	"github.com/prometheus/procfs"
)

// commandName is kube-proxy's in /proc/PID/comm.
const commandName = "kube-proxy"

// fileBytes bounds what is read of a file of another process.
const fileBytes = 1 << 20

// Process is a kube-proxy process.
type Process struct {
	PID int
	// State is the letter of /proc/PID/stat.
	State   string
	Started time.Time
	Args    []string

	procfs string
}

// FindKubeProxy finds the node's kube-proxy below a mount of procfs; nil if none
// runs. Of several in our network namespace it is the oldest: others are its
// children, about to become somebody else. It reads comm and stat, which anybody
// may; a node's containers may hold other nodes' kube-proxies, which are in other
// network namespaces.
func FindKubeProxy(path string) (*Process, error) {
	fs, err := procfs.NewFS(path)
	if err != nil {
		return nil, err
	}
	all, err := fs.AllProcs()
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", path, err)
	}
	if _, err := fs.Stat(); err != nil { // an empty directory is no procfs
		return nil, fmt.Errorf("read %s/stat: %w", path, err)
	}
	ours, oursErr := os.Readlink(filepath.Join(path, "self/ns/net"))
	var found *Process
	elsewhere := false
	for _, p := range all {
		if comm, err := p.Comm(); err != nil || comm != commandName {
			continue // it has ended meanwhile, or is another
		}
		theirs, err := os.Readlink(filepath.Join(path, strconv.Itoa(p.PID), "ns/net"))
		if oursErr == nil && err == nil && ours != theirs {
			elsewhere = true
			continue
		}
		stat, err := p.Stat()
		if err != nil || stat.State == "Z" {
			continue
		}
		args, err := p.CmdLine()
		if err != nil {
			continue
		}
		epoch, err := stat.StartTime()
		if err != nil {
			return nil, fmt.Errorf("read %s/stat: %w", path, err)
		}
		started := time.UnixMilli(int64(epoch * 1000))
		if found == nil || started.Before(found.Started) {
			found = &Process{PID: p.PID, State: stat.State, Started: started, Args: args, procfs: path}
		}
	}
	if found == nil && elsewhere {
		return nil, ErrOtherNetwork
	}
	return found, nil
}

// ErrOtherNetwork says that no kube-proxy runs in our network namespace, and one
// in another.
var ErrOtherNetwork = errors.New("kube-proxy runs in another network namespace: this must run in the host's (hostNetwork)")

// Stopped is whether a signal has stopped it, as of now; false if it has ended.
func (p *Process) Stopped() bool {
	fs, err := procfs.NewFS(p.procfs)
	if err != nil {
		return false
	}
	one, err := fs.Proc(p.PID)
	if err != nil {
		return false
	}
	stat, err := one.Stat()
	if err != nil || !strings.HasPrefix(stat.State, "T") {
		return false
	}
	epoch, err := stat.StartTime()
	return err == nil && time.UnixMilli(int64(epoch*1000)).Equal(p.Started)
}

// Flag is the value of a command-line flag; empty if it is not there.
func (p *Process) Flag(name string) string {
	for i, a := range p.Args {
		if value, ok := strings.CutPrefix(a, "--"+name+"="); ok {
			return value
		}
		if a == "--"+name && i+1 < len(p.Args) {
			return p.Args[i+1]
		}
	}
	return ""
}

// ReadFile reads a file as the process sees it. Links are followed inside its
// own root. It needs the right to trace the process (CAP_SYS_PTRACE).
func (p *Process) ReadFile(name string) ([]byte, error) {
	f, err := p.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, fileBytes+1))
	if err != nil {
		return nil, err
	}
	if len(b) > fileBytes {
		return nil, fmt.Errorf("%s: more than %d bytes", name, fileBytes)
	}
	return b, nil
}

// ModTime is when a file, as the process sees it, became what it is.
func (p *Process) ModTime(name string) (time.Time, error) {
	f, err := p.open(name)
	if err != nil {
		return time.Time{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}

func (p *Process) open(name string) (*os.File, error) {
	if !filepath.IsAbs(name) {
		return nil, fmt.Errorf("%q is not an absolute path", name)
	}
	root := filepath.Join(p.procfs, strconv.Itoa(p.PID), "root")
	path, err := securejoin.SecureJoin(root, name)
	if err != nil {
		return nil, err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New(name + " is no regular file")
	}
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // what it is may have changed since
}
