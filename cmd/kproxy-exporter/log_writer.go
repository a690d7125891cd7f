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
	// notice is the line that says how many were lost.
	notice string
}

// logLine is what was written; or, if it is nil, a wish to hear that all before is out.
type logLine struct {
	text []byte
	out  chan struct{}
}

// waitingLines are kept while they cannot be written: as many as there are when the
// nodes of a large cluster all become sick at once.
const waitingLines = 8192

// lostNotices say in each format how many lines were lost.
var lostNotices = map[string]string{
	"logfmt": "level=warn msg=\"log lines were lost: they could not be written\" lines=%d\n",
	"json":   "{\"level\":\"warn\",\"msg\":\"log lines were lost: they could not be written\",\"lines\":%d}\n",
}

func newLineWriter(to io.Writer, format string) *lineWriter {
	w := &lineWriter{lines: make(chan logLine, waitingLines), notice: lostNotices[format]}
	go func() {
		for l := range w.lines {
			w.write(to, l)
		}
	}()
	return w
}

func (w *lineWriter) write(to io.Writer, l logLine) {
	if n := w.lost.Swap(0); n > 0 {
		if _, err := fmt.Fprintf(to, w.notice, n); err != nil {
			w.lost.Add(n)
		}
	}
	if l.out != nil {
		close(l.out)
		return
	}
	if _, err := to.Write(l.text); err != nil {
		w.lost.Add(1)
	}
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
