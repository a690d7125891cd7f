package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/alecthomas/kingpin/v2"

	"github.com/kproxy-exporter/kproxy-exporter/lab/cluster"
	"github.com/kproxy-exporter/kproxy-exporter/lab/fault"
)

// faultCommand is the parent of the fault commands.
func faultCommand(app *kingpin.Application) *kingpin.CmdClause {
	if c := app.GetCommand("fault"); c != nil {
		return c
	}
	return app.Command("fault", "Break kube-proxy on a node, and heal it.")
}

func listCommand(app *kingpin.Application, _ *string) (string, func() error) {
	cmd := faultCommand(app).Command("list", "List the faults.")
	return cmd.FullCommand(), func() error {
		w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
		fmt.Fprintln(w, "FAULT\tCAUSE\tMODES\tWHAT IT BREAKS")
		for _, f := range fault.All {
			modes := "all"
			if len(f.Modes) > 0 {
				modes = strings.Join(f.Modes, ",")
			}
			says := f.Cause + "/" + f.Detail
			if f.Cause == "" {
				says = f.OnNode + " (node role)"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", f.Name, says, modes, f.Breaks)
		}
		return w.Flush()
	}
}

func injectCommand(app *kingpin.Application, lab *string) (string, func() error) {
	cmd := faultCommand(app).Command("inject", "Break a node.")
	name := cmd.Arg("name", "The fault; see list.").Required().String()
	node := cmd.Flag("node", "The node.").Default("n1").String()
	return cmd.FullCommand(), func() error {
		f, err := fault.Find(*name)
		if err != nil {
			return err
		}
		c, err := cluster.Open(*lab)
		if err != nil {
			return err
		}
		if !f.Applies(c.Mode) {
			return fmt.Errorf("%s applies in mode %s only; the lab runs %s", f.Name, strings.Join(f.Modes, ", "), c.Mode)
		}
		return f.Inject(context.Background(), c, *node)
	}
}

func healCommand(app *kingpin.Application, lab *string) (string, func() error) {
	cmd := faultCommand(app).Command("heal", "Take every fault of a node back.")
	node := cmd.Flag("node", "The node.").Default("n1").String()
	return cmd.FullCommand(), func() error {
		c, err := cluster.Open(*lab)
		if err != nil {
			return err
		}
		return fault.HealAll(context.Background(), c, *node)
	}
}
