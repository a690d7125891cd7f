// Command kproxy-exporter says why kube-proxy does not do its job, per node,
// as Prometheus metrics.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/go-kit/log/level"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web/kingpinflag"

	"github.com/kproxy-exporter/kproxy-exporter/collector"
)

// commands are the names of the commands.
type commands struct{ cluster, node, diagnose string }

// newApp declares commands and flags; what is given goes into cfg.
func newApp(cfg *config) (*kingpin.Application, commands) {
	app := kingpin.New("kproxy-exporter", "Says why kube-proxy does not do its job, per node, as Prometheus metrics.")
	app.Version(version.Print("kproxy-exporter"))
	app.HelpFlag.Short('h')
	app.Flag("kubeconfig", "Path of a kubeconfig. Default: $KUBECONFIG, else ~/.kube/config, else the service account of the pod.").StringVar(&cfg.kubeconfig)
	app.Flag("context", "Context of the kubeconfig to use. Default: its current context.").StringVar(&cfg.context)
	app.Flag("log.level", "Only log messages of this severity or above: debug, info, warn, error; diagnose logs nothing unless asked.").Default("info").IsSetByUser(&cfg.levelSet).EnumVar(&cfg.logLevel, "debug", "info", "warn", "error")
	app.Flag("log.format", "Format of log messages: logfmt or json.").Default("logfmt").EnumVar(&cfg.logFormat, "logfmt", "json")
	cfg.web = kingpinflag.AddFlags(app, ":19249")
	app.Flag("web.enable-pprof", "Serve Go's profiles at /debug/pprof/: for who looks for what the exporter itself spends.").BoolVar(&cfg.profiles)

	cluster := app.Command("cluster", "Watch the whole cluster through the API (a Deployment; no privileges).")
	wholeCluster(cluster, cfg)
	cluster.Flag("canary.interval", "How often the canary Service is moved to another responder, so that every node can see how soon its rules follow: one write of its EndpointSlice and one of a Lease each time, the only ones that the exporter makes; 0 for never. It needs deploy/canary.yaml and two nodes.").
		Default("0s").DurationVar(&cfg.canaryInterval)
	canaryService(cluster, cfg)
	node := app.Command("node", "Watch this node itself (a DaemonSet on the host's network): it needs no API server.")
	node.Flag("node-name", "The node's name, from spec.nodeName.").Envar("NODE_NAME").StringVar(&cfg.node.name)
	node.Flag("kube-proxy.namespace", "Namespace of kube-proxy's pods, whose logs are read.").Default("kube-system").StringVar(&cfg.namespace)
	node.Flag("path.procfs", "Where the node's /proc is mounted.").Default("/proc").StringVar(&cfg.node.procPath)
	node.Flag("path.rootfs", "Where the node's / is mounted.").Default("/").StringVar(&cfg.node.rootPath)
	node.Flag("api.interval", "How often the API server is asked at kube-proxy's own address; at the others a quarter as often, while all is well.").Default("30s").DurationVar(&cfg.node.apiInterval)
	node.Flag("probe.interval", "How often each Service that is probed is asked, from this node; 0 for never.").Default("15s").DurationVar(&cfg.node.probeInterval)
	node.Flag("probe.timeout", "How long an attempt may take; at most half of --probe.interval.").Default("3s").DurationVar(&cfg.node.probeTimeout)
	node.Flag("probe.service", "A Service to probe beside default/kubernetes, the cluster's DNS, and those with the annotation or label "+collector.ProbeAnnotation+
		": namespace/name=http:80; may be repeated.").PlaceHolder("NS/NAME=MODULE:PORT").StringsVar(&cfg.node.probeServices)
	node.Flag("probe-only", "Only probe Services, from the pods' network, and read nothing of the node: it needs no privilege.").BoolVar(&cfg.node.probeOnly)
	node.Flag("probe.dns-name", "What the cluster's DNS is asked for.").Default("kubernetes.default.svc.cluster.local.").StringVar(&cfg.node.probeName)
	node.Flag("responder.listen-address", "Where a small responder answers anybody with the node's name, over TCP (HTTP) and UDP (echo): the other nodes' probes ask it; empty for nowhere.").
		Default(":19250").StringVar(&cfg.node.responder)
	node.Flag("audit", "Whose rules in the kernel are compared with what the API wants: all Services', those that are probed and the exporter's own (canary), or nobody's (off). It reads and never writes.").
		Default("all").EnumVar(&cfg.node.audit, "off", "canary", "all")
	node.Flag("node-ip", "The node's addresses, from status.podIPs of a pod on the host's network: at them kube-proxy serves node ports by default in mode nftables.").Envar("NODE_IPS").StringVar(&cfg.node.ips)
	canaryService(node, cfg)
	once := app.Command("diagnose", "Judge once, for a person: exits with 0 if nothing is wrong, 1 if a cause was found, 2 if it could not tell.")
	wholeCluster(once, cfg)
	once.Flag("node", "Only this node.").StringVar(&cfg.diagnose.node)
	once.Flag("node-role.namespace", "Where the node role runs: its pods are asked what only they can see, by the API server's proxy, which takes the right to get pods/proxy; empty to ask none.").
		Default("kproxy-exporter-node").StringVar(&cfg.diagnose.nodeNamespace)
	once.Flag("node-role.selector", "Label selector of the node role's pods.").Default("app.kubernetes.io/name=kproxy-exporter-node").StringVar(&cfg.diagnose.nodeSelector)
	once.Flag("dump", "Read this directory, written by 'kubectl cluster-info dump --output-directory=DIR', instead of a cluster.").StringVar(&cfg.diagnose.dump)
	once.Flag("output", "table, for people, or json.").Short('o').Default("table").EnumVar(&cfg.diagnose.output, "table", "json")
	return app, commands{cluster.FullCommand(), node.FullCommand(), once.FullCommand()}
}

func canaryService(c *kingpin.CmdClause, cfg *config) {
	c.Flag("canary.service", "The canary Service, namespace/name: one without a selector.").Default("kproxy-exporter/kproxy-exporter-canary").StringVar(&cfg.canary)
	c.Flag("responder.service", "The Service, namespace/name, over the node role's responders.").Default("kproxy-exporter-node/kproxy-exporter-responder").StringVar(&cfg.responders)
}

// wholeCluster declares the flags of the commands that read the whole cluster.
func wholeCluster(c *kingpin.CmdClause, cfg *config) {
	c.Flag("kube-proxy.namespace", "Namespace of kube-proxy's DaemonSet and pods.").Default("kube-system").StringVar(&cfg.namespace)
	c.Flag("kube-proxy.selector", "Label selector of kube-proxy's pods; may be repeated, any may match.").
		Default("k8s-app=kube-proxy", "component=kube-proxy,k8s-app!=kube-proxy").StringsVar(&cfg.selectors)
	c.Flag("api.stale-after", "How long the API server may not answer before what it said counts as unknown; a connection that is dead in silence is noticed 45s later.").
		Default("1m").DurationVar(&cfg.staleAfter)
	c.Flag("ports.interval", "How often kube-proxy's ports on each node are asked, as monitoring would; longer with many nodes; 0 for never.").
		Default("15s").DurationVar(&cfg.ports)
}

func main() {
	var cfg config
	app, names := newApp(&cfg)
	command, err := app.Parse(os.Args[1:])
	if err != nil {
		fmt.Fprintf(printer{os.Stderr, questionMark}, "kproxy-exporter: %v; try --help\n", err)
		os.Exit(2)
	}
	if wrong := cfg.wrong(command); wrong != "" {
		fmt.Fprintf(printer{os.Stderr, questionMark}, "kproxy-exporter: %s\n", wrong)
		os.Exit(2)
	}
	if command == names.diagnose && !cfg.levelSet {
		cfg.logLevel = "error" // what it could not read it says itself
	}
	if os.Getenv("GOGC") == "" { // little is allocated, so memory is worth more than collections
		percent := 50
		if command == names.node {
			percent = 25 // there is one on every node
		}
		debug.SetGCPercent(percent)
	}
	stderr := newLineWriter(printer{os.Stderr, questionMark}, cfg.logFormat)
	logs := newLogs(stderr, cfg.logLevel, cfg.logFormat)
	setKlog(logs, cfg.logLevel) // process-wide, so here and nowhere else

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	if command == names.diagnose {
		code := diagnose(ctx, cfg, logs, os.Stdout, os.Stderr)
		stop()
		stderr.flush(time.Second)
		os.Exit(code)
	}
	defer stop()
	newRole := newClusterRole
	if command == names.node {
		newRole = newNodeRole
	}
	err = run(ctx, cfg, logs, newRole)
	if err != nil {
		level.Error(logs.logger).Log("msg", "stopped", "err", err)
	}
	stderr.flush(time.Second)
	if err != nil {
		os.Exit(1)
	}
}
