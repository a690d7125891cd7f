package collector

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/go-kit/log"
	corev1 "k8s.io/api/core/v1"

	"github.com/kproxy-exporter/kproxy-exporter/prober"
)

// onceNode is a node role that knows these Services, and dials nothing before it
// is asked.
func onceNode(t *testing.T, services ...*corev1.Service) *Node {
	t.Helper()
	n, err := NewNode(NodeConfig{Name: "n1", ProcPath: t.TempDir(), RootPath: t.TempDir(), APIInterval: time.Minute, Logger: log.NewNopLogger(),
		Probe: ProbeConfig{Interval: 10 * time.Second, Timeout: 300 * time.Millisecond, DNSName: "x."}})
	if err != nil {
		t.Fatal(err)
	}
	n.probes.backend = nil
	for _, s := range services {
		if w, ok := n.desired.convertService(s); ok {
			n.desired.keep(nil, &w, true, time.Now())
		}
	}
	return n
}

// Nothing but a Service of the cluster can be reached, however it is asked for.
func TestProbeOnceRefuses(t *testing.T) {
	external := clusterIP("out", "")
	external.Spec.Type, external.Spec.ExternalName = corev1.ServiceTypeExternalName, "169.254.169.254"
	metadata := clusterIP("metadata", "169.254.169.254")
	own := clusterIP("own", "127.0.0.1", "::1")
	n := onceNode(t, clusterIP("web", "192.0.2.7"), external, clusterIP("headless", "None"), metadata, own)
	for _, tc := range []struct {
		service, port, module string
		want                  error
	}{
		{"", "", "tcp", ErrProbeNone}, {"default", "", "tcp", ErrProbeNone}, {"127.0.0.1", "80", "tcp", ErrProbeNone},
		{"http://127.0.0.1/", "80", "tcp", ErrProbeNone}, {"default/web/x", "", "tcp", ErrProbeNone}, {"default/../default/web", "", "tcp", ErrProbeNone},
		{"default/web\x00", "", "tcp", ErrProbeNone}, {"DEFAULT/WEB", "", "tcp", ErrProbeNone}, {"default%2Fweb", "", "tcp", ErrProbeNone},
		{"default/out", "", "tcp", ErrProbeNone}, {"default/headless", "", "tcp", ErrProbeNone},
		{"default/web", "10250", "tcp", ErrProbeRequest}, {"default/web", "0", "tcp", ErrProbeRequest}, {"default/web", "65616", "tcp", ErrProbeRequest},
		{"default/web", "-80", "tcp", ErrProbeRequest}, {"default/web", "080", "tcp", ErrProbeRequest}, {"default/web", "80 tcp:10250", "tcp", ErrProbeRequest},
		{"default/web", "80,tcp", "tcp", ErrProbeRequest}, {"default/web", "80@127.0.0.1", "tcp", ErrProbeRequest}, {"default/web", "", "", ErrProbeRequest},
		{"default/web", "", "icmp", ErrProbeRequest}, {"default/web", "", "tcp http", ErrProbeRequest}, {"default/web", "", "udp", ErrProbeRequest},
	} {
		rounds, err := n.ProbeOnce(t.Context(), tc.service, tc.port, tc.module)
		if !errors.Is(err, tc.want) || len(rounds) > 0 {
			t.Errorf("%q %q %q: %v %v, want %v", tc.service, tc.port, tc.module, rounds, err, tc.want)
		}
	}
	for _, name := range []string{"default/metadata", "default/own"} { // no API server gives such an address
		if rounds, err := n.ProbeOnce(t.Context(), name, "", "tcp"); err != nil || len(rounds) > 0 {
			t.Errorf("%s is dialled: %v %v", name, rounds, err)
		}
	}
	off, err := NewNode(NodeConfig{Name: "n1", APIInterval: time.Minute, Logger: log.NewNopLogger()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := off.ProbeOnce(t.Context(), "default/web", "", "tcp"); !errors.Is(err, ErrProbeOff) {
		t.Errorf("probing is off: %v", err)
	}
}

// What it finds, and that a redirect is not followed.
func TestWriteRounds(t *testing.T) {
	followed := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed = true }))
	defer other.Close()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) }))
	defer s.Close()
	n := onceNode(t)
	at := netip.MustParseAddrPort(strings.TrimPrefix(s.URL, "http://"))
	closed := netip.AddrPortFrom(at.Addr(), 1)
	target := &prober.ServiceTarget{Service: "default/web", Port: 80, Module: prober.ModuleHTTP, VIP: at, Endpoints: []prober.Endpoint{{Address: at}, {Address: closed}}}
	round := n.probes.asker.Ask(t.Context(), target, 0, nil)
	if followed {
		t.Error("the redirect was followed")
	}
	var out strings.Builder
	if err := WriteRounds(&out, []*prober.Round{round}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"probe_success 1\n", `probe_path_success{ip_family="IPv4",path="vip"} 1`, `probe_path_success{ip_family="IPv4",path="endpoint"} 0`,
		`probe_phase_duration_seconds{ip_family="IPv4",phase="answer"} `, "probe_duration_seconds 0.",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %s:\n%s", want, out.String())
		}
	}
	out.Reset()
	target.VIP = closed
	if err := WriteRounds(&out, []*prober.Round{round, n.probes.asker.Ask(t.Context(), target, 0, nil)}); err != nil || !strings.Contains(out.String(), "probe_success 0\n") {
		t.Errorf("one of two failed: %v\n%s", err, out.String())
	}
	out.Reset()
	if err := WriteRounds(&out, nil); err != nil || !strings.Contains(out.String(), "probe_success 0\n") {
		t.Errorf("nothing was asked: %v\n%s", err, out.String())
	}
}
