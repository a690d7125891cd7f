package machine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Descriptors that Start hands to the first process.
const (
	specFD = 3 + iota
	controlFD
	forwardFD
)

// stageVariable carries the spec over the second start of the first process.
const stageVariable = "KPROXY_LAB_SPEC"

// Init is the first process of a machine: it makes the machine's file system,
// serves the control socket and reaps. It returns only on an error.
func Init() error {
	raw := os.Getenv(stageVariable)
	if raw == "" {
		return enterCgroupNamespace()
	}
	var spec Spec
	if err := json.Unmarshal([]byte(raw), &spec); err != nil {
		return fmt.Errorf("spec: %w", err)
	}
	if err := os.Unsetenv(stageVariable); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(spec.Name)); err != nil {
		return fmt.Errorf("host name: %w", err)
	}
	if err := makeRoot(spec); err != nil {
		return err
	}
	for i, f := range spec.Forwards {
		if err := serveForward(uintptr(forwardFD+i), f.Target); err != nil {
			return err
		}
	}
	control, err := listener(controlFD, "control")
	if err != nil {
		return err
	}
	return http.Serve(control, newSupervisor().handler())
}

// enterCgroupNamespace waits for the spec, which comes only after the process
// was put into its cgroup, and starts again in a cgroup namespace rooted
// there. A namespace belongs to a thread and a Go program has many, so the
// thread that entered it must be the one that executes.
func enterCgroupNamespace() error {
	pipe := os.NewFile(specFD, "spec")
	b, err := io.ReadAll(pipe)
	if err != nil {
		return fmt.Errorf("read the spec: %w", err)
	}
	if len(b) == 0 {
		return errors.New("no spec: the lab ended first")
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("cgroup namespace: %w", err)
	}
	// The listeners must survive the exec; Go marked nothing else to.
	var spec Spec
	if err := json.Unmarshal(b, &spec); err != nil {
		return fmt.Errorf("spec: %w", err)
	}
	for fd := controlFD; fd <= forwardFD+len(spec.Forwards)-1; fd++ {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return fmt.Errorf("descriptor %d: %w", fd, err)
		}
	}
	return syscall.Exec("/proc/self/exe", []string{"kproxy-lab", InitCommand}, append(os.Environ(), stageVariable+"="+string(b)))
}

func listener(fd uintptr, name string) (net.Listener, error) {
	f := os.NewFile(fd, name)
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("listener %s: %w", name, err)
	}
	return l, nil
}

// serveForward dials target, from here, for every connection to the listener.
func serveForward(fd uintptr, target string) error {
	l, err := listener(fd, target)
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go pipe(c, target)
		}
	}()
	return nil
}

func pipe(c net.Conn, target string) {
	defer c.Close()
	t, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer t.Close()
	done := make(chan struct{}, 2)
	for _, p := range [][2]net.Conn{{c, t}, {t, c}} {
		go func() {
			_, _ = io.Copy(p[0], p[1])
			_ = p[0].(*net.TCPConn).CloseWrite()
			done <- struct{}{}
		}()
	}
	<-done
	<-done
}

func mount(source, target, fstype string, flags uintptr, data string) error {
	if err := unix.Mount(source, target, fstype, flags, data); err != nil {
		return fmt.Errorf("mount %s on %s (%s): %w", fstype, target, data, err)
	}
	return nil
}

// makeRoot lays a writable layer over the host's root and moves into it. Only
// the layer is written to.
func makeRoot(spec Spec) error {
	hs, err := hierarchies()
	if err != nil {
		return err
	}
	root := filepath.Join(spec.Dir, "root")
	if err := mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	layers := fmt.Sprintf("lowerdir=/,upperdir=%s,workdir=%s", filepath.Join(spec.Dir, "upper"), filepath.Join(spec.Dir, "work"))
	if err := mount("overlay", root, "overlay", 0, layers); err != nil {
		return err
	}
	for _, m := range []struct{ source, dir, fstype, data string }{
		{"proc", "proc", "proc", ""},
		{"sysfs", "sys", "sysfs", ""},
		{"tmpfs", "run", "tmpfs", "mode=755"},
		{"tmpfs", "tmp", "tmpfs", "mode=1777"},
	} {
		if err := mount(m.source, filepath.Join(root, m.dir), m.fstype, 0, m.data); err != nil {
			return err
		}
	}
	if err := mount("/dev", filepath.Join(root, "dev"), "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	if err := mountCgroups(hs, root); err != nil {
		return err
	}
	for from, to := range spec.Bind {
		if err := bind(filepath.Join(spec.Dir, from), filepath.Join(root, to), 0); err != nil {
			return err
		}
	}
	for from, to := range spec.ReadOnly {
		if err := bind(from, filepath.Join(root, to), unix.MS_RDONLY); err != nil {
			return err
		}
	}
	if err := shieldSysctls(root); err != nil {
		return err
	}
	if err := unix.Chdir(root); err != nil {
		return err
	}
	// With both roots the same directory the old one ends up on top of the
	// new one and can be let go without a place to put it.
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the host's root: %w", err)
	}
	return unix.Chdir("/")
}

func bind(from, to string, flags uintptr) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	if err := mount(from, to, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	if flags == 0 {
		return nil
	}
	return mount("", to, "", unix.MS_BIND|unix.MS_REMOUNT|flags, "")
}

// shieldSysctls covers the kernel settings that a kubelet writes and that have
// no namespace: the host keeps its own.
func shieldSysctls(root string) error {
	dir := filepath.Join(root, "run/sysctl")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range []string{
		"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
		"kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
	} {
		real := filepath.Join(root, "proc/sys", name)
		b, err := os.ReadFile(real)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return err
		}
		cover := filepath.Join(dir, filepath.Base(name))
		if err := os.WriteFile(cover, b, 0o644); err != nil {
			return err
		}
		if err := mount(cover, real, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	return nil
}
