package collector

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/collector/audit"
	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
	"github.com/kproxy-exporter/kproxy-exporter/collector/rules"
)

// nodeAuditConfig is how kube-proxy runs, for one family.
type nodeAuditConfig struct {
	audit.Config
	detect string
	cidrs  []netip.Prefix
	iface  string
}

// text tells one way to run from another; the node's addresses come and go.
func (c nodeAuditConfig) text() string {
	c.Addresses = nil
	return fmt.Sprintf("%+v", c)
}

// detector is how pods of the node are told from others.
func (c *nodeAuditConfig) detector() {
	d := &c.Detector
	switch c.detect {
	case "ClusterCIDR":
		d.Known = true
		for _, p := range c.cidrs {
			if p.Addr().Is6() == (c.Family == rules.IPv6) {
				d.CIDR = p
			}
		}
	case "BridgeInterface":
		d.Known, d.Interface = c.iface != "", c.iface
	case "InterfaceNamePrefix":
		d.Known, d.Interface = c.iface != "", c.iface+"+"
	}
}

// auditConfig is how kube-proxy runs on the node, as it says itself, or its file
// if it does not; lacks says what is not known.
func (n *Node) auditConfig() (cfg *nodeAuditConfig, lacks string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	seen := !n.seen.proxyAt.IsZero() && time.Since(n.seen.proxyAt) <= seenFor
	mode, settings := n.seen.mode, n.seen.file
	if r := n.runs.of(n.cfg.Name, n.life()); r != nil {
		if r.Mode != "" {
			mode = r.Mode
		}
		if r.Settings != nil {
			settings = r.Settings.Settings
		}
	}
	switch ok, what := n.desired.auditable(time.Now()); {
	case !seen:
		return nil, "kube-proxy on this node"
	case !ok:
		return nil, what
	case settings == nil:
		return nil, "kube-proxy's configuration"
	}
	if cfg, lacks = newAuditConfig(mode, settings); cfg == nil {
		return nil, lacks
	}
	cfg.Node, cfg.Primary = n.cfg.Name, n.cfg.NodeIPs
	var err error
	if cfg.Addresses, err = nodeAddresses(); err != nil {
		return nil, "the node's own addresses: " + err.Error()
	}
	return cfg, ""
}

// newAuditConfig returns what the mode and the settings of kube-proxy mean for
// an audit; lacks names the setting that cannot be used.
func newAuditConfig(mode string, settings cause.Settings) (_ *nodeAuditConfig, lacks string) {
	if mode == "" {
		mode = audit.ModeIPTables // its default
	}
	if mode != audit.ModeNFTables && mode != audit.ModeIPTables && mode != audit.ModeIPVS {
		return nil, "an audit of the mode " + mode
	}
	c := &nodeAuditConfig{detect: cmp.Or(settings["detectlocalmode"], "ClusterCIDR"), iface: settings["detectlocal.bridgeinterface"] + settings["detectlocal.interfacenameprefix"]}
	c.Mode = mode
	c.MasqueradeAll = settings[mode+".masqueradeall"] == "true" || settings["linux.masqueradeall"] == "true"
	var bad []string
	if c.cidrs, bad = cause.ParseCIDRs(settings["clustercidr"]); len(bad) > 0 {
		return nil, "kube-proxy's clusterCIDR"
	}
	if text := settings["nodeportaddresses"]; text != "" && json.Unmarshal([]byte(text), &c.NodePortAddresses) != nil {
		return nil, "kube-proxy's nodePortAddresses"
	}
	if len(c.NodePortAddresses) == 0 && mode == audit.ModeNFTables {
		c.NodePortAddresses = []string{"primary"} // its default
	}
	return c, ""
}

// nodeAddresses are those of its interfaces, but of the one to which kube-proxy
// gives Services' addresses in mode ipvs.
func nodeAddresses() (out []netip.Addr, err error) {
	devices, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	for _, d := range devices {
		if d.Name == rules.IPVSInterface {
			continue
		}
		all, err := d.Addrs()
		if err != nil {
			return nil, err
		}
		for _, one := range all {
			if p, ok := one.(*net.IPNet); ok {
				if a, ok := netip.AddrFromSlice(p.IP); ok {
					out = append(out, a.Unmap())
				}
			}
		}
	}
	return out, nil
}
