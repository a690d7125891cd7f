package main

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// lineWriter writes a log without ever making who logs wait: a full disk, or a pipe
// that nobody reads, must not stop a scrape. What does not fit is lost, and said so.
type lineWriter struct {
	lines chan logLine
	lost  atomic.Uint64
}

// logLine is what was written; or, if it is nil, a wish to hear that all before is out.
type logLine struct {
	text []byte
	out  chan struct{}
}

// waitingLines are kept while they cannot be written.
const waitingLines = 1024

func newLineWriter(to io.Writer) *lineWriter {
	w := &lineWriter{lines: make(chan logLine, waitingLines)}
	go func() {
		for l := range w.lines {
			if l.out != nil {
				close(l.out)
				continue
			}
			if n := w.lost.Swap(0); n > 0 {
				fmt.Fprintf(to, "level=warn msg=\"log lines were lost: they could not be written\" lines=%d\n", n)
			}
			_, _ = to.Write(l.text) // there is nobody to tell
		}
	}()
	return w
}

func (w *lineWriter) Write(p []byte) (int, error) {
	select {
	case w.lines <- logLine{text: append([]byte(nil), p...)}:
	default:
		w.lost.Add(1)
	}
	return len(p), nil
}

// flush waits until what was written is out, or for so long.
func (w *lineWriter) flush(within time.Duration) {
	timeout := time.NewTimer(within)
	defer timeout.Stop()
	out := make(chan struct{})
	select {
	case w.lines <- logLine{out: out}:
	case <-timeout.C:
		return
	}
	select {
	case <-out:
	case <-timeout.C:
	}
}
