package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/exporter-toolkit/web"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/kproxy-exporter/kproxy-exporter/collector"
	"github.com/kproxy-exporter/kproxy-exporter/collector/kubeapi"
	"github.com/kproxy-exporter/kproxy-exporter/prober"
)

type config struct {
	// kubeconfig and context choose the cluster; empty for the defaults.
	kubeconfig, context string
	logLevel            string
	logFormat           string
	levelSet            bool // by the user
	web                 *web.FlagConfig
	profiles            bool

	namespace  string
	selectors  []string
	staleAfter time.Duration
	ports      time.Duration

	canary, responders string
	canaryInterval     time.Duration

	node     nodeConfig
	diagnose diagnoseConfig
}

// nodeConfig is for the node role.
type nodeConfig struct {
	name, procPath, rootPath string
	apiInterval              time.Duration

	probeInterval, probeTimeout time.Duration
	probeServices               []string
	probeName                   string
	probeOnly                   bool
	responder                   string
	audit                       string
	ips                         string
}

// listens is whether somebody can listen at an address as it is written.
func listens(address string) bool {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

// isServiceName is whether a Service can be called so.
func isServiceName(text string) bool {
	namespace, name, _ := strings.Cut(text, "/")
	return len(validation.IsDNS1123Label(namespace)) == 0 && len(validation.IsDNS1035Label(name)) == 0
}

// minCanary is how often the canary may be moved at most.
const minCanary = 10 * time.Second

// wrong is what is wrong with the times; empty if nothing is.
func (c config) wrong(command string) string {
	switch {
	case c.ports != 0 && c.ports < time.Second:
		return fmt.Sprintf("--ports.interval is %s; it must be 0 or at least 1s", c.ports)
	case c.node.apiInterval != 0 && c.node.apiInterval < time.Second: // 0: another command
		return fmt.Sprintf("--api.interval is %s; it must be at least 1s", c.node.apiInterval)
	case c.node.probeInterval != 0 && (c.node.probeInterval < time.Second || c.node.probeTimeout <= 0 || c.node.probeTimeout > c.node.probeInterval/2):
		return fmt.Sprintf("--probe.interval is %s and --probe.timeout %s; the first must be 0 or at least 1s, the second more than 0 and at most half of it", c.node.probeInterval, c.node.probeTimeout)
	case c.node.responder != "" && !listens(c.node.responder):
		return fmt.Sprintf("--responder.listen-address is %q; it is written host:port or :port", c.node.responder)
	case c.canaryInterval != 0 && c.canaryInterval < minCanary:
		return fmt.Sprintf("--canary.interval is %s; it must be 0 or at least %s", c.canaryInterval, minCanary)
	case c.node.name != "" && len(validation.IsDNS1123Subdomain(c.node.name)) > 0:
		return fmt.Sprintf("--node-name is %q, which is no Node's name", c.node.name)
	case c.node.probeName != "" && len(validation.IsDNS1123Subdomain(strings.TrimSuffix(strings.ToLower(c.node.probeName), "."))) > 0:
		return fmt.Sprintf("--probe.dns-name is %q, which is no name that DNS can know", c.node.probeName)
	case command != "diagnose" && !isServiceName(c.canary):
		return fmt.Sprintf("--canary.service is %q; it is written namespace/name", c.canary)
	case command != "diagnose" && !isServiceName(c.responders):
		return fmt.Sprintf("--responder.service is %q; it is written namespace/name", c.responders)
	case command != "node" && c.staleAfter < time.Second:
		return fmt.Sprintf("--api.stale-after is %s; it must be at least 1s", c.staleAfter)
	}
	return ""
}

// shutdownTimeout is how long requests that are being answered may take to end.
const shutdownTimeout = 5 * time.Second

// headerTimeout is how long a client may take to say what it wants, with a body if it
// sends one: nobody reads it.
const headerTimeout = 5 * time.Second

// mostConnections is how many clients may be connected: each takes memory, of which
// the exporter has little.
const mostConnections = 256

// newServer bounds what its clients may take. It speaks HTTP/1 alone: a connection
// of HTTP/2 carries many requests, which would pass the limit of connections.
func newServer(handler http.Handler, l logs) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler: handler, ReadHeaderTimeout: headerTimeout, ReadTimeout: headerTimeout, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 64 << 10, Protocols: protocols, ConnState: prober.NewConnections(mostConnections).State, ErrorLog: l.server(),
	}
}

// run serves a role until the context ends.
func run(ctx context.Context, cfg config, l logs, newRole func(config, logs) (role, error)) error {
	r, err := newRole(cfg, l)
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	if counts, ok := r.(counter); ok {
		registry.MustRegister(counts.Collectors()...)
	}
	registry.MustRegister(versioncollector.NewCollector("kproxy"),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	handler, err := newHandler(registry, r, l, cfg.profiles)
	if err != nil {
		return err
	}
	server := newServer(handler, l)

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { r.Run(ctx); return nil })
	g.Go(func() error { releaseStartup(ctx, r); return nil })
	g.Go(func() error {
		if err := web.ListenAndServe(server, cfg.web, l.slog); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		err := server.Shutdown(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			level.Warn(l.logger).Log("msg", "answers are cut that clients have not read", "after", shutdownTimeout)
			return server.Close()
		}
		return err
	})
	return g.Wait()
}

// releaseStartup gives back, once everything has been read, the memory that
// reading took: on a large cluster it is twice what stays in use.
func releaseStartup(ctx context.Context, r role) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if ok, _ := r.Ready(); ok {
				debug.FreeOSMemory()
				return
			}
		}
	}
}

// newClusterRole reads the whole cluster through the API.
func newClusterRole(cfg config, l logs) (role, error) {
	client, err := newClient(cfg)
	if err != nil {
		return nil, err
	}
	return newCluster(client, cfg, l)
}

// newNodeRole reads its own node. An API server is good to have: it tells what
// it wants, and the addresses of all API servers.
func newNodeRole(cfg config, l logs) (role, error) {
	node := collector.NodeConfig{
		Name: cfg.node.name, Namespace: cfg.namespace, ProcPath: cfg.node.procPath, RootPath: cfg.node.rootPath, APIInterval: cfg.node.apiInterval,
		VIPHost: os.Getenv("KUBERNETES_SERVICE_HOST"), VIPPort: cmp.Or(os.Getenv("KUBERNETES_SERVICE_PORT"), "443"), Logger: l.logger, Klog: l.klog,
		Responder: cfg.node.responder, Canary: cfg.canary, Responders: cfg.responders,
	}
	if a, err := netip.ParseAddr(node.VIPHost); err != nil || a.IsLoopback() {
		node.VIPHost = "" // it is set to something that is no Service
	}
	node.Audit = collector.AuditMode(cfg.node.audit)
	for _, text := range strings.FieldsFunc(cfg.node.ips, func(r rune) bool { return r == ',' || r == ' ' }) {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("--node-ip: %w", err)
		}
		node.NodeIPs = append(node.NodeIPs, a.Unmap())
	}
	services := map[string]string{}
	for _, text := range cfg.node.probeServices {
		service, specs, err := collector.ParseProbeFlag(text)
		if err != nil {
			return nil, fmt.Errorf("--probe.service: %w", err)
		}
		services[service] = strings.TrimSpace(services[service] + " " + specs)
	}
	node.Probe = collector.ProbeConfig{Interval: cfg.node.probeInterval, Timeout: cfg.node.probeTimeout, Services: services, DNSName: cfg.node.probeName, Only: cfg.node.probeOnly}
	if err := giveAPI(&node, cfg); err != nil {
		level.Warn(l.logger).Log("msg", "no access to the API: only kube-proxy's own address is asked", "err", err)
	}
	return collector.NewNode(node)
}

// giveAPI gives a node the access to the API that the exporter has.
func giveAPI(n *collector.NodeConfig, cfg config) error {
	access, err := apiAccess(cfg)
	if err != nil {
		return err
	}
	secure, err := rest.TLSConfigFor(access)
	if err != nil {
		return err
	}
	client, err := kubeapi.New(access)
	if err != nil {
		return err
	}
	n.API = client
	if secure != nil {
		n.Roots = secure.RootCAs
	}
	return nil
}

func newCluster(client collector.API, cfg config, l logs) (*collector.Cluster, error) {
	return collector.NewCluster(collector.Config{
		API: client, Namespace: cfg.namespace, Selectors: cfg.selectors, StaleAfter: cfg.staleAfter, PortInterval: cfg.ports, Logger: l.logger, Klog: l.klog,
		Mover: collector.MoverConfig{Interval: cfg.canaryInterval, Service: cfg.canary, Responders: cfg.responders, Identity: identity()},
	})
}

// identity names this process among all.
func identity() string {
	name, err := os.Hostname()
	if err != nil {
		name = "unknown"
	}
	return name + "_" + rand.Text()
}

// newClient reads the API.
func newClient(cfg config) (*kubeapi.Client, error) {
	access, err := apiAccess(cfg)
	if err != nil {
		return nil, err
	}
	return kubeapi.New(access)
}

// apiAccess finds the API server as kubectl does: by --kubeconfig, $KUBECONFIG or
// ~/.kube/config, and else by the pod's service account.
func apiAccess(of config) (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = of.kubeconfig
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: of.context}).ClientConfig()
	if clientcmd.IsEmptyConfig(err) {
		return nil, errors.New("no cluster to watch: give --kubeconfig, set KUBECONFIG, write ~/.kube/config, or run in a pod with a service account")
	}
	if err != nil {
		return nil, fmt.Errorf("read API access: %w", err)
	}
	cfg.UserAgent = "kproxy-exporter"
	return cfg, nil
}
