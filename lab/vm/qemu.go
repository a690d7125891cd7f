package vm

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// start starts qemu. The kernel ends it with the thread that started it, which
// is held until it has ended: it cannot outlive this process.
func (v *VM) start(kernel, initrd string) error {
	nic := "user,id=n,ipv6=off"
	for guest, host := range v.forwards {
		nic += fmt.Sprintf(",hostfwd=tcp:%s-%s:%d", host, GuestIP, guest)
	}
	cmd := exec.Command("qemu-system-x86_64",
		// Not kvm: it may be there and hang. What was translated may take a whole
		// gigabyte more; a quarter of it will do.
		"-accel", "tcg,tb-size=256",
		"-cpu", "qemu64,+rdrand", // else the guest has no random numbers for seconds
		"-m", strconv.Itoa(v.MemoryMB),
		"-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 quiet panic=-1",
		"-nodefaults", "-display", "none", "-no-reboot", "-serial", "file:"+v.consoleLog(),
		"-netdev", nic, "-device", "virtio-net-pci,netdev=n,romfile=",
	)
	log, err := os.Create(v.qemuLog())
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			close(v.ended)
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start qemu: %w", err)
	}
	v.process = cmd.Process
	return nil
}

func (v *VM) consoleLog() string { return filepath.Join(v.Dir, "console.log") }

func (v *VM) qemuLog() string { return filepath.Join(v.Dir, "qemu.log") }

// awaitAgent asks until it answers. qemu accepts for the guest before there is
// one, so each question has a short end.
func (v *VM) awaitAgent(ctx context.Context) error {
	client := http.Client{Timeout: 300 * time.Millisecond}
	for {
		res, err := client.Get("http://" + v.Forward(agentPort) + "/ready")
		if err == nil {
			res.Body.Close()
			return nil
		}
		select {
		case <-v.ended:
			return v.describe(errors.New("it ended while it started"))
		case <-ctx.Done():
			return v.describe(fmt.Errorf("it does not answer: %w", ctx.Err()))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// describe adds to an error of the machine what it said last.
func (v *VM) describe(err error) error {
	said := ""
	for _, name := range []string{v.qemuLog(), v.consoleLog()} {
		b, _ := os.ReadFile(name)
		lines := strings.Split(strings.TrimSpace(string(b)), "\n")
		said += strings.Join(lines[max(0, len(lines)-10):], "\n") + "\n"
	}
	return fmt.Errorf("virtual machine %s: %w; its last words:\n%s", v.Name, err, strings.TrimSpace(said))
}
