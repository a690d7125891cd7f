package collector

import (
	"context"
	"net"
	"net/netip"
	"strconv"
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

// portsInUse are the ports of the configuration that was read.
func (c *Cluster) portsInUse() (metrics, healthz uint16) {
	config, _ := c.config(true)
	return portOf(config.MetricsBind, metricsPort), portOf(config.HealthzBind, healthzPort)
}

// portOf is the port of an address to bind to, as written.
func portOf(bind string, otherwise uint16) uint16 {
	_, text, err := net.SplitHostPort(bind)
	if err != nil {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return otherwise
	}
	return uint16(n)
}

// proxyPorts are the ports of the kube-proxy of one node: those of its flags,
// which count only without a configuration file, else those of the ConfigMap.
func proxyPorts(p *cause.Pod, metrics, healthz uint16) (uint16, uint16) {
	if p.ConfigFrom != "" {
		return metrics, healthz
	}
	return portOf(p.MetricsFlag, metrics), portOf(p.HealthzFlag, healthz)
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
	metricsOfAll, healthzOfAll := c.portsInUse()
	var out []prober.PortTarget
	c.nodes.each(func(n *nodeRow) {
		p := runs[n.name]
		if p == nil || len(n.status.Addresses) == 0 {
			return
		}
		metrics, healthz := proxyPorts(&p.status, metricsOfAll, healthzOfAll)
		ip := n.status.Addresses[0]
		out = append(out,
			prober.PortTarget{Node: n.name, Address: netip.AddrPortFrom(ip, metrics), Path: "/healthz", Life: p.running, Pages: []string{modePage, configzPage}},
			prober.PortTarget{Node: n.name, Address: netip.AddrPortFrom(ip, healthz), Path: "/healthz", After: "/livez"})
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
	metricsOfAll, healthzOfAll := c.portsInUse()
	return func(p *cause.Pod, node string) *cause.Ports {
		metrics, healthz := metricsOfAll, healthzOfAll
		if p != nil {
			metrics, healthz = proxyPorts(p, metrics, healthz)
		}
		return &cause.Ports{Metrics: c.port(node, metrics), Healthz: c.port(node, healthz)}
	}
}

func (c *Cluster) port(node string, number uint16) cause.Port {
	r, ok := c.ports.Result(node, number)
	if !ok {
		return cause.Port{Number: number}
	}
	return cause.Port{
		Number: number, Outcome: string(r.Outcome), Status: r.Status, Livez: r.AfterStatus, Error: r.Error,
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
