// Package audit holds the rule audit against reality: random Services that the
// real kube-proxy programs, random changes of the kernel's rules, and packets
// that the kernel really sends. The audit itself is collector/audit.
package audit

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Namespace is a network namespace that lives as long as its file is open.
type Namespace struct{ file *os.File }

// NamespaceOf is that of a process.
func NamespaceOf(pid int) (*Namespace, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	return &Namespace{f}, err
}

// NewNamespace makes an empty one.
func NewNamespace() (*Namespace, error) {
	n := &Namespace{}
	err := apart(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		n.file, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	return n, err
}

// Close lets it go.
func (n *Namespace) Close() { _ = n.file.Close() }

// Do runs something in it; programs that it starts run there too.
func (n *Namespace) Do(do func() error) error {
	return apart(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter a network namespace: %w", err)
		}
		return do()
	})
}

// apart runs something on a thread of its own that ends with it.
func apart(do func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends
		done <- do()
	}()
	return <-done
}
