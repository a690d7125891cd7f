package cluster

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestRequireAtOnce installs a program from several tests at once, while another
// apt-get has the lock at first: each waits, and it is installed once.
func TestRequireAtOnce(t *testing.T) {
	dir := t.TempDir()
	script := `#!/bin/sh
cd ` + dir + `
[ -e locked ] || { touch locked; echo "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 1 (apt-get)"; exit 100; }
echo "$1" >>calls
[ "$1" != install ] || { printf '#!/bin/sh\n' >kproxy-lab-program; chmod +x kproxy-lab-program; }
`
	if err := os.WriteFile(filepath.Join(dir, "apt-get"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := Require(Program{"kproxy-lab-program", "package"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	calls, err := os.ReadFile(filepath.Join(dir, "calls"))
	if err != nil || string(calls) != "update\ninstall\n" {
		t.Errorf("apt-get was called for %q, %v", strings.Fields(string(calls)), err)
	}
}
