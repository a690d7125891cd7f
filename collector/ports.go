package collector

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
	"github.com/kproxy-exporter/kproxy-exporter/prober"
)

// Bounds of what is asked of the nodes' ports.
const (
	portTimeout = 3 * time.Second
	portRate    = 100 // attempts that start in a second
	// reviewEvery is how often it is looked whether a log should be read.
	reviewEvery = 5 * time.Second
)

// kube-proxy's ports, unless its configuration says otherwise.
const (
	metricsPort = 10249
	healthzPort = 10256
)

// bind is where kube-proxy listens, as far as its configuration shows.
type bind struct {
	port  uint16
	reach cause.Reach
}

// The default of kube-proxy's metricsBindAddress is the loopback address, and
// of healthzBindAddress all addresses (pkg/proxy/apis/config/v1alpha1/defaults.go).
var (
	metricsDefault = bind{metricsPort, cause.ReachLoopback}
	healthzDefault = bind{healthzPort, cause.ReachAll}
)

// bindOf parses an address to bind to, with or without a port, as kube-proxy
// does. What cannot be parsed keeps the default port, and its reach is unknown.
func bindOf(written string, otherwise bind) bind {
	if written == "" {
		return otherwise
	}
	out := bind{otherwise.port, cause.ReachUnknown}
	host, text, err := net.SplitHostPort(written)
	if err != nil {
		host = strings.Trim(written, "[]") // kube-proxy appends the default port
	} else if n, err := strconv.ParseUint(text, 10, 16); err == nil && n != 0 {
		out.port = uint16(n)
	} else {
		return out
	}
	switch a, err := netip.ParseAddr(host); {
	case host == "" || err == nil && a.IsUnspecified():
		out.reach = cause.ReachAll
	case err == nil && a.Unmap().IsLoopback():
		out.reach = cause.ReachLoopback
	}
	return out
}

// changedSince reports whether a ConfigMap may have been changed since a container
// began, which then runs with what it was before.
func changedSince(config *cause.Config, c *cause.Container) bool {
	return c != nil && (config.Since.After(c.Started) || config.Modified.After(c.Started))
}

// bindsOf returns where a pod's kube-proxy listens: by its flags, which count
// only without a configuration file, else by the ConfigMap if the file is in it.
// p is nil for a node without a pod.
func bindsOf(p *cause.Pod, config *cause.Config) (metrics, healthz bind) {
	if p != nil && p.Flags != nil {
		return bindOf(p.Flags.Metrics, metricsDefault), bindOf(p.Flags.Healthz, healthzDefault)
	}
	if config != nil && !config.Missing && config.Error == "" {
		metrics, healthz = bindOf(config.MetricsBind, metricsDefault), bindOf(config.HealthzBind, healthzDefault)
	} else {
		metrics, healthz, config = metricsDefault, healthzDefault, nil
	}
	if p == nil || config == nil || p.ConfigFrom != config.Name || changedSince(config, p.Container) {
		metrics.reach, healthz.reach = cause.ReachUnknown, cause.ReachUnknown
	}
	return metrics, healthz
}

// portTargets are the ports of every node on which a kube-proxy pod runs.
func (c *Cluster) portTargets() []prober.PortTarget {
	runs := map[string]*podRow{} // by node
	for _, t := range c.pods {
		t.each(func(r *podRow) {
			if k := r.status.Container; k != nil && k.Running() && !r.status.Deleting {
				runs[r.node] = r
			}
		})
	}
	config, _ := c.config(true)
	var out []prober.PortTarget
	c.nodes.each(func(n *nodeRow) {
		p := runs[n.name]
		if p == nil || len(n.status.Addresses) == 0 {
			return
		}
		metrics, healthz := bindsOf(&p.status, config)
		ip := n.status.Addresses[0]
		out = append(out,
			prober.PortTarget{Node: n.name, Address: netip.AddrPortFrom(ip, metrics.port), Path: "/healthz", Life: p.running, Pages: []string{modePage, configzPage}},
			prober.PortTarget{Node: n.name, Address: netip.AddrPortFrom(ip, healthz.port), Path: "/healthz", After: "/livez"})
	})
	return out
}

// portsUnasked is for a view that asks no ports.
func portsUnasked() func(*cause.Pod, string) *cause.Ports {
	return func(*cause.Pod, string) *cause.Ports { return nil }
}

// portsOf is what the nodes' ports answered; nothing if no node says anything:
// then the exporter does not stand in the cluster's network.
func (c *Cluster) portsOf() func(*cause.Pod, string) *cause.Ports {
	if !c.ports.Reaches() {
		return portsUnasked()
	}
	config, _ := c.config(true)
	return func(p *cause.Pod, node string) *cause.Ports {
		metrics, healthz := bindsOf(p, config)
		return &cause.Ports{Metrics: c.port(node, metrics), Healthz: c.port(node, healthz)}
	}
}

func (c *Cluster) port(node string, at bind) cause.Port {
	r, ok := c.ports.Result(node, at.port)
	if !ok {
		return cause.Port{Number: at.port, Reach: at.reach}
	}
	return cause.Port{
		Number: at.port, Reach: at.reach, Outcome: string(r.Outcome), Status: r.Status, Livez: r.AfterStatus, Error: r.Error,
		Since: r.Since, At: r.At, Times: r.Times,
	}
}

// reviewLogs has the logs read of running containers that are not well.
func (c *Cluster) reviewLogs(ctx context.Context) {
	tick := time.NewTicker(reviewEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			ports := c.view.ports()
			for _, t := range c.pods {
				t.each(func(r *podRow) { c.logs.review(r, cause.Unwell(now, &r.status, ports(&r.status, r.node)), now) })
			}
		}
	}
}
