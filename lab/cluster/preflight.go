package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// programs maps what the lab runs from the host to the Debian package that has it.
var programs = []Program{
	{"containerd", "containerd"},
	{"ctr", "containerd"},
	{"runc", "runc"},
	{"nsenter", "util-linux"},
	{"ip", "iproute2"},
	{"nft", "nftables"},
	{"iptables", "iptables"},
	{"ldd", "libc-bin"},
	{"sysctl", "procps"},
	{"kill", "procps"},
	{"/usr/lib/cni/ptp", "containernetworking-plugins"},
	{"/usr/lib/cni/host-local", "containernetworking-plugins"},
}

// Preflight checks that this machine can run a lab and installs what apt has.
func Preflight() error {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("the lab needs Linux, this is %s", runtime.GOOS)
	}
	if os.Geteuid() != 0 {
		return errors.New("the lab needs root: it makes namespaces, mounts and cgroups; run it as root or with sudo")
	}
	if err := Require(programs...); err != nil {
		return err
	}
	fs, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return err
	}
	if !strings.Contains(string(fs), "\toverlay\n") && !canLoad("overlay") {
		return errors.New("the kernel has no overlay file system (CONFIG_OVERLAY_FS)")
	}
	for _, ns := range []string{"net", "pid", "mnt", "uts", "ipc", "cgroup"} {
		if _, err := os.Stat("/proc/self/ns/" + ns); err != nil {
			return fmt.Errorf("the kernel has no %s namespaces: %w", ns, err)
		}
	}
	if err := raiseInotify(); err != nil {
		return err
	}
	return checkNetfilter()
}

// checkMode checks what one mode of kube-proxy alone needs of the kernel.
func checkMode(mode string) error {
	if mode != "ipvs" {
		return nil
	}
	if _, err := os.Stat("/proc/net/ip_vs"); err != nil && !canLoad("ip_vs") {
		return errors.New("the kernel has no ip_vs (CONFIG_IP_VS): mode ipvs cannot run here; choose nftables or iptables")
	}
	return nil
}

// inotifyInstances are what several labs side by side need: a kubelet has about
// ten, and the default of many systems is 128 for all.
const (
	inotifyInstances     = 1024
	inotifyInstancesFile = "/proc/sys/fs/inotify/max_user_instances"
)

// raiseInotify makes room for them, until the machine starts anew.
func raiseInotify() error {
	b, err := os.ReadFile(inotifyInstancesFile)
	if err != nil {
		return fmt.Errorf("the kernel has no inotify (CONFIG_INOTIFY_USER): %w", err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return fmt.Errorf("read %s: %w", inotifyInstancesFile, err)
	}
	if n >= inotifyInstances {
		return nil
	}
	fmt.Printf("  .. fs.inotify.max_user_instances is %d: raising it to %d until the next boot, kubelets need it\n", n, inotifyInstances)
	if err := os.WriteFile(inotifyInstancesFile, []byte(strconv.Itoa(inotifyInstances)), 0o644); err != nil {
		fmt.Printf("  .. it cannot be raised (%v): a lab at a time will do, six will not\n", err)
	}
	return nil
}

func canLoad(module string) bool { return exec.Command("modprobe", module).Run() == nil }

// checkNetfilter tries, in a network namespace of its own, what kube-proxy needs.
func checkNetfilter() error {
	for _, try := range []struct {
		what string
		argv []string
	}{
		{"nf_tables (CONFIG_NF_TABLES)", []string{"nft", "add", "table", "ip", "probe"}},
		{"nat for nf_tables (CONFIG_NFT_NAT)", []string{"nft", "add table ip probe; add chain ip probe c { type nat hook postrouting priority 100; }; add rule ip probe c masquerade"}},
		{"veth devices (CONFIG_VETH)", []string{"ip", "link", "add", "probe0", "type", "veth", "peer", "name", "probe1"}},
		{"bridge devices (CONFIG_BRIDGE)", []string{"ip", "link", "add", "probe0", "type", "bridge"}},
	} {
		cmd := exec.Command(try.argv[0], try.argv[1:]...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("the kernel lacks %s: %s: %w: %s", try.what, strings.Join(try.argv, " "), err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}

// Program is one that is needed, and the Debian package that has it.
type Program struct{ Name, Package string }

// aptGet runs apt-get, and waits for another that has its lock.
func aptGet(argv []string) (out string, err error) {
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(time.Second) {
		cmd := exec.Command("apt-get", argv...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C")
		b, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(b), "Could not get lock") || time.Now().After(deadline) {
			return string(b), err
		}
	}
}

// installing is held while packages are installed: tests that run at once need the same.
var installing sync.Mutex

// Require finds programs and installs the Debian packages of missing ones.
func Require(need ...Program) error {
	installing.Lock()
	defer installing.Unlock()
	missing := map[string]bool{}
	var names, pkgs []string
	for _, p := range need {
		if _, err := exec.LookPath(p.Name); err == nil {
			continue
		}
		names = append(names, p.Name)
		if !missing[p.Package] {
			missing[p.Package] = true
			pkgs = append(pkgs, p.Package)
		}
	}
	if len(pkgs) == 0 {
		return nil
	}
	lack := fmt.Sprintf("this machine lacks %s (Debian packages %s)", strings.Join(names, ", "), strings.Join(pkgs, ", "))
	if _, err := exec.LookPath("apt-get"); err != nil {
		return errors.New(lack + " and has no apt-get to install them with")
	}
	fmt.Printf("  .. %s: installing\n", lack)
	for _, argv := range [][]string{{"update", "-q"}, append([]string{"install", "-q", "-y", "--no-install-recommends"}, pkgs...)} {
		if out, err := aptGet(argv); err != nil {
			return fmt.Errorf("%s; apt-get %s: %w:\n%s", lack, argv[0], err, lastLines(out, 10))
		}
	}
	for _, n := range names {
		if _, err := exec.LookPath(n); err != nil {
			return fmt.Errorf("%s; still not there after the installation: %w", lack, err)
		}
	}
	return nil
}

func lastLines(s string, n int) string {
	l := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(l[max(0, len(l)-n):], "\n")
}
