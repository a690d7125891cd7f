// Command kproxy-exporter says why kube-proxy does not do its job, per node,
// as Prometheus metrics.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/go-kit/log/level"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web/kingpinflag"
	"k8s.io/klog/v2"
)

func main() {
	app := kingpin.New("kproxy-exporter", "Says why kube-proxy does not do its job, per node, as Prometheus metrics.")
	app.Version(version.Print("kproxy-exporter"))
	app.HelpFlag.Short('h')
	var cfg config
	app.Flag("kubeconfig", "Path of a kubeconfig; in a pod without it the service account is used.").Envar("KUBECONFIG").StringVar(&cfg.kubeconfig)
	app.Flag("log.level", "Only log messages of this severity or above: debug, info, warn, error.").Default("info").EnumVar(&cfg.logLevel, "debug", "info", "warn", "error")
	app.Flag("log.format", "Format of log messages: logfmt or json.").Default("logfmt").EnumVar(&cfg.logFormat, "logfmt", "json")
	cfg.web = kingpinflag.AddFlags(app, ":19249")

	cluster := app.Command("cluster", "Watch the whole cluster through the API (a Deployment; no privileges).")
	cluster.Flag("kube-proxy.namespace", "Namespace of kube-proxy's DaemonSet and pods.").Default("kube-system").StringVar(&cfg.namespace)
	cluster.Flag("kube-proxy.selector", "Label selector of kube-proxy's pods; may be repeated, any may match.").
		Default("k8s-app=kube-proxy", "component=kube-proxy,k8s-app!=kube-proxy").StringsVar(&cfg.selectors)
	cluster.Flag("api.stale-after", "How long the API server may not answer before what it said counts as unknown.").
		Default("1m").DurationVar(&cfg.staleAfter)

	if _, err := app.Parse(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "kproxy-exporter: %v; try --help\n", err)
		os.Exit(2)
	}
	if cfg.staleAfter < time.Second {
		fmt.Fprintf(os.Stderr, "kproxy-exporter: --api.stale-after is %s; it must be at least 1s\n", cfg.staleAfter)
		os.Exit(2)
	}
	logs := newLogs(os.Stderr, cfg.logLevel, cfg.logFormat)
	klog.SetLogger(logs.klog) // process-wide, so here and nowhere else

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, cfg, logs); err != nil {
		level.Error(logs.logger).Log("msg", "stopped", "err", err)
		os.Exit(1)
	}
}
