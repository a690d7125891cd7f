// Package machine makes a small machine out of namespaces: its own processes,
// network, mounts, host name and cgroups, over the host's software. Everything
// that runs in it dies with its first process, and everything that it writes
// stays in one directory, so that a machine leaves nothing behind however it
// ends. It knows nothing about Kubernetes.
package machine

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// InitCommand is the hidden argument under which the lab's binary becomes a
// machine's first process; main must call Init when it sees it.
const InitCommand = "machine-init"

// Forward is a listener of the host served from inside a machine: connections
// that arrive on the host's loopback are dialled from the machine's network.
type Forward struct {
	// Listen is the host address, 127.0.0.1:port.
	Listen string
	// Target is the address dialled inside the machine.
	Target string
}

// Spec describes a machine before it starts.
type Spec struct {
	// Lab names the lab; it is part of the cgroup and socket names.
	Lab string
	// Name is the machine's host name.
	Name string
	// Program is the lab's binary; it is the machine's first process.
	Program string
	// Dir holds all that the machine writes.
	Dir string
	// Bind maps directories of Dir to mount points of the machine that must
	// not lie on an overlay (image layers, volumes).
	Bind map[string]string
	// ReadOnly maps host directories to mount points of the machine.
	ReadOnly map[string]string
	// Forwards are served from inside the machine.
	Forwards []Forward
}

// Machine is a running machine.
type Machine struct {
	Spec Spec
	// PID is its first process as the host sees it.
	PID int
}

// socket is the control socket: abstract, so it is no file and ends with the machine.
func (s Spec) socket() string { return "@kproxy-lab/" + s.Lab + "/" + s.Name }

func (s Spec) pidFile() string { return filepath.Join(s.Dir, "pid") }

// Start starts a machine and waits until it accepts services.
func Start(spec Spec) (*Machine, error) {
	for _, d := range []string{"upper", "work", "root"} {
		if err := os.MkdirAll(filepath.Join(spec.Dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	for d := range spec.Bind {
		if err := os.MkdirAll(filepath.Join(spec.Dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	files, err := spec.listen()
	defer closeAll(files)
	if err != nil {
		return nil, err
	}
	specRead, specWrite, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer specWrite.Close()
	initLog, err := os.OpenFile(filepath.Join(spec.Dir, "init.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer initLog.Close()

	cmd := exec.Command(spec.Program, InitCommand)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}
	cmd.Stdout, cmd.Stderr = initLog, initLog
	cmd.ExtraFiles = append([]*os.File{specRead}, files...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start machine %s: %w", spec.Name, err)
	}
	specRead.Close()
	go func() { _ = cmd.Wait() }() // reap it should it end before us

	// Until it has read its spec, the child only waits and ends with us: no
	// machine can outlive a lab that does not know it yet.
	m := &Machine{Spec: spec, PID: cmd.Process.Pid}
	if err := enterCgroups(spec, m.PID); err != nil {
		_ = cmd.Process.Kill()
		return nil, err
	}
	if err := os.WriteFile(spec.pidFile(), []byte(strconv.Itoa(m.PID)), 0o644); err != nil {
		_ = cmd.Process.Kill()
		return nil, err
	}
	if err := json.NewEncoder(specWrite).Encode(spec); err != nil {
		return nil, fmt.Errorf("start machine %s: %w", spec.Name, err)
	}
	specWrite.Close() // the child reads to the end
	deadline := time.Now().Add(10 * time.Second)
	for {
		_, err := m.Services()
		if err == nil {
			return m, nil
		}
		if time.Now().After(deadline) || !m.Alive() {
			return nil, fmt.Errorf("start machine %s: %w; its log:\n%s", spec.Name, err, tailFile(initLog.Name(), 15))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// listen opens the control socket and the forwarded listeners in the host's
// network; sockets keep the network in which they were made.
func (s Spec) listen() ([]*os.File, error) {
	var files []*os.File
	ctl, err := net.Listen("unix", s.socket())
	if err != nil {
		return nil, fmt.Errorf("control socket of %s: %w", s.Name, err)
	}
	defer ctl.Close()
	f, err := ctl.(*net.UnixListener).File()
	if err != nil {
		return nil, err
	}
	files = append(files, f)
	for _, fw := range s.Forwards {
		l, err := net.Listen("tcp", fw.Listen)
		if err != nil {
			return files, fmt.Errorf("forward of %s: %w", s.Name, err)
		}
		f, err := l.(*net.TCPListener).File()
		l.Close()
		if err != nil {
			return files, err
		}
		files = append(files, f)
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// Open finds a machine that another process started.
func Open(spec Spec) (*Machine, error) {
	b, err := os.ReadFile(spec.pidFile())
	if err != nil {
		return nil, fmt.Errorf("machine %s: %w", spec.Name, err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return nil, fmt.Errorf("machine %s: pid file: %w", spec.Name, err)
	}
	m := &Machine{Spec: spec, PID: pid}
	if !m.Alive() {
		return nil, fmt.Errorf("machine %s is not running", spec.Name)
	}
	return m, nil
}

// Alive reports whether the first process still runs and is ours: a pid that
// was given to somebody else is not in our cgroup.
func (m *Machine) Alive() bool {
	for _, pid := range cgroupProcs(m.Spec.Lab, m.Spec.Name) {
		if pid == m.PID {
			return true
		}
	}
	return false
}

// Path is where the host finds a file of the machine.
func (m *Machine) Path(name string) string {
	return filepath.Join("/proc", strconv.Itoa(m.PID), "root", name)
}

// WriteFile writes a file in the machine, with its directories.
func (m *Machine) WriteFile(name string, data []byte, mode os.FileMode) error {
	p := m.Path(name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		return err
	}
	return os.WriteFile(p, data, mode)
}

// Command prepares a command that runs in all of the machine's namespaces.
func (m *Machine) Command(argv ...string) *exec.Cmd {
	return exec.Command("nsenter", m.nsenterArgs(argv)...)
}

func (m *Machine) nsenterArgs(argv []string) []string {
	return append([]string{"--target", strconv.Itoa(m.PID), "--all", "--root", "--wd", "--"}, argv...)
}

// Exec replaces this process by a command in the machine.
func (m *Machine) Exec(argv ...string) error {
	path, err := exec.LookPath("nsenter")
	if err != nil {
		return err
	}
	return syscall.Exec(path, append([]string{"nsenter"}, m.nsenterArgs(argv)...), os.Environ())
}

// Run runs a command in the machine and returns its output; an error carries it too.
func (m *Machine) Run(argv ...string) (string, error) {
	out, err := m.Command(argv...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s: %s: %w: %s", m.Spec.Name, strings.Join(argv, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// Host runs a command of the host's mounts in the machine's network only.
func (m *Machine) Host(argv ...string) (string, error) {
	out, err := exec.Command("nsenter", append([]string{"--target", strconv.Itoa(m.PID), "--net", "--"}, argv...)...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s: %s: %w: %s", m.Spec.Name, strings.Join(argv, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// Destroy ends every process of the lab's machines called name (all if empty)
// and removes their cgroups. It works from the cgroups alone, so it needs no
// state of a lab that died.
func Destroy(lab, name string) error {
	deadline := time.Now().Add(20 * time.Second)
	for {
		pids := cgroupProcs(lab, name)
		if len(pids) == 0 {
			break
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("end process %d: %w", pid, err)
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v do not end", pids)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return removeCgroups(lab, name)
}

func tailFile(path string, lines int) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
