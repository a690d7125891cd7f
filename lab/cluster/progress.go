package cluster

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Progress prints what happens and how long it takes, next to how long it took
// the last time.
type Progress struct {
	out  io.Writer
	file string

	mu   sync.Mutex
	last map[string]float64
}

// NewProgress prints to out and remembers durations in file across runs.
func NewProgress(out io.Writer, file string) *Progress {
	p := &Progress{out: out, file: file, last: map[string]float64{}}
	if b, err := os.ReadFile(file); err == nil {
		_ = json.Unmarshal(b, &p.last) // a broken file only means no estimate
	}
	return p
}

// Step runs do and prints when it starts, that it still runs, and its end.
func (p *Progress) Step(name string, do func() error) error {
	p.mu.Lock()
	last, known := p.last[name]
	p.mu.Unlock()
	hint := ""
	if known {
		hint = fmt.Sprintf(" (%.0fs last time)", last)
	}
	fmt.Fprintf(p.out, "  .. %s%s\n", name, hint)
	began := time.Now()
	tick := time.NewTicker(15 * time.Second)
	defer tick.Stop()
	done := make(chan error, 1)
	go func() { done <- do() }()
	for {
		select {
		case <-tick.C:
			fmt.Fprintf(p.out, "  .. %s: %.0fs%s\n", name, time.Since(began).Seconds(), hint)
		case err := <-done:
			took := time.Since(began).Seconds()
			if err != nil {
				fmt.Fprintf(p.out, "  FAILED %s after %.1fs\n", name, took)
				return err
			}
			fmt.Fprintf(p.out, "  ok %s (%.1fs)\n", name, took)
			p.remember(name, took)
			return nil
		}
	}
}

func (p *Progress) remember(name string, took float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last[name] = took
	b, err := json.Marshal(p.last)
	if err != nil || os.MkdirAll(filepath.Dir(p.file), 0o755) != nil {
		return
	}
	// Two labs may write at once: each write is whole, one of them wins.
	tmp := fmt.Sprintf("%s.%d", p.file, os.Getpid())
	if os.WriteFile(tmp, b, 0o644) == nil {
		_ = os.Rename(tmp, p.file)
	}
}
