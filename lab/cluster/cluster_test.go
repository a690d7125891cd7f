package cluster_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/lab/cluster"
)

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "NOT RUN: a lab needs root and Linux; nothing of it was tested")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func bin(t *testing.T) string {
	t.Helper()
	b, err := filepath.Abs("../bin")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// labDir is outside t.TempDir: Down must remove it, nobody else.
func labDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(bin(t), "..", "..", ".lab-test-"+strconv.Itoa(os.Getpid()))
	t.Cleanup(func() {
		if err := cluster.Down(dir); err != nil {
			t.Error(err)
		}
	})
	return filepath.Clean(dir)
}

// traces is what a lab could leave behind: processes in other namespaces than
// ours, mounts, network devices and namespaces, cgroups, files.
func traces(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	own, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range processes {
		ns, err := os.Readlink(p + "/ns/pid")
		if err != nil || ns == own {
			continue
		}
		command, _ := os.ReadFile(p + "/cmdline")
		out = append(out, "process "+filepath.Base(p)+" "+strings.ReplaceAll(string(command), "\x00", " "))
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range strings.Split(string(mounts), "\n") {
		out = append(out, "mount "+m)
	}
	devices, _ := filepath.Glob("/sys/class/net/*")
	namespaces, _ := filepath.Glob("/var/run/netns/*")
	cgroups, _ := filepath.Glob("/sys/fs/cgroup/*/kproxy-lab-*")
	unified, _ := filepath.Glob("/sys/fs/cgroup/kproxy-lab-*")
	out = slices.Concat(out, devices, namespaces, cgroups, unified)
	if _, err := os.Lstat(dir); err == nil {
		out = append(out, dir)
	}
	return out
}

// However a lab ends, nothing of it is left after Down.
func TestNothingIsLeft(t *testing.T) {
	dir, bin := labDir(t), bin(t)
	up := func(t *testing.T) *exec.Cmd {
		t.Helper()
		cmd := exec.Command(filepath.Join(bin, "kproxy-lab"), "--lab", dir, "up", "--nodes", "1")
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	for _, tc := range []struct {
		name string
		end  func(*testing.T)
	}{
		{"in order", func(t *testing.T) {
			if err := up(t).Wait(); err != nil {
				t.Fatal(err)
			}
			c, err := cluster.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := cluster.Up(t.Context(), cluster.Config{Dir: dir, Bin: bin, Nodes: 1, Mode: "iptables"}, quiet(t)); err == nil || !strings.Contains(err.Error(), "already") {
				t.Errorf("a second lab in the same place: %v", err)
			}
			if m, err := c.Node("n1"); err != nil {
				t.Error(err)
			} else if out, err := m.Run("hostname"); err != nil || out != "n1\n" {
				t.Errorf("hostname of n1 is %q, %v", out, err)
			}
		}},
		{"its machines were killed", func(t *testing.T) {
			if err := up(t).Wait(); err != nil {
				t.Fatal(err)
			}
			for _, m := range []string{"cp", "n1"} {
				pid, err := os.ReadFile(filepath.Join(dir, m, "pid"))
				if err != nil {
					t.Fatal(err)
				}
				n, err := strconv.Atoi(strings.TrimSpace(string(pid)))
				if err != nil {
					t.Fatal(err)
				}
				if err := syscall.Kill(n, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
		}},
		{"it was killed while it started", func(t *testing.T) {
			cmd := up(t)
			awaitFile(t, filepath.Join(dir, "n1", "pid"))
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := traces(t, dir)
			tc.end(t)
			if err := cluster.Down(dir); err != nil {
				t.Fatal(err)
			}
			// A dead machine's name goes when the host's first process reaps it.
			isOld := func(trace string) bool { return slices.Contains(before, trace) }
			left := slices.DeleteFunc(traces(t, dir), isOld)
			for deadline := time.Now().Add(10 * time.Second); len(left) > 0 && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
				left = slices.DeleteFunc(traces(t, dir), isOld)
			}
			if len(left) > 0 {
				t.Errorf("left behind: %s", strings.Join(left, "\n"))
			}
			if err := cluster.Down(dir); err != nil {
				t.Errorf("down of nothing: %v", err)
			}
		})
	}
}

func quiet(t *testing.T) *cluster.Progress {
	t.Helper()
	return cluster.NewProgress(io.Discard, filepath.Join(t.TempDir(), "timings.json"))
}

func awaitFile(t *testing.T, path string) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s did not appear", path)
		}
	}
}

// A component that ends is named, with its last words and what to do.
func TestFailingComponentIsNamed(t *testing.T) {
	real := bin(t)
	dir, fake := labDir(t), t.TempDir()
	// Copies: a machine sees its own /tmp, and there the real ones may be.
	for from, to := range map[string]string{"kproxy-lab": "kproxy-lab", "kube": "real/kube", "pause.tar": "pause.tar", "kube-proxy.tar": "kube-proxy.tar"} {
		b, err := os.ReadFile(filepath.Join(real, from))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(fake, to)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(fake, to), b, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	script := "#!/bin/sh\nif [ \"$1\" = kube-apiserver ]; then echo 'no such flag: moon'; exit 3; fi\nexec /opt/lab/real/kube \"$@\"\n"
	if err := os.WriteFile(filepath.Join(fake, "kube"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := cluster.Up(t.Context(), cluster.Config{Dir: dir, Bin: fake, Nodes: 1, Mode: "nftables"}, quiet(t))
	if err == nil {
		t.Fatal("it came up without an API server")
	}
	for _, want := range []string{"kube-apiserver", "exit code 3", "no such flag: moon", "What to do", "make lab-down"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q:\n%v", want, err)
		}
	}
}

func TestBadConfigurationIsRefused(t *testing.T) {
	real := bin(t)
	for _, tc := range []struct {
		cfg  cluster.Config
		want string
	}{
		{cluster.Config{Dir: "x", Bin: real, Nodes: 1, Mode: "userspace"}, "nftables, iptables or ipvs"},
		{cluster.Config{Dir: "x", Bin: real, Nodes: 0, Mode: "nftables"}, "1 to 100"},
		{cluster.Config{Dir: "x,y", Bin: real, Nodes: 1, Mode: "nftables"}, "overlay"},
		{cluster.Config{Dir: "x", Bin: t.TempDir(), Nodes: 1, Mode: "nftables"}, "make lab-build"},
	} {
		if _, err := cluster.Up(t.Context(), tc.cfg, quiet(t)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: got %v, want something with %q", tc.cfg, err, tc.want)
		}
	}
	if _, err := cluster.Open(t.TempDir()); err == nil || !strings.Contains(err.Error(), "make lab-up") {
		t.Errorf("open of nothing: %v", err)
	}
}

// A lab is one lab by each name of its directory.
func TestNamesOfADirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink(dir, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "lab.json"), []byte(`{"ID":"x","NodeCount":2}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{dir, filepath.Join(dir, "link"), filepath.Join(dir, "none", "..", "link")} {
		c, err := cluster.Open(name)
		if err != nil || c.ID != "x" {
			t.Errorf("%s: %v %v", name, c, err)
			continue
		}
		if _, err := c.Node("n9"); err == nil || !strings.Contains(err.Error(), "there are cp, n1, n2") {
			t.Errorf("a node that is not there: %v", err)
		}
	}
	if err := cluster.Down(filepath.Join(dir, "link")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("down by a link leaves the directory: %v", err)
	}
}

// A directory that is no lab is not removed, whatever its name.
func TestDownSparesForeignDirectories(t *testing.T) {
	dir := t.TempDir()
	precious := filepath.Join(dir, "thesis.txt")
	if err := os.WriteFile(precious, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := cluster.Down(dir); err == nil {
		t.Error("no error")
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
}
