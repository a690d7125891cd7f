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

// Bounds of an annotation: everyone who may write a Service writes one.
const (
	maxProbeWords = 16
	maxProbeWord  = 64 // bytes; a module, a port's name and "/nodeport" have less
)

// probeWords returns the first words of what ProbeAnnotation says, one more than
// are used, each cut where it is longer than any that is valid.
func probeWords(text string) []string {
	var out []string
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ' ' || r == ',' }) {
		if out = append(out, word[:min(len(word), maxProbeWord+1)]); len(out) > maxProbeWords {
			break
		}
	}
	return out
}

// boundProbe copies of an annotation what is read of it, so that the rest is not kept.
func boundProbe(text string) string {
	return strings.Clone(strings.Join(probeWords(text), " "))
}

// parseProbeSpecs reads what ProbeAnnotation says: the first maxProbeWords words.
// Of more it returns those, and an error.
func parseProbeSpecs(text string) ([]probeSpec, error) {
	var out []probeSpec
	words := probeWords(text)
	for i, word := range words {
		if i >= maxProbeWords {
			return out, fmt.Errorf("probe: more than %d are given, the others are ignored", maxProbeWords)
		}
		rest, nodePort := strings.CutSuffix(word, "/nodeport")
		name, port, given := strings.Cut(rest, ":")
		module, err := prober.ParseModule(name)
		if err != nil {
			return nil, fmt.Errorf("probe %q: %w", word, err)
		}
		if n, err := strconv.ParseUint(port, 10, 16); given && (err != nil || n == 0) && len(validation.IsValidPortName(port)) > 0 {
			return nil, fmt.Errorf("probe %q: %q is neither a port's number nor its name", word, port)
		}
		if spec := (probeSpec{module, port, nodePort}); !slices.Contains(out, spec) {
			out = append(out, spec)
		}
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

// What a node asks is bounded, whatever the API says, and so is what it keeps of
// it: targets, and endpoints of all of them.
const (
	maxTargets   = 1024
	maxEndpoints = 100_000
)

// plan is what is asked now, in a stable order, and what is wrong with the rest.
// If it is too much, what the flags name and what every cluster has comes first,
// then each namespace in its turn.
func (d *desired) plan(flags map[string]string, node string, nodeIP func(netip.Addr) netip.Addr, dnsName string) ([]prober.ServiceTarget, []error) {
	v := d.probeView(func(s *wantedService) bool { return probesOf(s, flags) != "" })
	var all []planned
	var wrong []error
	known := map[prober.TargetKey]bool{}
	turns := map[string]int{} // of each namespace
	for _, s := range v.services {
		specs, err := parseProbeSpecs(probesOf(s, flags))
		if err != nil {
			wrong = append(wrong, fmt.Errorf("service %s: %w", s.name, err))
		}
		namespace, _, _ := strings.Cut(s.name, "/")
		for _, spec := range specs {
			targets, err := v.targets(s, spec, node, nodeIP, dnsName)
			if err != nil {
				wrong = append(wrong, fmt.Errorf("service %s: %w", s.name, err))
			}
			for _, t := range targets {
				if known[t.Key()] {
					continue
				}
				known[t.Key()] = true
				if flags[s.name] == "" && s.name != kubernetesService && !s.dns {
					turns[namespace]++
					t.rank = turns[namespace]
				}
				all = append(all, t)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b planned) int { return cmp.Compare(a.rank, b.rank) })
	var out []prober.ServiceTarget
	endpoints := 0
	for i := range all {
		t := v.fill(&all[i], node)
		endpoints += len(t.Endpoints)
		if i == maxTargets || endpoints > maxEndpoints {
			wrong = append(wrong, fmt.Errorf("%d targets are asked for; only %d are asked, with no more than %d endpoints together", len(all), i, maxEndpoints))
			break
		}
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b prober.ServiceTarget) int { return a.Key().Compare(b.Key()) })
	return out, wrong
}

// probeView is what the API wants of the Services that are probed, as it was at
// one moment: a plan is made of it without a lock.
type probeView struct {
	services  []*wantedService // by name
	slices    map[string][]*wantedSlice
	changedAt map[string]time.Time
	// hosts are addresses that are nodes' own, found without asking for the nodes:
	// those of the node role's responders, which are on the hosts' network.
	hosts map[netip.Addr]bool
}

// probeView copies no Service and no EndpointSlice: they are replaced, never changed.
func (d *desired) probeView(probed func(*wantedService) bool) *probeView {
	v := &probeView{slices: map[string][]*wantedSlice{}, changedAt: map[string]time.Time{}, hosts: map[netip.Addr]bool{}}
	d.mu.Lock()
	for name, s := range d.services {
		if probed(s) {
			v.services = append(v.services, s)
			v.slices[name], v.changedAt[name] = d.slices[name], d.changedAt[name]
		}
	}
	responders := d.slices[d.responders]
	d.mu.Unlock()
	slices.SortFunc(v.services, func(a, b *wantedService) int { return strings.Compare(a.name, b.name) })
	for _, s := range responders {
		for _, e := range s.endpoints {
			v.hosts[e.address] = true
		}
	}
	return v
}

// planned is a target whose endpoints have not been looked for.
type planned struct {
	prober.ServiceTarget
	service *wantedService
	port    wantedPort
	rank    int // who comes first if it is too much
}

// fill finds a target's endpoints.
func (v *probeView) fill(t *planned, node string) prober.ServiceTarget {
	t.Endpoints = v.endpoints(t.service, t.port, t.VIP.Addr().Is6(), func(e wantedEndpoint) bool { return !t.service.localOnly || e.node == node })
	return t.ServiceTarget
}

// targets are those of a port of a Service, without endpoints, one for each IP family.
func (v *probeView) targets(s *wantedService, spec probeSpec, node string, nodeIP func(netip.Addr) netip.Addr, dnsName string) ([]planned, error) {
	i := slices.IndexFunc(s.ports, func(p wantedPort) bool {
		return !p.other && p.udp == spec.module.UDP() && (spec.port == "" || p.name == spec.port || strconv.Itoa(int(p.port)) == spec.port)
	})
	if i < 0 {
		return nil, fmt.Errorf("it has no port %q for module %s", spec.port, spec.module)
	}
	port := s.ports[i]
	var out []planned
	for _, vip := range s.vips {
		if !dialable(vip) {
			continue
		}
		t := planned{ServiceTarget: prober.ServiceTarget{Service: s.name, Port: port.port, Module: spec.module, VIP: netip.AddrPortFrom(vip, port.port), Name: dnsName, Sticky: s.sticky, Changed: v.changedAt[s.name]}, service: s, port: port}
		here := func() bool {
			return len(v.endpoints(s, port, vip.Is6(), func(e wantedEndpoint) bool { return e.node == node })) > 0
		}
		if spec.nodePort && port.nodePort != 0 && (!s.localNodePort || here()) {
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
func (v *probeView) endpoints(s *wantedService, port wantedPort, ipv6 bool, wanted func(wantedEndpoint) bool) []prober.Endpoint {
	var ready, serving []prober.Endpoint
	for _, slice := range v.slices[s.name] {
		i := slices.IndexFunc(slice.ports, func(p wantedPort) bool { return p.name == port.name && p.udp == port.udp && !p.other })
		if i < 0 {
			continue
		}
		for _, e := range slice.endpoints {
			if e.address.Is6() != ipv6 || !dialable(e.address) || !wanted(e) {
				continue
			}
			one := prober.Endpoint{Address: netip.AddrPortFrom(e.address, slice.ports[i].port), Node: e.node, Host: v.hosts[e.address]}
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
