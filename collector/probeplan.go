package collector

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/kproxy-exporter/kproxy-exporter/prober"
)

// ProbeAnnotation says on a Service, as annotation or label, how it is probed:
// "http", "tcp:8443", "http:web/nodeport", several apart by spaces or commas.
const ProbeAnnotation = "kproxy-exporter/probe"

// probeSpec is how a port of a Service is asked.
type probeSpec struct {
	module prober.Module
	// port is its number or its name; empty for the first that fits.
	port     string
	nodePort bool
}

// parseProbeSpecs reads what ProbeAnnotation says.
func parseProbeSpecs(text string) ([]probeSpec, error) {
	var out []probeSpec
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' }) {
		rest, nodePort := strings.CutSuffix(word, "/nodeport")
		name, port, given := strings.Cut(rest, ":")
		module, err := prober.ParseModule(name)
		if err != nil {
			return nil, fmt.Errorf("probe %q: %w", word, err)
		}
		if _, err := strconv.ParseUint(port, 10, 16); given && err != nil && len(validation.IsValidPortName(port)) > 0 {
			return nil, fmt.Errorf("probe %q: %q is neither a port's number nor its name", word, port)
		}
		out = append(out, probeSpec{module, port, nodePort})
	}
	if len(out) == 0 {
		return nil, errors.New("no probe is given: module, or module:port")
	}
	return out, nil
}

// ParseProbeFlag reads "namespace/name=http:80".
func ParseProbeFlag(text string) (service, specs string, err error) {
	service, specs, _ = strings.Cut(text, "=")
	if namespace, name, ok := strings.Cut(service, "/"); !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
		return "", "", fmt.Errorf("probe of Service %q: it is written namespace/name=module:port", text)
	}
	if _, err := parseProbeSpecs(specs); err != nil {
		return "", "", fmt.Errorf("probe of Service %s: %w", service, err)
	}
	return service, specs, nil
}

// kubernetesService is the one that every cluster has.
const kubernetesService = "default/kubernetes"

// probesOf is how a Service is asked; empty if it is not.
func probesOf(s *wantedService, flags map[string]string) string {
	switch given := flags[s.name]; {
	case given != "":
		return given
	case s.probe != "":
		return s.probe
	case s.name == kubernetesService:
		return string(prober.ModuleHTTPS)
	case s.dns:
		return string(prober.ModuleDNS) + " " + string(prober.ModuleDNSTCP)
	}
	return ""
}

// maxTargets bounds what a node asks, whatever the API says.
const maxTargets = 1000

// plan is what is asked now, in a stable order, and what is wrong with the rest.
func (d *desired) plan(flags map[string]string, node string, nodeIP func(netip.Addr) netip.Addr, dnsName string) ([]prober.ServiceTarget, []error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []prober.ServiceTarget
	var wrong []error
	d.findHosts(node)
	for _, s := range d.services {
		text := probesOf(s, flags)
		if text == "" {
			continue
		}
		specs, err := parseProbeSpecs(text)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("service %s: %w", s.name, err))
			continue
		}
		for _, spec := range specs {
			targets, err := d.targets(s, spec, node, nodeIP, dnsName)
			if err != nil {
				wrong = append(wrong, fmt.Errorf("service %s: %w", s.name, err))
			}
			out = append(out, targets...)
		}
	}
	slices.SortFunc(out, func(a, b prober.ServiceTarget) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Module, b.Module), a.VIP.Compare(b.VIP))
	})
	if len(out) > maxTargets {
		wrong = append(wrong, fmt.Errorf("%d targets are asked for; only %d are asked", len(out), maxTargets))
		out = out[:maxTargets]
	}
	return out, wrong
}

// findHosts finds the addresses that are nodes' own, without asking for the
// nodes: where a Service's endpoint on this node has this node's address, all of
// that Service's have their nodes'. The caller holds mu.
func (d *desired) findHosts(node string) {
	d.hosts = map[netip.Addr]bool{}
	for _, all := range d.slices {
		ours := false
		for _, s := range all {
			ours = ours || slices.ContainsFunc(s.endpoints, func(e wantedEndpoint) bool { return e.node == node && slices.Contains(d.own, e.address) })
		}
		if !ours {
			continue
		}
		for _, s := range all {
			for _, e := range s.endpoints {
				d.hosts[e.address] = true
			}
		}
	}
}

// targets are those of a port of a Service, one for each IP family; the caller
// holds mu.
func (d *desired) targets(s *wantedService, spec probeSpec, node string, nodeIP func(netip.Addr) netip.Addr, dnsName string) ([]prober.ServiceTarget, error) {
	i := slices.IndexFunc(s.ports, func(p wantedPort) bool {
		return !p.other && p.udp == spec.module.UDP() && (spec.port == "" || p.name == spec.port || strconv.Itoa(int(p.port)) == spec.port)
	})
	if i < 0 {
		return nil, fmt.Errorf("it has no port %q for module %s", spec.port, spec.module)
	}
	port := s.ports[i]
	var out []prober.ServiceTarget
	for _, vip := range s.vips {
		if !dialable(vip) {
			continue
		}
		t := prober.ServiceTarget{Service: s.name, Port: port.port, Module: spec.module, VIP: netip.AddrPortFrom(vip, port.port), Name: dnsName, Sticky: s.sticky, Changed: d.changedAt[s.name]}
		t.Endpoints = d.endpoints(s, port, vip.Is6(), func(e wantedEndpoint) bool { return !s.localOnly || e.node == node })
		local := d.endpoints(s, port, vip.Is6(), func(e wantedEndpoint) bool { return e.node == node })
		if spec.nodePort && port.nodePort != 0 && (!s.localNodePort || len(local) > 0) {
			if own := nodeIP(vip); own.IsValid() {
				t.NodePort = netip.AddrPortFrom(own, port.nodePort)
			}
		}
		out = append(out, t)
	}
	return out, nil
}

// endpoints are those that kube-proxy may send to: the ready ones, else those
// that still serve while they end.
func (d *desired) endpoints(s *wantedService, port wantedPort, ipv6 bool, wanted func(wantedEndpoint) bool) []prober.Endpoint {
	var ready, serving []prober.Endpoint
	for _, slice := range d.slices[s.name] {
		i := slices.IndexFunc(slice.ports, func(p wantedPort) bool { return p.name == port.name && p.udp == port.udp && !p.other })
		if i < 0 {
			continue
		}
		for _, e := range slice.endpoints {
			if e.address.Is6() != ipv6 || !dialable(e.address) || !wanted(e) {
				continue
			}
			one := prober.Endpoint{Address: netip.AddrPortFrom(e.address, slice.ports[i].port), Node: e.node, Host: d.hosts[e.address]}
			switch {
			case e.ready:
				ready = append(ready, one)
			case e.serving:
				serving = append(serving, one)
			}
		}
	}
	if len(ready) == 0 {
		ready = serving
	}
	slices.SortFunc(ready, func(a, b prober.Endpoint) int { return a.Address.Compare(b.Address) })
	return slices.CompactFunc(ready, func(a, b prober.Endpoint) bool { return a.Address == b.Address })
}

// dialable is whether an address may be asked: whoever writes EndpointSlices
// must not make a node ask itself, or its cloud, in his place.
func dialable(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsLoopback() && !a.IsLinkLocalUnicast() && !a.IsMulticast() && a.Unmap() == a && !slices.Contains(metadata, a)
}

// metadata are where clouds tell a node its secrets, other than link-local.
var metadata = []netip.Addr{
	netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("100.100.100.200"), netip.MustParseAddr("192.0.0.192"), netip.MustParseAddr("168.63.129.16"),
}

// settling is how long kube-proxy may take to write what changed.
const settling = 10 * time.Second
