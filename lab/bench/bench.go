// Package bench measures what the exporter costs, beside a peer or a limit in
// the same run, against the lab's real API server. Figures of one run compare
// with each other and with nothing else: machines differ, and so do moments.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/kproxy-exporter/kproxy-exporter/lab/cluster"
)

// Config is what a benchmark needs beside a lab.
type Config struct {
	cluster.Config
	// Root is the repository: the exporter's binary and manifest are in it.
	Root string
	// Scale is the size of the cluster that is pretended.
	Scale Scale
	// SkipIdle leaves out what the node role takes while nothing happens.
	SkipIdle bool
	// SkipProbes leaves out what probes take.
	SkipProbes bool
	// Services is how many the rule audit is measured with; 0 leaves it out.
	Services int
}

// figure is a line of the table: what was measured, and what it may be.
type figure struct {
	what string
	unit string
	ours float64
	// peer is what the peer or the limit took; 0 if there is none.
	peer float64
	// budget is the largest ours/peer that is allowed; 0 if there is none.
	budget float64
}

// print prints the table; an error names what is over its budget.
func print(out io.Writer, peer string, figures []figure) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintf(w, "WHAT\tkproxy-exporter\t%s\tRATIO\tBUDGET\n", peer)
	var over []error
	for _, f := range figures {
		theirs, ratio, budget := "-", "-", "-"
		if f.peer > 0 {
			theirs, ratio = fmt.Sprintf("%.4g %s", f.peer, f.unit), fmt.Sprintf("%.3f", f.ours/f.peer)
		}
		if f.budget > 0 {
			budget = fmt.Sprintf("<= %.3g", f.budget)
			if f.ours > f.budget*f.peer {
				budget += " OVER"
				over = append(over, fmt.Errorf("%s is over its budget", f.what))
			}
		}
		fmt.Fprintf(w, "%s\t%.4g %s\t%s\t%s\t%s\n", f.what, f.ours, f.unit, theirs, ratio, budget)
	}
	return errors.Join(w.Flush(), errors.Join(over...))
}

// Run brings a lab up, measures, prints and takes the lab down.
func Run(ctx context.Context, cfg Config, out io.Writer, p *cluster.Progress) (err error) {
	cfg.Nodes = 1
	c, err := cluster.Up(ctx, cfg.Config, p)
	defer func() {
		err = errors.Join(err, p.Step("take the cluster down", func() error { return cluster.Down(cfg.Dir) }))
	}()
	if err != nil {
		return err
	}
	if !cfg.SkipIdle {
		err = idle(ctx, c, cfg, out, p)
	}
	if !cfg.SkipProbes {
		err = errors.Join(err, probeCost(ctx, c, cfg, out, p))
	}
	if cfg.Services > 0 {
		err = errors.Join(err, auditCost(ctx, c, cfg, out, p))
	}
	if cfg.Scale.Nodes == 0 {
		return err
	}
	return errors.Join(err, scale(ctx, c, cfg, out, p))
}
