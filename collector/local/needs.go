package local

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"
)

// Exists is whether a file below a mount of procfs is there.
func Exists(procfs, name string) (bool, error) {
	_, err := os.Stat(filepath.Join(procfs, name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// SysctlIsZero is whether a sysctl, "net/ipv4/ip_forward", is 0; one that the
// kernel does not have is not.
func SysctlIsZero(procfs, name string) (bool, error) {
	n, err := readNumber(filepath.Join(procfs, "sys", name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && n == 0, err
}

// usualPath is where programs are in an image that does not say so.
const usualPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Lacks is whether the process would not find a program, and where it would
// look. It needs the right to trace the process (CAP_SYS_PTRACE).
func (p *Process) Lacks(program string) (bool, string, error) {
	dir := filepath.Join(p.procfs, strconv.Itoa(p.PID))
	environ, err := os.ReadFile(filepath.Join(dir, "environ"))
	if err != nil {
		return false, "", err
	}
	path := usualPath
	for _, one := range bytes.Split(environ, []byte{0}) {
		if value, ok := strings.CutPrefix(string(one), "PATH="); ok {
			path = value
		}
	}
	root := filepath.Join(dir, "root")
	for _, at := range filepath.SplitList(path) {
		if !filepath.IsAbs(at) {
			return false, path, nil // it depends on where it works
		}
		file, err := securejoin.SecureJoin(root, filepath.Join(at, program))
		if err != nil {
			return false, path, err
		}
		_, err = os.Lstat(file)
		if err == nil {
			return false, path, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return false, path, err
		}
	}
	_, err = os.ReadDir(root) // where the process has ended nothing is there
	return err == nil, path, err
}
