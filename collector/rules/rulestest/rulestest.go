// Package rulestest gives tests a kernel's rules of their own.
package rulestest

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// InNamespace runs do on a thread in a new network namespace, and ends after it.
// Without root nothing runs, and the test says so.
func InNamespace(t *testing.T, do func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: it needs root for a network namespace; nothing of the kernel was tested")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
			return
		}
		do()
	}()
	<-done
}

// Load gives rules to a program such as iptables-nft-restore, in the namespace of
// the calling thread. It fails the test, and says false, if the program fails.
func Load(t *testing.T, text string, program ...string) bool {
	t.Helper()
	c := exec.CommandContext(t.Context(), program[0], program[1:]...)
	c.Stdin = strings.NewReader(text)
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v: %v: %s", program, err, out)
		return false
	}
	return true
}
