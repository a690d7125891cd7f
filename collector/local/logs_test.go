package local

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// written is a node's /var/log/pods, and the lines that were told of it.
type written struct {
	t     testing.TB
	dir   string
	logs  *Logs
	lines []string
}

const container = "kube-system_kube-proxy-abc_uid/kube-proxy"

func newWritten(t testing.TB) *written {
	t.Helper()
	w := &written{t: t, dir: t.TempDir()}
	w.logs = NewLogs(w.dir, "kube-system", func(b []byte) { w.lines = append(w.lines, string(b)) })
	t.Cleanup(w.logs.Close)
	return w
}

func (w *written) add(name, text string) {
	w.t.Helper()
	p := filepath.Join(w.dir, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		w.t.Fatal(err)
	}
	f, err := os.OpenFile(p, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		w.t.Fatal(err)
	}
}

func (w *written) poll() {
	w.t.Helper()
	if err := w.logs.Poll(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *written) want(what string, lines ...string) {
	w.t.Helper()
	if !slices.Equal(w.lines, lines) {
		w.t.Errorf("%s: got %q, want %q", what, w.lines, lines)
	}
	w.lines = nil
}

func TestLogs(t *testing.T) {
	w := newWritten(t)
	log := func(n int) string { return fmt.Sprintf("%s/%d.log", container, n) }
	w.add(log(0), "before 1\nbefore 2\nhal")
	w.poll()
	w.want("what was there is not new")
	if newest, before := w.logs.Tails(); string(newest) != "before 1\nbefore 2\nhal" || before != nil {
		t.Errorf("tails %q, %q", newest, before)
	}
	w.add(log(0), "f\none\ntw")
	w.poll()
	w.want("a line that was begun, a whole one, and the beginning of another", "half", "one")
	w.add(log(0), "o\n")
	w.poll()
	w.poll()
	w.want("its end, once", "two")

	// The kubelet moves the file away; what is written before the runtime follows
	// goes into the old one.
	w.add(log(0), "last\n")
	rotated := filepath.Join(w.dir, log(0)+".20261123-100000")
	if err := os.Rename(filepath.Join(w.dir, log(0)), rotated); err != nil {
		t.Fatal(err)
	}
	w.add(log(0)+".20261123-100000", "late\n")
	w.add(log(0), "first of the new\n")
	w.poll()
	slices.Sort(w.lines)
	w.want("over a rotation", "first of the new", "last", "late")
	if err := os.Remove(rotated); err != nil {
		t.Fatal(err)
	}
	w.poll()
	w.want("the rotated one is removed")

	w.add(log(1), "after a restart\n")
	w.poll()
	w.want("a restart", "after a restart")
	if newest, before := w.logs.Tails(); string(newest) != "after a restart\n" || string(before) != "first of the new\n" {
		t.Errorf("tails %q, %q", newest, before)
	}
	w.add(log(2), "2\n")
	w.add(log(10), "10\n")
	if err := os.Remove(filepath.Join(w.dir, log(0))); err != nil {
		t.Fatal(err)
	}
	w.poll()
	slices.Sort(w.lines)
	w.want("the newest two by number, not by name", "10", "2")
	if len(w.logs.files) != 2 {
		t.Errorf("%d files are held open", len(w.logs.files))
	}

	if err := os.WriteFile(filepath.Join(w.dir, log(10)), []byte("x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.poll() // as long as what was read before, minus one
	w.want("written anew, and shorter", "x")
	w.add(log(10), strings.Repeat("y", 3*lineBytes)+"\nz\n")
	w.poll()
	if len(w.lines) != 2 || len(w.lines[0]) != lineBytes || w.lines[1] != "z" {
		t.Errorf("a long line: %d lines", len(w.lines))
	}
	if newest, _ := w.logs.Tails(); len(newest) > tailBytes {
		t.Errorf("%d bytes are kept", len(newest))
	}

	const rolledOut = "kube-system_kube-proxy-def_uid2/kube-proxy/0.log"
	w.add(rolledOut, "another pod\n")
	later := time.Now().Add(time.Second)
	if err := os.Chtimes(filepath.Join(w.dir, rolledOut), later, later); err != nil {
		t.Fatal(err)
	}
	w.poll()
	if newest, before := w.logs.Tails(); string(newest) != "another pod\n" || before != nil {
		t.Errorf("another pod's log is taken for that of the same, started again: %q %q", newest, before)
	}
	if err := os.RemoveAll(filepath.Join(w.dir, filepath.Dir(filepath.Dir(rolledOut)))); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(w.dir, filepath.Dir(container))); err != nil {
		t.Fatal(err)
	}
	w.poll()
	if newest, before := w.logs.Tails(); newest != nil || before != nil || len(w.logs.files) != 0 {
		t.Errorf("the pod has gone: %q %q, %d open", newest, before, len(w.logs.files))
	}
}

func TestLogsOfOthers(t *testing.T) {
	w := newWritten(t)
	w.poll()
	for _, name := range []string{
		"kube-system_coredns-x_uid/coredns/0.log", "kube-system_kube-proxy-x_uid/side-car/0.log", "kube-proxy/kube-proxy/0.log", "evil_kube-proxy-abc_uid/kube-proxy/0.log",
		container + "/0.log.gz", container + "/x.log", container + "/-1.log", container + "/0.txt",
	} {
		w.add(name, "line\n")
	}
	if err := os.MkdirAll(filepath.Join(w.dir, container, "3.log"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := w.logs.Poll(); err == nil {
		t.Error("a directory in place of a log is no error")
	}
	w.want("none of these")
	if NewLogs(filepath.Join(w.dir, "none"), "kube-system", nil).Poll() == nil {
		t.Error("no directory, no error")
	}
}

// However what is written is cut into pieces, each line is told once and whole.
func FuzzLogs(f *testing.F) {
	f.Add([]byte("one\ntwo\n\nthree"), []byte{1, 5, 2}, uint8(2))
	f.Fuzz(func(t *testing.T, text, cuts []byte, rotate uint8) {
		text, cuts = text[:min(len(text), lineBytes)], cuts[:min(len(cuts), 50)]
		w := newWritten(t)
		w.poll()
		rest := text
		for i, c := range cuts {
			n := min(int(c), len(rest))
			w.add(container+"/0.log", string(rest[:n]))
			rest = rest[n:]
			w.poll()
			if i == int(rotate) && bytes.HasSuffix(text[:len(text)-len(rest)], []byte("\n")) {
				if err := os.Rename(filepath.Join(w.dir, container, "0.log"), filepath.Join(w.dir, container, "0.log.1")); err != nil {
					t.Fatal(err)
				}
			}
		}
		w.add(container+"/0.log", string(rest))
		w.poll()
		whole := bytes.Split(text, []byte("\n"))
		whole = whole[:len(whole)-1]
		if len(w.lines) != len(whole) {
			t.Fatalf("%d lines of %d: %q", len(w.lines), len(whole), w.lines)
		}
		for i, line := range whole {
			if w.lines[i] != string(line) {
				t.Errorf("line %d is %q, was %q", i, w.lines[i], line)
			}
		}
	})
}
