package collector

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
	"github.com/kproxy-exporter/kproxy-exporter/collector/kubelog"
)

// readLogs reads on in kube-proxy's logs, and what their ends say.
func (n *Node) readLogs(context.Context) error {
	if err := n.logs.Poll(); err != nil {
		n.mu.Lock()
		n.seen.log, n.seen.before = nil, nil
		n.mu.Unlock()
		return fmt.Errorf("kube-proxy's logs: %w", err)
	}
	newest, before := n.logs.Tails()
	read := func(tail []byte) *cause.Log {
		if tail == nil {
			return nil
		}
		r := kubelog.Classify(tail)
		return &cause.Log{Class: r.Class, Line: r.Line, At: r.At}
	}
	log, older := read(newest), read(before)
	n.mu.Lock()
	defer n.mu.Unlock()
	if log != nil && log.At.After(n.seen.proxyAt) {
		n.seen.proxyAt = log.At // it was here when it wrote that
	}
	n.seen.log, n.seen.before = log, older
	return nil
}

// logLine counts a line that decides something.
func (n *Node) logLine(line []byte) {
	if class := kubelog.ClassOf(line); class != "" {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.logErrors[class]++
		n.seen.proxyAt = time.Now()
	}
}

var logErrors = family{"kproxy_log_errors_total",
	"Lines of kube-proxy's log that say what is wrong, by cause/detail, since the exporter started.",
	[]string{"node", "pattern"}}

func (n *Node) writeLogs(e *exposition) {
	n.mu.Lock()
	counts := maps.Clone(n.logErrors)
	n.mu.Unlock()
	e.beginCounter(&logErrors)
	for _, class := range slices.Sorted(maps.Keys(counts)) {
		e.sample(counts[class], n.cfg.Name, class)
	}
}
