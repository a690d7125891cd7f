// Command agent is the first process of a virtual machine of package vm, and
// the one that does what the host asks: it runs commands and writes files. It
// asks nobody who they are, so only the host's loopback must reach it.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// modulesFile lists the kernel's modules in the order in which they load.
const modulesFile = "/etc/modules"

func main() {
	do := serve
	if os.Getpid() == 1 {
		do = boot
	}
	fmt.Fprintln(os.Stderr, "agent:", do())
	// Without its first process the kernel panics, and the machine ends.
	os.Exit(1)
}

// boot makes the guest usable, starts the server and reaps. The server is a
// process of its own: what waits for all children must not take those away
// that a command's own Wait is for.
func boot() error {
	for _, m := range []struct{ fstype, dir string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/run"}, {"tmpfs", "/tmp"},
	} {
		if err := os.MkdirAll(m.dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.fstype, m.dir, m.fstype, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.dir, err)
		}
	}
	if err := loadModules(); err != nil {
		return err
	}
	if err := os.Setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"); err != nil {
		return err
	}
	for _, argv := range []string{
		"busybox --install -s /bin",
		"hostname -F /etc/hostname",
		"ip link set lo up",
		"ip link set eth0 up",
		// No default route and no way to the name server that qemu plays: it would
		// dial for us whatever the host can reach, and nothing of a lab may leave
		// the host's loopback.
		"ip addr add 10.0.2.15/24 dev eth0",
		"ip route add unreachable 10.0.2.3",
	} {
		args := strings.Fields(argv)
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", argv, err, out)
		}
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	server, err := os.StartProcess("/init", os.Args[:1], &os.ProcAttr{Files: []*os.File{null, os.Stdout, os.Stderr}})
	if err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	for {
		pid, err := unix.Wait4(-1, nil, 0, nil)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for children: %w", err)
		}
		if pid == server.Pid {
			return errors.New("the server ended")
		}
	}
}

func loadModules() error {
	b, err := os.ReadFile(modulesFile)
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(string(b)) {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("load %s: %w", name, err)
		}
	}
	return nil
}

// result is what became of a command; package vm has the same.
type result struct {
	Stdout          []byte
	Stderr, Failure string
}

func serve() error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /exec", func(w http.ResponseWriter, r *http.Request) {
		var args []string
		if err := json.NewDecoder(r.Body).Decode(&args); err != nil || len(args) == 0 {
			http.Error(w, fmt.Sprintf("no command: %v", err), http.StatusBadRequest)
			return
		}
		// A caller that goes away takes its command along.
		cmd := exec.CommandContext(r.Context(), args[0], args[1:]...)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		var res result
		if err := cmd.Run(); err != nil {
			res.Failure = err.Error()
		}
		res.Stdout, res.Stderr = stdout.Bytes(), stderr.String()
		_ = json.NewEncoder(w).Encode(res)
	})
	mux.HandleFunc("PUT /file", func(w http.ResponseWriter, r *http.Request) {
		mode, err := strconv.ParseUint(r.FormValue("mode"), 8, 12)
		if err == nil {
			err = write(r.FormValue("path"), r.Body, os.FileMode(mode))
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})
	return http.ListenAndServe(":9", mux)
}

// write puts a file in place whole: a program that runs can be replaced.
func write(name string, from io.Reader, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	tmp := name + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return os.Rename(tmp, name)
}
