package collector

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/go-kit/log"

	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
	"github.com/kproxy-exporter/kproxy-exporter/prober"
)

func TestParseProbes(t *testing.T) {
	got, err := parseProbeSpecs("http:web/nodeport, tcp:8443 dns")
	want := []probeSpec{{prober.ModuleHTTP, "web", true}, {prober.ModuleTCP, "8443", false}, {prober.ModuleDNS, "", false}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v %v", got, err)
	}
	for _, bad := range []string{"", " , ", "icmp", "http://x", "tcp:80 nothing"} {
		if got, err := parseProbeSpecs(bad); err == nil {
			t.Errorf("%q is %+v", bad, got)
		}
	}
	if service, specs, err := ParseProbeFlag("default/web=http:80 tcp"); err != nil || service != "default/web" || specs != "http:80 tcp" {
		t.Errorf("%q %q %v", service, specs, err)
	}
	for _, bad := range []string{"", "web=http", "/web=http", "default/=http", "a/b/c=http", "default/web", "default/web=", "default/web=ping"} {
		if _, _, err := ParseProbeFlag(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// TestProbeAnnotationBounds is for a Service whose annotation is as long as the API
// server allows: little of it is kept, read and looked up, and the plan holds no lock.
func TestProbeAnnotationBounds(t *testing.T) {
	distinct := strings.Builder{}
	for i := 1; distinct.Len() < 256<<10; i++ {
		fmt.Fprintf(&distinct, "tcp:%d/nodeport ", i)
	}
	for name, tc := range map[string]struct {
		text           string
		targets, wrong int
	}{
		"distinct words":    {distinct.String(), maxProbeWords, 1},
		"one word, often":   {strings.Repeat("tcp:7/nodeport ", 256<<10/15), 1, 1},
		"spaces":            {strings.Repeat(" ", 256<<10), 0, 0},
		"a word and spaces": {"tcp:7/nodeport" + strings.Repeat(" ", 256<<10), 1, 0},
		"one long word":     {"tcp:" + strings.Repeat("7", 256<<10), 0, 1},
	} {
		service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "web", Annotations: map[string]string{ProbeAnnotation: tc.text}}, Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.7"}}
		for i := range int32(1000) {
			service.Spec.Ports = append(service.Spec.Ports, corev1.ServicePort{Name: fmt.Sprint("p", i), Protocol: corev1.ProtocolTCP, Port: i + 1, NodePort: 30000 + i})
		}
		d := newDesired(&NodeConfig{})
		s := wantedServiceOf(service)
		if kept, text := unsafe.StringData(s.probe), unsafe.StringData(tc.text); len(s.probe) > 0 && uintptr(unsafe.Pointer(kept)) >= uintptr(unsafe.Pointer(text)) && uintptr(unsafe.Pointer(kept)) < uintptr(unsafe.Pointer(text))+uintptr(len(tc.text)) {
			t.Errorf("%s: the whole annotation is kept", name)
		}
		if most := (maxProbeWords + 1) * (maxProbeWord + 2); len(s.probe) > most {
			t.Errorf("%s: %d bytes are kept, more than %d", name, len(s.probe), most)
		}
		d.services[s.name] = s
		asked := 0
		targets, wrong := d.plan(nil, "n1", func(netip.Addr) netip.Addr {
			asked++
			if !d.mu.TryLock() {
				t.Errorf("%s: the plan is made under the lock that all changes need", name)
				return netip.Addr{}
			}
			d.mu.Unlock()
			return netip.MustParseAddr("10.0.0.11")
		}, "x.")
		if len(targets) != tc.targets || asked != tc.targets || len(wrong) != tc.wrong {
			t.Errorf("%s: %d targets, %d looked up, %v; want %d, %d errors", name, len(targets), asked, wrong, tc.targets, tc.wrong)
		}
		for _, err := range wrong {
			if len(err.Error()) > 500 {
				t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
			}
		}
	}
}

// plannedTexts are the targets as text.
func plannedTexts(d *desired, flags map[string]string) (out, wrong []string) {
	own := func(to netip.Addr) netip.Addr {
		if to.Is6() {
			return netip.MustParseAddr("fd02::1")
		}
		return netip.MustParseAddr("10.0.0.11")
	}
	targets, errs := d.plan(flags, "n1", own, "x.")
	for _, t := range targets {
		text := t.Key().String() + " " + t.VIP.String()
		if t.NodePort.IsValid() {
			text += " " + t.NodePort.String()
		}
		for _, e := range t.Endpoints {
			text += " " + e.Address.String() + "@" + e.Node
		}
		out = append(out, text)
	}
	for _, e := range errs {
		wrong = append(wrong, e.Error())
	}
	return out, wrong
}

// Addresses of nodes are those of the responders there.
func TestPlanHosts(t *testing.T) {
	d := newDesired(&NodeConfig{Responders: "a/hosts"})
	at := func(node, address string) wantedEndpoint {
		return wantedEndpoint{address: netip.MustParseAddr(address), node: node, ready: true}
	}
	add := func(name string, all ...wantedEndpoint) {
		d.services[name] = &wantedService{name: name, vips: []netip.Addr{netip.MustParseAddr("10.96.0.7")}, ports: []wantedPort{{port: 80}}, probe: "tcp"}
		for i, e := range all { // two slices
			if i < 2 {
				d.slices[name] = append(d.slices[name], &wantedSlice{service: name, ports: []wantedPort{{port: 8080}}})
			}
			d.slices[name][i%2].endpoints = append(d.slices[name][i%2].endpoints, e)
		}
	}
	add("a/hosts", at("n1", "10.99.0.11"), at("n2", "10.99.0.12"), at("n3", "10.99.0.13"))
	add("a/pods", at("n1", "10.244.1.2"), at("n2", "10.244.2.2"))
	add("a/one-host", at("n2", "10.99.0.12"))
	add("a/other", at("n1", "10.99.0.11"), at("n2", "10.244.2.3"))
	targets, wrong := d.plan(nil, "n1", nil, "x.")
	if len(wrong) > 0 || len(targets) != 4 {
		t.Fatal(targets, wrong)
	}
	want := map[string]bool{"10.99.0.11:8080": true, "10.99.0.12:8080": true, "10.99.0.13:8080": true}
	for _, one := range targets {
		for _, e := range one.Endpoints {
			if e.Host != want[e.Address.String()] {
				t.Errorf("%s %s: its node's own: %v", one.Service, e.Address, e.Host)
			}
		}
	}
}

// Who asks for too much is asked less, not everybody else.
func TestPlanTooMuch(t *testing.T) {
	flags := map[string]string{"zzz/by-flag": "tcp"}
	d := newDesired(&NodeConfig{Probe: ProbeConfig{Services: flags}})
	vip := []netip.Addr{netip.MustParseAddr("10.96.0.7")}
	add := func(name, probe string, ports int) {
		s := &wantedService{name: name, vips: vip, probe: probe, dns: name == "kube-system/kube-dns"}
		for i := range ports {
			s.ports = append(s.ports, wantedPort{name: fmt.Sprint("p", i), port: uint16(1000 + i)}, wantedPort{name: fmt.Sprint("u", i), port: uint16(1000 + i), udp: true})
		}
		d.services[name] = s
	}
	add("aaa/twice", strings.Repeat("tcp ", 15), 1)
	var many []string // Services of a namespace, of 2000 targets together
	for i := range 2000 / maxProbeWords {
		var words []string
		for j := range maxProbeWords {
			words = append(words, fmt.Sprint("tcp:p", j))
		}
		many = append(many, fmt.Sprint("aaa/many-", i))
		add(many[i], strings.Join(words, " "), maxProbeWords)
	}
	for _, name := range []string{"bbb/one", "default/kubernetes", "kube-system/kube-dns", "zzz/by-flag"} {
		add(name, "", 1)
	}
	d.services["bbb/one"].probe = "tcp"
	targets, wrong := d.plan(flags, "n1", nil, "x.")
	count := map[string]int{}
	for _, one := range targets {
		count[one.Service]++
	}
	if len(targets) != maxTargets || len(wrong) != 1 || !strings.Contains(wrong[0].Error(), "2006 targets are asked for") {
		t.Errorf("%d targets, %v", len(targets), wrong)
	}
	for name, want := range map[string]int{"bbb/one": 1, "default/kubernetes": 1, "kube-system/kube-dns": 2, "zzz/by-flag": 1} {
		if count[name] != want {
			t.Errorf("%s: %d targets, want %d, of %v", name, count[name], want, count)
		}
	}
	if count["aaa/twice"] > 1 {
		t.Errorf("one probe is made %d times", count["aaa/twice"])
	}
	// Endpoints are kept for each port: not more than there is room for.
	x := &wantedSlice{ports: d.services[many[0]].ports}
	for _, name := range many {
		d.slices[name] = []*wantedSlice{x}
	}
	for i := range 1000 {
		x.endpoints = append(x.endpoints, wantedEndpoint{address: netip.AddrFrom4([4]byte{10, 1, byte(i / 250), byte(i%250 + 1)}), ready: true})
	}
	targets, wrong = d.plan(flags, "n1", nil, "x.")
	endpoints := 0
	for _, one := range targets {
		endpoints += len(one.Endpoints)
	}
	if endpoints > maxEndpoints || endpoints < maxEndpoints-1000 || len(wrong) != 1 {
		t.Errorf("%d endpoints are kept, %v", endpoints, wrong)
	}
}

// Nothing is planned anew because of what is not probed.
func TestVersion(t *testing.T) {
	d := newDesired(&NodeConfig{Responders: "a/hosts", Probe: ProbeConfig{Services: map[string]string{"a/flag": "tcp"}}})
	now := time.Now()
	for _, tc := range []struct {
		name string
		wish wish
		want int
	}{
		{"an EndpointSlice whose Service is not known", wish{slice: &wantedSlice{service: "a/probed"}}, 0},
		{"a Service that is not probed", wish{service: &wantedService{name: "a/plain"}}, 0},
		{"its EndpointSlice", wish{slice: &wantedSlice{service: "a/plain"}}, 0},
		{"a Service with the annotation", wish{service: &wantedService{name: "a/probed", probe: "tcp"}}, 1},
		{"its EndpointSlice", wish{slice: &wantedSlice{service: "a/probed"}}, 1},
		{"one that a flag names", wish{service: &wantedService{name: "a/flag"}}, 1},
		{"the responders'", wish{slice: &wantedSlice{service: "a/hosts"}}, 1},
	} {
		before := d.version
		d.keep(nil, &tc.wish, true, now)
		if got := d.version - before; got != tc.want {
			t.Errorf("%s comes: %d, want %d", tc.name, got, tc.want)
		}
	}
	before := d.version
	d.keep(&wish{service: &wantedService{name: "a/probed", probe: "tcp"}}, nil, true, now)
	if d.version == before {
		t.Error("a Service that is probed goes, and nothing is planned anew")
	}
}

func TestPlan(t *testing.T) {
	service := func(name string, change func(*corev1.Service)) *corev1.Service {
		s := clusterIP(name, "10.96.0.7")
		s.Annotations = map[string]string{ProbeAnnotation: "http"}
		change(s)
		return s
	}
	slice := func(change func(*discoveryv1.EndpointSlice)) *discoveryv1.EndpointSlice {
		s := endpointSlice("web", "10.1.0.1", "10.1.1.1")
		s.Ports = []discoveryv1.EndpointPort{{Name: new(""), Port: new(int32(8080))}}
		s.Endpoints[0].NodeName, s.Endpoints[1].NodeName = new("n1"), new("n2")
		change(s)
		return s
	}
	same := func(*discoveryv1.EndpointSlice) {}
	const prefix = "default/web:80 http IPv4 10.96.0.7:80"
	for _, tc := range []struct {
		name    string
		objects []runtime.Object
		want    []string
	}{
		{"by its annotation", []runtime.Object{service("web", func(*corev1.Service) {}), slice(same)}, []string{prefix + " 10.1.0.1:8080@n1 10.1.1.1:8080@n2"}},
		{"by its label", []runtime.Object{service("web", func(s *corev1.Service) {
			s.Annotations, s.Labels = nil, map[string]string{ProbeAnnotation: "http"}
		}), slice(same)}, []string{prefix + " 10.1.0.1:8080@n1 10.1.1.1:8080@n2"}},
		{"not at all", []runtime.Object{service("web", func(s *corev1.Service) { s.Annotations = nil }), slice(same)}, nil},
		{"headless", []runtime.Object{service("web", func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "None", []string{"None"} }), slice(same)}, nil},
		{"only the node's own", []runtime.Object{service("web", func(s *corev1.Service) {
			s.Spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicyLocal)
		}), slice(same)}, []string{prefix + " 10.1.0.1:8080@n1"}},
		{"the node's port", []runtime.Object{service("web", func(s *corev1.Service) {
			s.Annotations[ProbeAnnotation] = "http:80/nodeport"
			s.Spec.Ports[0].NodePort = 30080
		}), slice(same)}, []string{prefix + " 10.0.0.11:30080 10.1.0.1:8080@n1 10.1.1.1:8080@n2"}},
		{"the node's port, which leads to nobody here", []runtime.Object{service("web", func(s *corev1.Service) {
			s.Annotations[ProbeAnnotation], s.Spec.Ports[0].NodePort = "http:80/nodeport", 30080
			s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		}), slice(func(s *discoveryv1.EndpointSlice) { s.Endpoints = s.Endpoints[1:] })}, []string{prefix + " 10.1.1.1:8080@n2"}},
		{"not ready", []runtime.Object{service("web", func(*corev1.Service) {}), slice(func(s *discoveryv1.EndpointSlice) {
			s.Endpoints[0].Conditions.Ready = new(false)
		})}, []string{prefix + " 10.1.1.1:8080@n2"}},
		{"all end, and one still serves", []runtime.Object{service("web", func(*corev1.Service) {}), slice(func(s *discoveryv1.EndpointSlice) {
			for i := range s.Endpoints {
				s.Endpoints[i].Conditions = discoveryv1.EndpointConditions{Ready: new(false), Serving: new(i == 1), Terminating: new(true)}
			}
		})}, []string{prefix + " 10.1.1.1:8080@n2"}},
		{"nobody", []runtime.Object{service("web", func(*corev1.Service) {})}, []string{prefix}},
		{"addresses that nobody may make a node ask", []runtime.Object{service("web", func(*corev1.Service) {}), slice(func(s *discoveryv1.EndpointSlice) {
			s.Endpoints[0].Addresses, s.Endpoints[1].Addresses = []string{"169.254.169.254", "127.0.0.1", "0.0.0.0"}, []string{"224.0.0.1", "100.100.100.200", "not-one", "10.1.1.1"}
		})}, []string{prefix + " 10.1.1.1:8080@n2"}},
		{"the port of another name", []runtime.Object{service("web", func(*corev1.Service) {}), slice(func(s *discoveryv1.EndpointSlice) { s.Ports[0].Name = new("other") })}, []string{prefix}},
		{"both families", []runtime.Object{service("web", func(s *corev1.Service) { s.Spec.ClusterIPs = append(s.Spec.ClusterIPs, "fd00::7") }), slice(same),
			func() runtime.Object {
				s := slice(func(s *discoveryv1.EndpointSlice) {
					s.Name, s.AddressType = "six", discoveryv1.AddressTypeIPv6
					s.Endpoints = []discoveryv1.Endpoint{{Addresses: []string{"fd01::1"}, NodeName: new("n2")}, {Addresses: []string{"fe80::1"}}, {Addresses: []string{"::ffff:10.1.0.9"}}, {Addresses: []string{"fd00:ec2::254"}}}
				})
				return s
			}()},
			[]string{prefix + " 10.1.0.1:8080@n1 10.1.1.1:8080@n2", "default/web:80 http IPv6 [fd00::7]:80 [fd01::1]:8080@n2"}},
		{"by itself: kubernetes and the cluster's DNS", []runtime.Object{
			clusterIP("kubernetes", "10.96.0.1"),
			func() runtime.Object {
				s := clusterIP("dns", "10.96.0.10")
				s.Labels = map[string]string{"k8s-app": "kube-dns"}
				s.Spec.Ports = []corev1.ServicePort{{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP}, {Name: "dns-tcp", Port: 53, Protocol: corev1.ProtocolTCP}}
				return s
			}()},
			[]string{"default/dns:53 dns IPv4 10.96.0.10:53", "default/dns:53 dns_tcp IPv4 10.96.0.10:53", "default/kubernetes:80 https IPv4 10.96.0.1:80"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			wanting(t, tc.objects, func(d *desired, _ *fake.Clientset) {
				if got, wrong := plannedTexts(d, nil); !slices.Equal(got, tc.want) || len(wrong) > 0 {
					t.Errorf("%q %q, want %q", got, wrong, tc.want)
				}
			})
		})
	}
}

// In the pods' network only Services are asked: nothing is said of kube-proxy.
func TestProbeOnly(t *testing.T) {
	n, err := NewNode(NodeConfig{Name: "n1", APIInterval: time.Minute, Logger: log.NewNopLogger(), Probe: ProbeConfig{Interval: 10 * time.Second, Timeout: time.Second, Only: true}})
	if err != nil {
		t.Fatal(err)
	}
	target := &prober.ServiceTarget{Service: "default/web", Port: 80, Module: prober.ModuleHTTP, VIP: netip.MustParseAddrPort("10.96.0.7:80"), Endpoints: []prober.Endpoint{{Node: "n2"}}}
	for range 2 {
		n.probes.note(&prober.Round{Target: target, At: time.Now(), Attempts: []prober.Attempt{{Path: prober.PathVIP, Address: target.VIP, Reason: prober.ReasonTimeout}, {Path: prober.PathEndpoint, Reason: prober.ReasonOK}}})
	}
	var out strings.Builder
	if err := n.WriteMetrics(&out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), `service="default/web",vantage="pod",verdict="dataplane"} 1`) {
		t.Errorf("no verdict:\n%s", out.String())
	}
	for _, not := range []string{"kproxy_cause", "kproxy_primary", "kproxy_healthy", "kproxy_expected", "kproxy_api", "backends"} {
		if strings.Contains(out.String(), not) {
			t.Errorf("it says %s:\n%s", not, out.String())
		}
	}
	if ok, lacks := n.Ready(); !ok || len(n.readers) > 0 {
		t.Errorf("it waits for %s", lacks)
	}
}

// What is asked for and cannot be is said, and takes nothing else away; what
// changes is followed.
func TestPlanChanges(t *testing.T) {
	bad := clusterIP("bad", "10.96.0.8")
	bad.Annotations = map[string]string{ProbeAnnotation: "http:none tcp"}
	worse := clusterIP("worse", "10.96.0.9")
	worse.Annotations = map[string]string{ProbeAnnotation: "ping"}
	wanting(t, []runtime.Object{bad, worse, clusterIP("web", "10.96.0.7"), endpointSlice("web", "10.1.0.1")}, func(d *desired, client *fake.Clientset) {
		got, wrong := plannedTexts(d, map[string]string{"default/web": "tcp:80"})
		if want := []string{"default/bad:80 tcp IPv4 10.96.0.8:80", "default/web:80 tcp IPv4 10.96.0.7:80"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		if len(wrong) != 2 || !strings.Contains(strings.Join(wrong, " "), `no port "none"`) || !strings.Contains(strings.Join(wrong, " "), `no module "ping"`) {
			t.Errorf("it says %q", wrong)
		}
		changed := func() time.Time {
			t.Helper()
			targets, _ := d.plan(map[string]string{"default/web": "tcp:80"}, "n1", nil, "x.")
			return targets[1].Changed
		}
		if at := changed(); !at.IsZero() {
			t.Errorf("nothing has changed since it is known, and it changed %v", at)
		}
		if err := client.DiscoveryV1().EndpointSlices("default").Delete(t.Context(), "web-x", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if at := changed(); time.Since(at) != time.Second {
			t.Errorf("it changed %v", at)
		}
		for _, name := range []string{"bad", "worse", "web"} {
			if err := client.CoreV1().Services("default").Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		if got, wrong := plannedTexts(d, nil); len(got)+len(wrong)+len(d.services)+len(d.slices) != 0 {
			t.Errorf("what is gone is planned: %q %q", got, wrong)
		}
	})
}

// What two rounds say becomes a cause, a verdict and counts.
func TestNodeProbes(t *testing.T) {
	n, err := NewNode(NodeConfig{Name: "n1", ProcPath: t.TempDir(), RootPath: t.TempDir(), APIInterval: time.Minute, Logger: log.NewNopLogger(),
		Probe: ProbeConfig{Interval: 10 * time.Second, Timeout: time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	p := n.probes
	a, b := netip.MustParseAddrPort("10.1.0.1:80"), netip.MustParseAddrPort("10.1.0.2:80")
	target := &prober.ServiceTarget{Service: "default/web", Port: 80, Module: prober.ModuleHTTP, VIP: netip.MustParseAddrPort("10.96.0.7:80"), Endpoints: []prober.Endpoint{{Address: a, Node: "n1"}, {Address: b, Node: "n2"}}}
	note := func(vip prober.Reason, backend netip.AddrPort) {
		p.note(&prober.Round{Target: target, At: time.Now(), Attempts: []prober.Attempt{
			{Path: prober.PathEndpoint, Address: a, Node: "n1", Reason: prober.ReasonOK}, {Path: prober.PathEndpoint, Address: b, Node: "n2", Reason: prober.ReasonOK}, {Path: prober.PathVIP, Address: target.VIP, Reason: vip, Backend: backend},
		}})
	}
	expect := func(want cause.ProbeVerdict, seen string) {
		t.Helper()
		all := p.snapshot(time.Now())
		var out strings.Builder
		e := newExposition(&out)
		p.write(e, all)
		if err := e.end(); err != nil {
			t.Fatal(err)
		}
		const labels = `{ip_family="IPv4",module="http",node="n1",port="80",service="default/web"`
		if text := "kproxy_probe_verdict" + labels + `,vantage="host",verdict="` + string(want) + `"} 1`; !strings.Contains(out.String(), text) {
			t.Errorf("it does not say %s:\n%s", text, out.String())
		}
		for _, text := range []string{"kproxy_probe_backends_expected" + labels + `,vantage="host"} 2`, "kproxy_probe_backends_seen" + labels + `,vantage="host"} ` + seen} {
			if !strings.Contains(out.String(), text) {
				t.Errorf("it does not say %s:\n%s", text, out.String())
			}
		}
		if got := p.reports(all); len(got) != 1 || got[0].Verdict != string(want) || got[0].Service != "default/web:80 http IPv4" || len(got[0].Evidence) != 3 {
			t.Errorf("the page says %+v", got)
		}
	}
	note(prober.ReasonOK, netip.AddrPort{})
	var untold strings.Builder
	e := newExposition(&untold)
	p.write(e, p.snapshot(time.Now()))
	if err := e.end(); err != nil || strings.Contains(untold.String(), "backends") {
		t.Errorf("the kernel has told nothing: %v\n%s", err, untold.String())
	}
	note(prober.ReasonOK, a)
	expect(cause.ProbeOK, "1")
	note(prober.ReasonOK, b)
	expect(cause.ProbeOK, "2")
	if got := p.snapshot(time.Now())[0].Failing; !got.IsZero() {
		t.Errorf("nothing has failed, and it fails since %s", got)
	}
	began := time.Now()
	note(prober.ReasonTimeout, netip.AddrPort{})
	ended := time.Now()
	note(prober.ReasonTimeout, netip.AddrPort{})
	expect(cause.ProbeDataplane, "2")
	if got := p.snapshot(time.Now())[0].Failing; got.Before(began) || got.After(ended) {
		t.Errorf("it fails since %s, want since the first of both at %s", got, began)
	}
	failures := p.reports(p.snapshot(time.Now()))[0].Failures
	if len(failures) != 2 || !strings.Contains(failures[0], "10.96.0.7:80: timeout") || strings.Contains(failures[0], "10.1.0.1") {
		t.Errorf("what failed: %q", failures)
	}
	for range 2 * keptFailures {
		note(prober.ReasonRefused, netip.AddrPort{})
	}
	if got := p.reports(p.snapshot(time.Now()))[0].Failures; len(got) != keptFailures || !strings.Contains(got[0], "refused") {
		t.Errorf("of many %d are kept: %q", len(got), got)
	}
	target.Sticky = true
	note(prober.ReasonOK, netip.MustParseAddrPort("10.1.0.3:80"))
	var out strings.Builder
	e = newExposition(&out)
	p.write(e, p.snapshot(time.Now()))
	if err := e.end(); err != nil || !strings.Contains(out.String(), `kproxy_probe_backends_expected{ip_family="IPv4",module="http",node="n1",port="80",service="default/web",vantage="host"} 1`) {
		t.Errorf("a client that stays with one: %v\n%s", err, out.String())
	}
	if old := p.snapshot(time.Now().Add(time.Minute)); len(old) != 0 {
		t.Errorf("what is old counts: %+v", old)
	}
	if got := p.targets(); len(got) != 0 || len(p.rounds) != 0 || len(p.seen) != 0 {
		t.Errorf("what is no target is kept: %v %v", got, p.rounds)
	}
}

func FuzzParseProbes(f *testing.F) {
	f.Add("http:80/nodeport, tcp")
	f.Fuzz(func(t *testing.T, text string) {
		specs, err := parseProbeSpecs(text)
		for _, s := range specs {
			if _, unknown := prober.ParseModule(string(s.module)); unknown != nil || err != nil {
				t.Errorf("%q is %+v %v", text, specs, err)
			}
		}
	})
}
