package local

import (
	"bytes"
	"errors"
	"fmt"
	"io"
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

// environBytes bounds the environment of a process, which may be as long as its
// owner likes; that of a container has some kilobytes.
const environBytes = 1 << 20

// pathBytes bounds PATH, as each of its parts is looked up.
const pathBytes = 1 << 10

// readBounded reads a file of at most limit bytes.
func readBounded(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("read %s: more than %d bytes", name, limit)
	}
	return b, err
}

// Lacks is whether the process would not find a program, and where it would
// look. It needs the right to trace the process (CAP_SYS_PTRACE).
func (p *Process) Lacks(program string) (bool, string, error) {
	dir := filepath.Join(p.procfs, strconv.Itoa(p.PID))
	environ, err := readBounded(filepath.Join(dir, "environ"), environBytes)
	if err != nil {
		return false, "", err
	}
	path := usualPath
	for _, one := range bytes.Split(environ, []byte{0}) {
		if value, ok := strings.CutPrefix(string(one), "PATH="); ok {
			path = value
		}
	}
	if len(path) > pathBytes {
		return false, "", fmt.Errorf("PATH of process %d has %d bytes, more than %d", p.PID, len(path), pathBytes)
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
