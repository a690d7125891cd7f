package machine

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// hierarchy is one mounted cgroup tree: the only one with cgroup v2, one per
// controller with v1.
type hierarchy struct {
	path string
	v2   bool
	// options are the mount's controller options, v1 only.
	options string
}

// hierarchies reads the cgroup mounts that this process sees. In a hybrid
// set-up the controllers are on v1 and the v2 tree has none: it is left out.
func hierarchies() ([]hierarchy, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var v1, v2 []hierarchy
	sc := bufio.NewScanner(bytes.NewReader(b))
	for sc.Scan() {
		left, right, ok := strings.Cut(sc.Text(), " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if !ok || len(l) < 5 || len(r) < 3 {
			continue
		}
		switch r[0] {
		case "cgroup":
			v1 = append(v1, hierarchy{path: l[4], options: controllerOptions(r[2])})
		case "cgroup2":
			v2 = append(v2, hierarchy{path: l[4], v2: true})
		}
	}
	if len(v1) > 0 {
		return v1, nil
	}
	if len(v2) > 0 {
		return v2[:1], nil
	}
	return nil, errors.New("no cgroup file system is mounted; mount one at /sys/fs/cgroup")
}

func controllerOptions(super string) string {
	var keep []string
	for _, o := range strings.Split(super, ",") {
		switch {
		case o == "rw", o == "ro", o == "xattr", strings.HasPrefix(o, "release_agent="):
		case strings.HasPrefix(o, "name="):
			keep = append(keep, "none", o)
		default:
			keep = append(keep, o)
		}
	}
	return strings.Join(keep, ",")
}

func cgroupDir(lab, name string) string { return filepath.Join("kproxy-lab-"+lab, name) }

// enterCgroups makes the machine's cgroup in every hierarchy and moves pid into it.
func enterCgroups(spec Spec, pid int) error {
	hs, err := hierarchies()
	if err != nil {
		return err
	}
	for _, h := range hs {
		dir := filepath.Join(h.path, cgroupDir(spec.Lab, spec.Name))
		if h.v2 {
			delegate(h.path)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("cgroup of %s: %w", spec.Name, err)
		}
		if h.v2 {
			delegate(filepath.Dir(dir))
		}
		if slices.Contains(strings.Split(h.options, ","), "cpuset") {
			// A new cpuset is empty and takes no process.
			for _, d := range []string{filepath.Dir(dir), dir} {
				for _, f := range []string{"cpuset.cpus", "cpuset.mems"} {
					if err := copyFile(filepath.Join(filepath.Dir(d), f), filepath.Join(d, f)); err != nil {
						return fmt.Errorf("cgroup of %s: %w", spec.Name, err)
					}
				}
			}
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644); err != nil {
			return fmt.Errorf("cgroup of %s: %w", spec.Name, err)
		}
	}
	return nil
}

// delegate lets the children of a v2 cgroup have its controllers. One by one:
// a controller that cannot be had must not cost the others.
func delegate(dir string) {
	b, _ := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	for _, c := range strings.Fields(string(b)) {
		_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+c), 0o644)
	}
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o644)
}

// cgroupProcs lists the processes of a machine, or of the whole lab if name is empty.
func cgroupProcs(lab, name string) []int {
	hs, err := hierarchies()
	if err != nil {
		return nil
	}
	var pids []int
	for _, h := range hs {
		_ = filepath.WalkDir(filepath.Join(h.path, cgroupDir(lab, name)), func(p string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return nil //nolint:nilerr // a cgroup that went away has no processes
			}
			b, _ := os.ReadFile(filepath.Join(p, "cgroup.procs"))
			for _, f := range strings.Fields(string(b)) {
				if pid, err := strconv.Atoi(f); err == nil && pid > 0 && !slices.Contains(pids, pid) {
					pids = append(pids, pid)
				}
			}
			return nil
		})
	}
	return pids
}

// removeCgroups removes the empty cgroups of a machine or lab, leaves first.
func removeCgroups(lab, name string) error {
	hs, err := hierarchies()
	if err != nil {
		return err
	}
	for _, h := range hs {
		root := filepath.Join(h.path, cgroupDir(lab, name))
		// The kernel lets go of a cgroup a moment after its last process.
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			var dirs []string
			_ = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
				if err == nil && d.IsDir() {
					dirs = append(dirs, p)
				}
				return nil
			})
			var last error
			for _, d := range slices.Backward(dirs) {
				if err := os.Remove(d); err != nil {
					last = err
				}
			}
			if last == nil {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("remove cgroup: %w", last)
			}
		}
	}
	return nil
}

// mountCgroups mounts the machine's own view of the cgroups, rooted where it stands.
func mountCgroups(hs []hierarchy, root string) error {
	base := filepath.Join(root, "sys/fs/cgroup")
	if hs[0].v2 {
		if err := mount("cgroup2", base, "cgroup2", 0, ""); err != nil {
			return err
		}
		// No process may stay in a cgroup that shares its controllers out.
		init := filepath.Join(base, "init")
		if err := os.MkdirAll(init, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(init, "cgroup.procs"), []byte("1"), 0o644); err != nil {
			return err
		}
		delegate(base)
		return nil
	}
	if err := mount("tmpfs", base, "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	for _, h := range hs {
		dir := filepath.Join(base, filepath.Base(h.path))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := mount("cgroup", dir, "cgroup", 0, h.options); err != nil {
			return err
		}
	}
	return nil
}
