package main

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"golang.org/x/sync/errgroup"

	"github.com/kproxy-exporter/kproxy-exporter/lab/bench"
	"github.com/kproxy-exporter/kproxy-exporter/lab/cluster"
)

func benchCommand(app *kingpin.Application, lab *string) (string, func() error) {
	cmd := app.Command("bench", "Measure what the exporter costs: the node role idle, and the cluster role on a large cluster, beside kube-state-metrics.")
	root := cmd.Flag("root", "The repository.").Default(".").String()
	nodes := cmd.Flag("nodes", "Nodes to pretend, each with a kube-proxy pod; 0 measures the node role alone.").Default("5000").Int()
	pods := cmd.Flag("pods", "Other pods to pretend.").Default("10000").Int()
	skipIdle := cmd.Flag("skip-idle", "Leave out what the node role takes while nothing happens.").Bool()
	skipProbes := cmd.Flag("skip-probes", "Leave out what probes take.").Bool()
	services := cmd.Flag("services", "Services of ten endpoints to make for the rule audit; 0 leaves it out.").Default("10000").Int()
	mode := cmd.Flag("mode", "kube-proxy's mode.").Default("nftables").Enum("nftables", "iptables")
	return cmd.FullCommand(), func() error {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		bin, err := binDir()
		if err != nil {
			return err
		}
		return bench.Run(ctx, bench.Config{
			Config: cluster.Config{Dir: *lab, Bin: bin, Mode: *mode},
			Root:   *root, Scale: bench.Scale{Nodes: *nodes, Pods: *pods}, SkipIdle: *skipIdle, SkipProbes: *skipProbes, Services: *services,
		}, os.Stdout, progress())
	}
}

// fillCommand is for who wants to look at a large cluster for longer than the benchmark does.
func fillCommand(app *kingpin.Application, lab *string) (string, func() error) {
	cmd := app.Command("fill", "Make Services of ten endpoints each, which nobody answers at.")
	services := cmd.Flag("services", "How many.").Default("10000").Int()
	churn := cmd.Flag("churn", "Make none, but change an endpoint of those that are there each second until interrupted.").Bool()
	return cmd.FullCommand(), func() error {
		c, err := cluster.Open(*lab)
		if err != nil {
			return err
		}
		if *churn {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return bench.Churn(ctx, c, *services)
		}
		return progress().Step("make Services", func() error { return bench.Fill(context.Background(), c, *services) })
	}
}

// scrapeCommand runs inside a machine.
func scrapeCommand(app *kingpin.Application, _ *string) (string, func() error) {
	cmd := app.Command("scrape", "Scrape a page once and print its time and size (the benchmark runs it).").Hidden()
	prefix := cmd.Flag("prefix", "Count the lines that begin so.").String()
	holds := cmd.Flag("holds", "Of them only those that hold this; may be repeated.").Strings()
	url := cmd.Arg("url", "The page.").Required().String()
	return cmd.FullCommand(), func() error {
		s, err := bench.Scrape(*url, *prefix, *holds)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(s)
	}
}

// dialCommand runs inside a machine.
func dialCommand(app *kingpin.Application, _ *string) (string, func() error) {
	cmd := app.Command("dial", "Connect and close, and print what it cost (the benchmark runs it).").Hidden()
	count := cmd.Flag("count", "How many times.").Required().Int()
	every := cmd.Flag("every", "How often.").Required().Duration()
	get := cmd.Flag("get", "Ask for the page at its root, and read the answer.").Bool()
	address := cmd.Arg("address", "Where.").Required().String()
	return cmd.FullCommand(), func() error {
		d, err := bench.Dial(*address, *count, *every, *get)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(d)
	}
}

// answerCommand answers every request with 200, as a kube-proxy that is well.
func answerCommand(app *kingpin.Application, _ *string) (string, func() error) {
	cmd := app.Command("answer", "Answer as a kube-proxy that is well (the benchmark runs it).").Hidden()
	listen := cmd.Flag("listen", "Address to listen on.").Required().Strings()
	late := cmd.Flag("late", "How long an answer takes.").Duration()
	return cmd.FullCommand(), func() error {
		var g errgroup.Group
		for _, address := range *listen {
			g.Go(func() error {
				return http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					time.Sleep(*late)
					w.WriteHeader(http.StatusOK)
				}))
			})
		}
		return g.Wait()
	}
}
