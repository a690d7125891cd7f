package vm

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// protocols are the names that ipset looks up there.
const protocols = "icmp 1 ICMP\ntcp 6 TCP\nudp 17 UDP\nipv6-icmp 58 IPv6-ICMP\nsctp 132 SCTP\n"

// initramfs writes the guest's file system: Debian's programs that kube-proxy
// calls, as this host has them, the modules, the agent and the caller's files.
func initramfs(w io.Writer, cfg Config, k kernel, agent string) error {
	a := &archive{w: bufio.NewWriterSize(w, 1<<20), made: map[string]bool{}}
	a.file("/init", agent)
	a.program("/bin/busybox")
	a.program("/usr/sbin/ipset")
	// The names lead to the alternative that the host chose; here it is always
	// the one over nf_tables.
	multi := "/usr/sbin/xtables-nft-multi"
	a.program(multi)
	for _, n := range []string{"iptables", "ip6tables"} {
		for _, does := range []string{"", "-save", "-restore"} {
			a.link("/usr/sbin/"+n+does, multi)
		}
	}
	extensions, err := filepath.Glob("/usr/lib/*/xtables/lib*.so")
	if err != nil {
		return err
	}
	for _, e := range extensions {
		a.file(e, e)
	}
	modules, err := k.order(wanted)
	if err != nil {
		return err
	}
	list := ""
	for _, m := range modules {
		to := path.Join("/lib/modules", k.version, m)
		a.file(to, filepath.Join(k.modules(), m))
		list += to + "\n"
	}
	a.text("/etc/modules", list)
	a.text("/etc/protocols", protocols)
	a.text("/etc/hostname", cfg.Name+"\n")
	a.text("/etc/hosts", "127.0.0.1 localhost "+cfg.Name+"\n")
	for _, d := range []string{"/root", "/var/log", "/var/lib", "/proc", "/sys", "/dev", "/run", "/tmp"} {
		a.dir(d)
	}
	a.link("/var/run", "/run")
	for to, from := range cfg.Files {
		a.file(to, from)
	}
	return a.close()
}

// archive writes the format of cpio that the kernel reads, "newc". After the
// first error it does nothing; close returns it.
type archive struct {
	w    *bufio.Writer
	n    int64
	made map[string]bool
	err  error
}

const (
	typeDir  = 0o040000
	typeFile = 0o100000
	typeLink = 0o120000
)

// entry writes a header, a name and a content, each padded to 4 bytes.
func (a *archive) entry(name string, mode uint32, size int64, content io.Reader) {
	if a.err != nil {
		return
	}
	name = strings.TrimPrefix(name, "/")
	a.made[name] = true
	head := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		len(a.made), mode, 0, 0, 1, 0, size, 0, 0, 0, 0, len(name)+1, 0, name)
	a.copy(strings.NewReader(head), int64(len(head)))
	a.copy(content, size)
}

func (a *archive) copy(from io.Reader, size int64) {
	if a.err == nil {
		_, a.err = io.CopyN(a.w, from, size)
	}
	for a.n += size; a.n%4 != 0 && a.err == nil; a.n++ {
		a.err = a.w.WriteByte(0)
	}
}

func (a *archive) dir(name string) {
	if name = strings.TrimPrefix(name, "/"); name == "" || name == "." || a.made[name] {
		return
	}
	a.dir(path.Dir(name))
	a.entry(name, typeDir|0o755, 0, strings.NewReader(""))
}

func (a *archive) text(name, content string) {
	a.dir(path.Dir(name))
	a.entry(name, typeFile|0o644, int64(len(content)), strings.NewReader(content))
}

func (a *archive) link(name, target string) {
	a.dir(path.Dir(name))
	a.entry(name, typeLink|0o777, int64(len(target)), strings.NewReader(target))
}

// file copies a file of the host, and what a link leads to.
func (a *archive) file(name, from string) {
	if a.made[strings.TrimPrefix(name, "/")] || a.err != nil {
		return
	}
	f, err := os.Open(from)
	if err != nil {
		a.err = err
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		a.err = err
		return
	}
	a.dir(path.Dir(name))
	a.entry(name, typeFile|uint32(info.Mode().Perm()), info.Size(), f)
}

// program copies a program and the libraries that it is linked with.
func (a *archive) program(name string) {
	a.file(name, name)
	out, err := exec.Command("ldd", name).CombinedOutput()
	if err != nil && !strings.Contains(string(out), "not a dynamic executable") && a.err == nil {
		a.err = fmt.Errorf("ldd %s: %w: %s", name, err, out)
	}
	for _, field := range strings.Fields(string(out)) {
		if path.IsAbs(field) && !strings.HasSuffix(field, ":") {
			a.file(field, field)
		}
	}
}

func (a *archive) close() error {
	a.entry("TRAILER!!!", 0, 0, strings.NewReader(""))
	if a.err != nil {
		return fmt.Errorf("write the initramfs: %w", a.err)
	}
	return a.w.Flush()
}
