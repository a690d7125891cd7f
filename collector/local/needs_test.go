package local

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Which programs a process would find, along links inside its own root.
func TestLacks(t *testing.T) {
	root := proc(t)
	write(t, root, map[string]string{
		"137/environ": "A=b\x00PATH=/usr/sbin:/opt/bin\x00", "137/root/opt/bin/xtables": "", "137/root/bin/nft": "",
	})
	if err := os.MkdirAll(filepath.Join(root, "137/root/usr/sbin"), 0o755); err != nil {
		t.Fatal(err)
	}
	link(t, "/opt/bin/xtables", filepath.Join(root, "137/root/usr/sbin/iptables"))
	link(t, "/gone", filepath.Join(root, "137/root/usr/sbin/ipset"))
	p, err := FindKubeProxy(root)
	if err != nil {
		t.Fatal(err)
	}
	for program, want := range map[string]bool{"iptables": false, "xtables": false, "nft": true, "ipset": true} {
		if lacks, path, err := p.Lacks(program); err != nil || lacks != want || path != "/usr/sbin:/opt/bin" {
			t.Errorf("%s: %v %s %v", program, lacks, path, err)
		}
	}
	write(t, root, map[string]string{"137/environ": ""})
	if lacks, _, err := p.Lacks("nft"); err != nil || lacks {
		t.Errorf("by the usual path: %v %v", lacks, err)
	}
	write(t, root, map[string]string{"137/environ": "PATH=.:/x\x00"})
	if lacks, _, err := p.Lacks("nft"); err != nil || lacks {
		t.Errorf("by a path that depends on where it works: %v %v", lacks, err)
	}
	write(t, root, map[string]string{"137/environ": "PATH=/x\x00"})
	if err := os.RemoveAll(filepath.Join(root, "137/root")); err != nil {
		t.Fatal(err)
	}
	if lacks, _, err := p.Lacks("nft"); err == nil || lacks {
		t.Errorf("its root is gone: %v %v", lacks, err)
	}
	if err := os.RemoveAll(filepath.Join(root, "137")); err != nil {
		t.Fatal(err)
	}
	if lacks, _, err := p.Lacks("nft"); err == nil || lacks {
		t.Errorf("it has ended: %v %v", lacks, err)
	}
}

func TestSysctl(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{"sys/net/ipv4/ip_forward": "0\n", "sys/net/one": "1\n", "sys/net/text": "x\n"})
	for name, want := range map[string]bool{"net/ipv4/ip_forward": true, "net/one": false, "net/none": false} {
		if zero, err := SysctlIsZero(root, name); err != nil || zero != want {
			t.Errorf("%s: %v %v", name, zero, err)
		}
	}
	if zero, err := SysctlIsZero(root, "net/text"); err == nil || zero {
		t.Errorf("no number: %v %v", zero, err)
	}
	if there, err := Exists(root, "sys/net/one"); err != nil || !there {
		t.Errorf("one: %v %v", there, err)
	}
	if there, err := Exists(root, "sys/net/none"); err != nil || there {
		t.Errorf("none: %v %v", there, err)
	}
	if there, err := Exists(root, "sys/net/one/two"); err == nil || there {
		t.Errorf("below a file: %v %v", there, err)
	}
}

// TestLacksBounds is for a process whose environment is as long as it likes.
func TestLacksBounds(t *testing.T) {
	procfs := t.TempDir()
	dir := filepath.Join(procfs, "7")
	if err := os.MkdirAll(filepath.Join(dir, "root"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "environ"), []byte("A="+strings.Repeat("x", environBytes)+"\x00PATH=/bin\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &Process{PID: 7, procfs: procfs}
	if lacks, _, err := p.Lacks("nft"); err == nil || lacks || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a long environment: it lacks it: %t, %v", lacks, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "environ"), []byte("PATH="+strings.Repeat("/a:", environBytes/4)+"\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	if lacks, _, err := p.Lacks("nft"); err == nil || lacks || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a long PATH: it lacks it: %t, %v", lacks, err)
	}
}
