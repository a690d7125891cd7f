package vm

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// kernelPackage is Debian's kernel for virtual machines: the smallest that has ip_vs.
const kernelPackage = "linux-image-cloud-amd64"

// wanted are the modules that the guest loads, and with them what they need.
var wanted = []string{
	"virtio_pci", "virtio_net", "dummy",
	"nf_conntrack", "nf_conntrack_netlink", "nf_nat", "nfnetlink_acct",
	// Debian's iptables is the one over nf_tables, which calls the xt modules.
	"nf_tables", "nft_compat", "nft_chain_nat",
	"xt_comment", "xt_conntrack", "xt_mark", "xt_addrtype", "xt_set", "xt_MASQUERADE", "ipt_REJECT", "ip6t_REJECT",
	"xt_tcpudp", "xt_multiport", "xt_statistic", "xt_physdev", "xt_ipvs", "xt_nat", "xt_nfacct",
	"ip_set", "ip_set_hash_ip", "ip_set_hash_ipport", "ip_set_hash_ipportip", "ip_set_hash_ipportnet", "ip_set_bitmap_port",
	"ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_lc", "ip_vs_wlc", "ip_vs_sh", "ip_vs_mh",
}

// kernel is an unpacked kernel package.
type kernel struct{ dir, version string }

func (k kernel) image() string { return filepath.Join(k.dir, "boot/vmlinuz-"+k.version) }

func (k kernel) modules() string { return filepath.Join(k.dir, "lib/modules", k.version) }

// openKernel finds what fetchKernel left in dir.
func openKernel(dir string) (kernel, error) {
	images, err := filepath.Glob(filepath.Join(dir, "boot/vmlinuz-*"))
	if err != nil {
		return kernel{}, err
	}
	if len(images) != 1 {
		return kernel{}, fmt.Errorf("%d kernels in %s, want 1", len(images), dir)
	}
	return kernel{dir, strings.TrimPrefix(filepath.Base(images[0]), "vmlinuz-")}, nil
}

// ensureKernel unpacks Debian's kernel into dir, if it is not there yet. It is
// not installed: that would make it the host's own.
func ensureKernel(dir string) (kernel, error) {
	if k, err := openKernel(dir); err == nil {
		return k, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return kernel{}, err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "linux-*")
	if err != nil {
		return kernel{}, err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	if err := downloadKernel(tmp); err != nil {
		// The lists may be missing, or older than what the mirror has.
		if _, err := run(tmp, "apt-get", "update", "-q"); err != nil {
			return kernel{}, err
		}
		if err := downloadKernel(tmp); err != nil {
			return kernel{}, err
		}
	}
	debs, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil {
		return kernel{}, err
	}
	if len(debs) != 1 {
		return kernel{}, fmt.Errorf("%d packages of a kernel in %s, want 1", len(debs), tmp)
	}
	if _, err := run(tmp, "dpkg", "-x", debs[0], "root"); err != nil {
		return kernel{}, err
	}
	k, err := openKernel(filepath.Join(tmp, "root"))
	if err != nil {
		return kernel{}, err
	}
	if _, err := run(tmp, "depmod", "-b", k.dir, k.version); err != nil {
		return kernel{}, err
	}
	if err := os.Rename(k.dir, dir); err != nil && !errors.Is(err, os.ErrExist) { // another was faster
		return kernel{}, err
	}
	return openKernel(dir)
}

func downloadKernel(dir string) error {
	out, err := run(dir, "apt-cache", "depends", kernelPackage)
	if err != nil {
		return err
	}
	_, name, ok := strings.Cut(out, "Depends: linux-image-")
	if !ok {
		return fmt.Errorf("apt-cache knows no kernel of %s: %s", kernelPackage, out)
	}
	_, err = run(dir, "apt-get", "download", "-q", "linux-image-"+strings.Fields(name)[0])
	return err
}

func run(dir string, argv ...string) (string, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C") // what it says is read
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// order returns the files of modules and of all that they need, below
// modules(), each after what it needs.
func (k kernel) order(names []string) ([]string, error) {
	deps := map[string][]string{}
	file := map[string]string{}
	b, err := os.ReadFile(filepath.Join(k.modules(), "modules.dep"))
	if err != nil {
		return nil, err
	}
	for _, line := range strings.Split(string(b), "\n") {
		if path, needs, ok := strings.Cut(line, ":"); ok {
			deps[path] = strings.Fields(needs)
			file[moduleName(path)] = path
		}
	}
	builtin, err := os.ReadFile(filepath.Join(k.modules(), "modules.builtin"))
	if err != nil {
		return nil, err
	}
	for _, path := range strings.Fields(string(builtin)) {
		file[moduleName(path)] = ""
	}
	var out []string
	var add func(string)
	add = func(path string) {
		for _, d := range deps[path] {
			add(d)
		}
		if path != "" && !slices.Contains(out, path) {
			out = append(out, path)
		}
	}
	for _, n := range names {
		path, ok := file[n]
		if !ok {
			return nil, fmt.Errorf("the kernel %s has no module %s", k.version, n)
		}
		add(path)
	}
	return out, nil
}

func moduleName(path string) string {
	return strings.ReplaceAll(strings.TrimSuffix(filepath.Base(path), ".ko"), "-", "_")
}
