package vm_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/lab/vm"
)

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "NOT RUN: a lab needs root and Linux; nothing of it was tested")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// boot starts a machine and wants that nothing of it is left at the end.
func boot(t *testing.T) *vm.VM {
	t.Helper()
	began := time.Now()
	dir := t.TempDir()
	v, err := vm.Up(t.Context(), vm.Config{
		Dir: dir, Bin: "../bin", Root: "../..", Name: "vm1", Ports: []int{healthzPort, metricsPort, exporterPort},
		Files: map[string]string{vm.Kube: "../bin/kube"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the machine's start: %s, of which qemu %s", time.Since(began), v.BootTook)
	t.Cleanup(func() {
		for range 2 {
			if err := v.Down(); err != nil {
				t.Error(err)
			}
		}
		if left := processes(t, dir); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
		if _, err := v.Exec(context.Background(), "true"); err == nil || !strings.Contains(err.Error(), "it has ended") {
			t.Errorf("a command after the end: %v", err)
		}
	})
	if running := processes(t, dir); len(running) != 1 || !strings.HasPrefix(running[0], strconv.Itoa(v.PID())+" qemu") {
		t.Errorf("the machine's processes are %q, want one, %d", running, v.PID())
	}
	return v
}

// processes are those of qemu that were called with dir.
func processes(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range files {
		if command, _ := os.ReadFile(f); bytes.HasPrefix(command, []byte("qemu")) && bytes.Contains(command, []byte(dir)) {
			out = append(out, filepath.Base(filepath.Dir(f))+" "+strings.ReplaceAll(string(command), "\x00", " "))
		}
	}
	return out
}

func filesAndCommands(t *testing.T, v *vm.VM) {
	ctx := t.Context()
	content := bytes.Repeat([]byte{0, 1, 0xff, '\n'}, 1<<20)
	began := time.Now()
	if err := v.Put(ctx, "/opt/new/file", bytes.NewReader(content), 0o750); err != nil {
		t.Fatal(err)
	}
	t.Logf("copying 4 MiB in: %s", time.Since(began))
	if out, err := v.Exec(ctx, "cat", "/opt/new/file"); err != nil || out != string(content) {
		t.Errorf("%d bytes came back, %v", len(out), err)
	}
	if out, err := v.Exec(ctx, "stat", "-c", "%a", "/opt/new/file"); err != nil || out != "750\n" {
		t.Errorf("the mode is %q, %v", out, err)
	}
	out, err := v.Exec(ctx, "sh", "-c", "echo said; echo why >&2; exit 3")
	if out != "said\n" || err == nil || !strings.Contains(err.Error(), "exit status 3: why") {
		t.Errorf("a command that fails: %q, %v", out, err)
	}
	short, cancel := context.WithCancel(ctx)
	time.AfterFunc(100*time.Millisecond, cancel)
	if _, err := v.Exec(short, "sleep", "1234"); err == nil {
		t.Error("a command that was cancelled has no error")
	}
	await(t, v, "the end of the cancelled command", func() string {
		out, err := v.Exec(ctx, "ps")
		if err != nil || strings.Contains(out, "sleep 1234") {
			return fmt.Sprintf("%s %v", out, err)
		}
		return ""
	})
	// Only this machine and the host's loopback are reached.
	for address, want := range map[string]string{"192.0.2.1": "Network is unreachable", "10.0.2.3": "No route to host"} {
		if out, err := v.Exec(ctx, "ping", "-c", "1", "-W", "1", address); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a foreign address: %q, %v", out, err)
		}
	}
}

// A machine cannot outlive the process that started it.
func TestItEndsWithItsOwner(t *testing.T) {
	const variable = "KPROXY_VM_DIR"
	if dir := os.Getenv(variable); dir != "" {
		if _, err := vm.Up(t.Context(), vm.Config{Dir: dir, Bin: "../bin", Root: "../..", Name: "orphan"}); err != nil {
			t.Fatal(err)
		}
		select {} // until it is killed
	}
	dir := t.TempDir()
	owner := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	owner.Env = append(os.Environ(), variable+"="+dir)
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	wait := func(what string, n int) {
		for deadline := time.Now().Add(time.Minute); len(processes(t, dir)) != n; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("no %s of the machine: %q", what, processes(t, dir))
			}
		}
	}
	wait("start", 1)
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait()
	wait("end", 0)
}

// What cannot start says why, and leaves nothing.
func TestFailingStart(t *testing.T) {
	dir := t.TempDir()
	cfg := vm.Config{Dir: dir, Bin: "../bin", Root: "../..", Name: "ill", MemoryMB: 64}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := vm.Up(ctx, cfg); err == nil || !strings.Contains(err.Error(), "virtual machine ill: ") {
		t.Errorf("without memory: %v", err)
	} else {
		t.Log(err)
	}
	cfg.Files = map[string]string{"/none": filepath.Join(dir, "none")}
	if _, err := vm.Up(ctx, cfg); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("without a file: %v", err)
	}
	if left := processes(t, dir); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}
