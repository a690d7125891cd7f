package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/alecthomas/kingpin/v2"

	"github.com/kproxy-exporter/kproxy-exporter/lab/cluster"
	"github.com/kproxy-exporter/kproxy-exporter/lab/demo"
	"github.com/kproxy-exporter/kproxy-exporter/lab/exporter"
)

// binDir is where this binary and all that it starts were built.
func binDir() (string, error) {
	self, err := os.Executable()
	return filepath.Dir(self), err
}

func progress() *cluster.Progress {
	dir, err := binDir()
	if err != nil {
		dir = os.TempDir()
	}
	return cluster.NewProgress(os.Stdout, filepath.Join(dir, "timings.json"))
}

func upCommand(app *kingpin.Application, lab *string) (string, func() error) {
	cmd := app.Command("up", "Start a cluster.")
	nodes := cmd.Flag("nodes", "Number of nodes.").Default("2").Int()
	mode := cmd.Flag("mode", "kube-proxy's mode: nftables, iptables or ipvs.").Default("nftables").String()
	return cmd.FullCommand(), func() error {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		bin, err := binDir()
		if err != nil {
			return err
		}
		c, err := cluster.Up(ctx, cluster.Config{Dir: *lab, Bin: bin, Nodes: *nodes, Mode: *mode}, progress())
		if c == nil {
			return err // nothing was started
		}
		if err != nil {
			return fmt.Errorf("%w\n(what runs is left for you to look at; 'make lab-down' removes it)", err)
		}
		fmt.Printf("The cluster is up: export KUBECONFIG=%s\n", c.Kubeconfig())
		return nil
	}
}

func downCommand(app *kingpin.Application, lab *string) (string, func() error) {
	cmd := app.Command("down", "End the cluster and remove all of it.")
	return cmd.FullCommand(), func() error { return cluster.Down(*lab) }
}

func execCommand(app *kingpin.Application, lab *string) (string, func() error) {
	cmd := app.Command("exec", "Run a command in a node's namespaces: exec NODE -- CMD...")
	node := cmd.Arg("node", "n1, n2, ..., or cp for the control plane.").Required().String()
	argv := cmd.Arg("command", "Command and arguments.").Required().Strings()
	return cmd.FullCommand(), func() error {
		c, err := cluster.Open(*lab)
		if err != nil {
			return err
		}
		m, err := c.Node(*node)
		if err != nil {
			return err
		}
		return m.Exec(*argv...)
	}
}

func nodeCommand(app *kingpin.Application, lab *string) (string, func() error) {
	cmd := app.Command("add-node", "Add a node.")
	return cmd.FullCommand(), func() error {
		c, err := cluster.Open(*lab)
		if err != nil {
			return err
		}
		return c.AddNodes(context.Background(), 1)
	}
}

func installCommand(app *kingpin.Application, lab *string) (string, func() error) {
	cmd := app.Command("install", "Install both roles of the exporter from bin and deploy ('make image' first).")
	root := cmd.Flag("root", "The repository.").Default(".").String()
	args := cmd.Flag("node-arg", "An argument more for the node role, --api.interval=3s; may be repeated.").Strings()
	return cmd.FullCommand(), func() error {
		c, err := cluster.Open(*lab)
		if err != nil {
			return err
		}
		if _, _, err := exporter.Install(context.Background(), c, *root); err != nil {
			return err
		}
		return exporter.InstallNode(context.Background(), c, *root, *args...)
	}
}

func loadCommand(app *kingpin.Application, lab *string) (string, func() error) {
	cmd := app.Command("load-image", "Load the exporter's image on every node ('make image' first): kproxy.lab/kproxy-exporter:lab.")
	root := cmd.Flag("root", "The repository.").Default(".").String()
	return cmd.FullCommand(), func() error {
		c, err := cluster.Open(*lab)
		if err != nil {
			return err
		}
		return exporter.LoadImage(c, *root)
	}
}

func kubectlCommand(app *kingpin.Application, lab *string) (string, func() error) {
	cmd := app.Command("kubectl", "Run kubectl as the lab's admin: kubectl -- ARGS...")
	argv := cmd.Arg("args", "Arguments.").Strings()
	return cmd.FullCommand(), func() error {
		c, err := cluster.Open(*lab)
		if err != nil {
			return err
		}
		if err := os.Setenv("KUBECONFIG", c.Kubeconfig()); err != nil {
			return err
		}
		kube := filepath.Join(c.Bin, "kube")
		return syscall.Exec(kube, append([]string{kube, "kubectl"}, *argv...), os.Environ())
	}
}

func checkCommand(app *kingpin.Application, _ *string) (string, func() error) {
	cmd := app.Command("check", "Check that this machine can run a lab; install what apt has.")
	return cmd.FullCommand(), cluster.Preflight
}

func demoCommand(app *kingpin.Application, lab *string) (string, func() error) {
	cmd := app.Command("demo", "Break kube-proxy in several ways and show which alert says what.")
	mode := cmd.Flag("mode", "kube-proxy's mode.").Default("nftables").String()
	root := cmd.Flag("root", "The repository.").Default(".").String()
	rules := cmd.Flag("rules", "The mixin's rules, rendered with short times.").Required().String()
	keep := cmd.Flag("keep", "Leave everything running.").Envar("DEMO_KEEP").Bool()
	picture := cmd.Flag("picture", "Draw what was printed as SVG into this file.").Envar("DEMO_PICTURE").String()
	return cmd.FullCommand(), func() error {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		bin, err := binDir()
		if err != nil {
			return err
		}
		return demo.Run(ctx, demo.Config{
			Config: cluster.Config{Dir: *lab, Bin: bin, Nodes: 2, Mode: *mode},
			Root:   *root, Rules: *rules, Keep: *keep, Picture: *picture,
		}, os.Stdout, progress())
	}
}
