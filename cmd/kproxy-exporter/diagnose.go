package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/collector"
)

// What diagnose ends with.
const (
	exitHealthy = iota
	exitCause
	exitUnknown
)

const (
	// readWithin is how long a live cluster may take to be read once.
	readWithin = 30 * time.Second
	// settleWithin is how long a node may be unwell without a cause: a pod that
	// is missing may be on its way, and a log takes a moment.
	settleWithin = 40 * time.Second
)

// diagnoseConfig is what only diagnose needs.
type diagnoseConfig struct {
	node, dump, output string
	// nodeNamespace and nodeSelector say where the node role's pods are.
	nodeNamespace, nodeSelector string
}

// diagnose judges once, for a person, and returns the process's exit code.
func diagnose(ctx context.Context, cfg config, l logs, out, errOut io.Writer) int {
	errOut = printer{errOut, questionMark}
	var report collector.Report
	var err error
	if cfg.diagnose.dump != "" {
		report, err = readDump(ctx, cfg, errOut)
	} else {
		if report, err = readLive(ctx, cfg, l, errOut); err == nil {
			askNodes(ctx, cfg, report, errOut)
		}
	}
	if err == nil {
		report, err = only(report, cfg.diagnose.node)
	}
	for i := range report.Nodes { // a dump may have any name
		report.Nodes[i].Node = strings.ReplaceAll(report.Nodes[i].Node, "\n", "?")
	}
	if err != nil {
		fmt.Fprintf(errOut, "kproxy-exporter: could not tell: %v\n", err)
		return exitUnknown
	}
	if cfg.diagnose.output == "json" {
		encoder := json.NewEncoder(printer{out, jsonEscape})
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		err = encoder.Encode(report)
	} else {
		_, err = io.WriteString(printer{out, questionMark}, table(report))
	}
	if err != nil {
		fmt.Fprintf(errOut, "kproxy-exporter: write the answer: %v\n", err)
		return exitUnknown
	}
	code, why := verdict(report)
	if why != "" {
		fmt.Fprintf(errOut, "kproxy-exporter: could not tell: %s\n", why)
	}
	return code
}

// readDump reads a dump, and stops waiting for it when the context ends: it may be
// on a file system that hangs.
func readDump(ctx context.Context, cfg config, errOut io.Writer) (collector.Report, error) {
	type result struct {
		dump *collector.Dump
		err  error
	}
	read := make(chan result, 1)
	go func() {
		files, err := collector.DumpFiles(cfg.diagnose.dump)
		if err != nil {
			read <- result{err: err}
			return
		}
		defer files.Close()
		d, err := collector.OpenDump(files, cfg.namespace, cfg.selectors)
		read <- result{d, err}
	}()
	select {
	case <-ctx.Done():
		return collector.Report{}, errors.New("interrupted")
	case r := <-read:
		if r.err != nil {
			return collector.Report{}, r.err
		}
		for _, p := range r.dump.Problems {
			fmt.Fprintf(errOut, "not read: %s\n", strings.ReplaceAll(p, "\n", " "))
		}
		return r.dump.Report(), nil
	}
}

// readLive reads a cluster until every node has an answer, or a while.
func readLive(ctx context.Context, cfg config, l logs, errOut io.Writer) (collector.Report, error) {
	client, err := newClient(cfg)
	if err != nil {
		return collector.Report{}, err
	}
	cluster, err := newCluster(client, cfg, l)
	if err != nil {
		return collector.Report{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { cluster.Run(ctx); close(done) }()
	defer func() { cancel(); <-done }()
	began, told := time.Now(), false
	for tick := time.NewTicker(100 * time.Millisecond); ; {
		report := cluster.Report()
		ready, lacks := cluster.Ready()
		switch {
		case ready && settled(report):
			return report, nil
		case ready && time.Since(began) > settleWithin, !ready && time.Since(began) > readWithin:
			if len(report.Nodes) > 0 {
				return report, nil
			}
			return report, fmt.Errorf("%s could not be read within %s", lacks, readWithin)
		case ready && !told && time.Since(began) > time.Second:
			told = true
			fmt.Fprintf(errOut, "a pod is missing or not well without a cause yet: watching for up to %s\n", settleWithin)
		}
		select {
		case <-ctx.Done():
			return report, errors.New("interrupted")
		case <-tick.C:
		}
	}
}

// settled is whether no node is unwell without a cause.
func settled(r collector.Report) bool {
	for _, n := range r.Nodes {
		if n.NotFound != "" && !n.Pending {
			continue // waiting finds nothing more
		}
		if state := n.State(); n.Pending || state == collector.StateUnknown || state == collector.StateUnwell {
			return false
		}
	}
	return true
}

func only(r collector.Report, node string) (collector.Report, error) {
	if node == "" {
		return r, nil
	}
	var names []string
	for _, n := range r.Nodes {
		if n.Node == node {
			return collector.Report{Nodes: []collector.NodeReport{n}}, nil
		}
		names = append(names, strings.ReplaceAll(n.Node, "\n", "?"))
	}
	return r, fmt.Errorf("there is no node %q; there are: %s", node, strings.Join(names, ", "))
}

// verdict is the exit code and, if it could not tell, why.
func verdict(r collector.Report) (code int, why string) {
	var blind []string
	for _, n := range r.Nodes {
		switch n.State() {
		case collector.StateSick:
			code = exitCause
		case collector.StateUnknown, collector.StateUnwell:
			blind = append(blind, n.Node)
		}
	}
	switch {
	case code == exitCause:
		return code, ""
	case len(r.Nodes) == 0:
		return exitUnknown, "no node is known"
	case len(blind) > 0:
		return exitUnknown, "nothing says why, or whether, kube-proxy is not well on " + strings.Join(blind, ", ")
	}
	return exitHealthy, ""
}

// table is the answer for a person at night: the verdict first, then what
// proves it, then what to do; those that are well on one line.
func table(r collector.Report) string {
	var b strings.Builder
	by := map[string][]string{}
	for _, n := range r.Nodes {
		by[n.State()] = append(by[n.State()], n.Node)
	}
	fmt.Fprintf(&b, "%d of %d nodes have a cause.\n", len(by[collector.StateSick]), len(r.Nodes))
	for _, n := range r.Nodes {
		if n.Primary == nil {
			continue
		}
		fmt.Fprintf(&b, "\n%s: %s / %s%s\n", n.Node, n.Primary.Cause, n.Primary.Detail, since(n.Primary.Since))
		for _, e := range n.Primary.Evidence {
			fmt.Fprintf(&b, "    %s\n", strings.ReplaceAll(e, "\n", "\n      "))
		}
		fmt.Fprintf(&b, "  What to do: %s\n", n.Primary.Action)
		for _, c := range n.Causes {
			if c.Cause == n.Primary.Cause && c.Detail == n.Primary.Detail {
				continue
			}
			fmt.Fprintf(&b, "  Also: %s / %s%s\n", c.Cause, c.Detail, since(c.Since))
			for _, e := range c.Evidence {
				fmt.Fprintf(&b, "    %s\n", strings.ReplaceAll(e, "\n", "\n      "))
			}
		}
	}
	b.WriteString("\n")
	for _, group := range []struct{ state, says string }{
		{collector.StateUnwell, "Not well, no cause known"}, {collector.StateUnknown, "Could not tell"},
		{collector.StateHealthy, "No cause found"}, {collector.StateAbsent, "kube-proxy is not expected"},
	} {
		if names := by[group.state]; len(names) > 0 {
			fmt.Fprintf(&b, "%s: %s\n", group.says, shorten(names))
		}
	}
	if i := slices.IndexFunc(r.Nodes, func(n collector.NodeReport) bool { return n.NotFound != "" }); i >= 0 {
		fmt.Fprintf(&b, "No kube-proxy pod or DaemonSet was found in %s (--kube-proxy.namespace, --kube-proxy.selector),\nand no ConfigMap kube-proxy, nor a program that replaces it.\n", r.Nodes[i].NotFound)
	}
	return b.String()
}

func since(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " since " + t.UTC().Format(time.RFC3339)
}

func shorten(names []string) string {
	const most = 20
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}
