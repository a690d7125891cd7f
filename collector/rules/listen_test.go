package rules

import (
	"os/exec"
	"testing"
	"time"
)

func TestListen(t *testing.T) {
	l, err := Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		time.Sleep(time.Second)
		out, err := exec.Command("nft", "add table ip kproxy-listen; delete table ip kproxy-listen").CombinedOutput()
		t.Log(string(out), err)
	}()
	began := time.Now()
	changed, err := l.Wait()
	t.Log(changed, err, time.Since(began))
}
