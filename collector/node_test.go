package collector

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
	"github.com/kproxy-exporter/kproxy-exporter/collector/local"
	"github.com/kproxy-exporter/kproxy-exporter/prober"
)

// fakeKubeProxy answers as kube-proxy does on its two ports; pages replace its
// answers.
func fakeKubeProxy(t *testing.T, pages map[string]func(http.ResponseWriter)) (metrics, healthz netip.AddrPort) {
	t.Helper()
	answer := func(text string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { fmt.Fprint(w, text) }
	}
	now := float64(time.Now().Unix())
	all := map[string]func(http.ResponseWriter){
		"/healthz":   answer(`{"nodeEligible":true,"healthy":true}`),
		"/livez":     answer(`{"healthy":true}`),
		"/proxyMode": answer("nftables"),
		"/configz":   answer(configz(t)),
		"/metrics": answer(fmt.Sprintf("process_start_time_seconds %f\nprocess_open_fds 12\nprocess_max_fds 20000\n"+
			"kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family=\"IPv4\"} %f\nkubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv4\"} %f\n", now-3600, now-1801, now-1800)),
	}
	for path, page := range pages {
		all[path] = page
	}
	serve := func() netip.AddrPort {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			page := all[r.URL.Path]
			if page == nil {
				http.NotFound(w, r)
				return
			}
			page(w)
		}))
		t.Cleanup(s.Close)
		return netip.MustParseAddrPort(strings.TrimPrefix(s.URL, "http://"))
	}
	return serve(), serve()
}

// fakeProc is a /proc with a kube-proxy that has these ports.
func fakeProc(t *testing.T, metrics, healthz netip.AddrPort) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"stat": "btime 1700000000\n", "7/comm": "kube-proxy\n", "7/cmdline": "kube-proxy\x00--config=/config.conf\x00",
		"7/stat":    "7 (kube-proxy) S 1 7 7 0 -1 4194560 2447 0 0 0 6 3 0 0 20 0 9 0 100 1518698496 27000 18446744073709551615 1 1 0 0 0 0 0 0 2143420159 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n",
		"7/environ": "PATH=/bin\x00", "7/root/bin/nft": "", "sys/net/ipv4/ip_forward": "1\n",
		"7/root/config.conf":                   fmt.Sprintf("mode: nftables\nmetricsBindAddress: %s\nhealthzBindAddress: %s\n", metrics, healthz),
		"sys/net/netfilter/nf_conntrack_count": "10\n", "sys/net/netfilter/nf_conntrack_max": "1000\n",
	} {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func newTestNode(t *testing.T, proc string) *Node {
	t.Helper()
	n, err := NewNode(NodeConfig{Name: "n1", ProcPath: proc, RootPath: t.TempDir(), APIInterval: time.Minute, Logger: log.NewNopLogger()})
	if err != nil {
		t.Fatal(err)
	}
	n.ruleWorlds = func(local.RuleWorlds) (local.RuleWorlds, error) { return local.RuleWorlds{}, errors.New("not here") }
	return n
}

// readAll asks every reader of kube-proxy often enough to be believed.
func (n *Node) readAll(t *testing.T) {
	t.Helper()
	for range 2 {
		for _, r := range n.readers {
			if err := r.read(t.Context()); err != nil {
				r.contact.failed(err)
			} else {
				r.contact.succeeded(time.Millisecond)
			}
			r.contact.markSynced()
		}
	}
}

func TestNodeIsWell(t *testing.T) {
	at, healthz := fakeKubeProxy(t, nil)
	n := newTestNode(t, fakeProc(t, at, healthz))
	if ok, lacks := n.Ready(); ok || lacks == "" {
		t.Error("ready before anything was read")
	}
	n.readAll(t)
	if ok, lacks := n.Ready(); !ok {
		t.Errorf("%s was not read", lacks)
	}
	report := n.Report().Nodes[0]
	if report.State() != StateHealthy || report.Reason != cause.ReasonProcess {
		t.Errorf("got %+v", report)
	}
	var out bytes.Buffer
	if err := n.WriteMetrics(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`kproxy_primary_cause{cause="none",detail="",node="n1"} 1`, `kproxy_healthy{node="n1"} 1`,
		`kproxy_cause_active{cause="rules_stale",node="n1"} 0`, `kproxy_cause_active{cause="conntrack_full",node="n1"} 0`,
		`kproxy_reader_success{node="n1",reader="kube_proxy"} 1`, `kproxy_reader_success{node="n1",reader="api_endpoints"} 0`,
		fmt.Sprintf(`kproxy_endpoint_up{node="n1",port="%d",vantage="localhost"} 1`, at.Port()),
		`kproxy_sync_last_timestamp_seconds{ip_family="IPv4",node="n1"}`,
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %s:\n%s", want, out.String())
		}
	}
	// What was not asked is neither 0 nor 1.
	for _, not := range []string{`cause="api_unreachable"`, `cause="node_not_ready"`, `cause="conflicting_rules"`} {
		if strings.Contains(out.String(), not) {
			t.Errorf("it judges %s", not)
		}
	}
	if problems, err := promlint.New(&out).Lint(); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
	// What is old is unknown, each for itself.
	n.noteAPI(cause.KindKubeProxy, prober.APITarget{Host: "10.0.0.1", Port: "6443"}, prober.APIResult{Class: prober.APIOK})
	n.seen.rules, n.seen.log, n.seen.runtime = &cause.RuleWorlds{}, &cause.Log{}, &cause.Socket{}
	for _, r := range n.readers {
		r.contact.succeeded(0)
	}
	if l := n.snapshot(time.Now()).Local; l.Rules == nil || l.Log == nil || l.Needs == nil || len(l.API) != 1 {
		t.Errorf("now: %+v", l)
	}
	old := n.snapshot(time.Now().Add(time.Hour))
	if l := old.Local; l.Rules != nil || l.Log != nil || l.Needs != nil || l.Conntrack != nil || l.Inotify != nil || l.Runtime != nil || len(l.API) != 0 || l.Proxy.Seen || l.Proxy.Ports.Metrics.Outcome != "" || old.Expected != nil {
		t.Errorf("an hour later: %+v %+v", l, l.Proxy)
	}
}

func TestNodeIsSick(t *testing.T) {
	status := func(code int) func(http.ResponseWriter) { return func(w http.ResponseWriter) { w.WriteHeader(code) } }
	for name, tc := range map[string]struct {
		pages map[string]func(http.ResponseWriter)
		want  string
	}{
		"/livez fails":                   {map[string]func(http.ResponseWriter){"/healthz": status(503), "/livez": status(503)}, "rules_stale/sync_stuck"},
		"somebody else answers":          {map[string]func(http.ResponseWriter){"/proxyMode": status(404), "/configz": status(404), "/metrics": status(404)}, "port_conflict/metrics"},
		"it is being drained":            {map[string]func(http.ResponseWriter){"/healthz": status(503)}, ""},
		"an old version":                 {map[string]func(http.ResponseWriter){"/livez": status(404), "/configz": status(404)}, ""},
		"its metrics are no text":        {map[string]func(http.ResponseWriter){"/metrics": func(w http.ResponseWriter) { fmt.Fprint(w, "process_open_fds {") }}, ""},
		"it runs as another":             {map[string]func(http.ResponseWriter){"/configz": func(w http.ResponseWriter) { fmt.Fprint(w, strings.Replace(configz(t), `"n1"`, `"other"`, 1)) }}, "config_mismatch/hostname"},
		"its descriptors run out":        {map[string]func(http.ResponseWriter){"/metrics": func(w http.ResponseWriter) { fmt.Fprint(w, "process_open_fds 99\nprocess_max_fds 100\n") }}, "resource_exhausted/file_descriptors"},
		"another answers for its health": {map[string]func(http.ResponseWriter){"/healthz": func(w http.ResponseWriter) { fmt.Fprint(w, "ok") }}, "port_conflict/healthz"},
		"it never wrote its rules": {map[string]func(http.ResponseWriter){"/metrics": func(w http.ResponseWriter) {
			fmt.Fprint(w, "process_start_time_seconds 1.7e9\nkubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family=\"IPv6\"} 1.7e9\n")
		}}, "rules_stale/never_synced"},
	} {
		t.Run(name, func(t *testing.T) {
			metrics, healthz := fakeKubeProxy(t, tc.pages)
			n := newTestNode(t, fakeProc(t, metrics, healthz))
			n.readAll(t)
			report := n.Report().Nodes[0]
			got := ""
			if report.Primary != nil {
				got = report.Primary.Cause + "/" + report.Primary.Detail
			}
			if got != tc.want {
				t.Errorf("got %q, want %q: %+v", got, tc.want, report.Causes)
			}
		})
	}
}

func primaryOf(n *Node) string {
	if p := n.Report().Nodes[0].Primary; p != nil {
		return p.Cause + "/" + p.Detail
	}
	return ""
}

// What kube-proxy needs goes, and comes back.
func TestNodeNeeds(t *testing.T) {
	metrics, healthz := fakeKubeProxy(t, nil)
	n := newTestNode(t, fakeProc(t, metrics, healthz))
	expect := func(what, want string) {
		t.Helper()
		if err := n.readNeeds(t.Context()); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if got := primaryOf(n); got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	n.readAll(t)
	n.cfg.VIPHost = "10.96.0.1"
	expect("nothing lacks", "")
	nft := filepath.Join(n.cfg.ProcPath, "7/root/bin/nft")
	if err := os.Remove(nft); err != nil {
		t.Fatal(err)
	}
	expect("no nft", "prerequisite_missing/binary")
	if err := os.WriteFile(nft, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	expect("nft again", "")
	forward := filepath.Join(n.cfg.ProcPath, "sys/net/ipv4/ip_forward")
	if err := os.WriteFile(forward, []byte("0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	expect("no forwarding, since just now", "")
	since := time.Now().Add(-time.Hour)
	n.seen.needs.NoForwarding = since
	expect("no forwarding for long", "prerequisite_missing/sysctl")
	if !n.seen.needs.NoForwarding.Equal(since) {
		t.Errorf("since %v", n.seen.needs.NoForwarding)
	}
	if err := os.RemoveAll(filepath.Join(n.cfg.ProcPath, "7")); err != nil {
		t.Fatal(err)
	}
	if err := n.readNeeds(t.Context()); err != nil || n.seen.needs == nil {
		t.Errorf("it has ended: %v", err)
	}
	if err := os.WriteFile(forward, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := n.readNeeds(t.Context()); err == nil || n.seen.needs != nil {
		t.Errorf("no number: %v %+v", err, n.seen.needs)
	}
}

// A change of which kube-proxy does not hear, until it does.
func TestNodeUnheard(t *testing.T) {
	queued := time.Now().Add(-time.Hour)
	metrics, healthz := fakeKubeProxy(t, map[string]func(http.ResponseWriter){"/metrics": func(w http.ResponseWriter) {
		fmt.Fprintf(w, "process_start_time_seconds 1.7e9\nkubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family=\"IPv4\"} %d\n"+
			"kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv4\"} %d\n", queued.Unix(), queued.Unix()+1)
	}})
	n := newTestNode(t, fakeProc(t, metrics, healthz))
	n.readAll(t)
	at := time.Now().Add(-2 * time.Minute)
	c := change{"Service default/x", at, at.Add(-late)}
	n.desired.unheard["IPv4"] = unheard{c, c}
	n.readAll(t)
	if got := primaryOf(n); got != "rules_stale/watch_stale" {
		t.Errorf("got %q", got)
	}
	queued = time.Now()
	n.readAll(t)
	if got := primaryOf(n); got != "" {
		t.Errorf("it has heard, and %q", got)
	}
	n.desired.unheard["IPv4"] = unheard{c, c}
	n.seen.metrics = &local.ProxyMetrics{Started: time.Now(), Families: map[string]local.FamilyMetrics{"IPv4": {}}}
	n.followFamilies(time.Now())
	if got := n.desired.waits("IPv4"); got.what != "" {
		t.Errorf("a kube-proxy that has just begun waits for %+v", got)
	}
	n.readAll(t)
	n.desired.unheard["IPv6"] = unheard{c, c} // of which its metrics say nothing
	n.readAll(t)
	if got := primaryOf(n); got != "" {
		t.Errorf("a family that it does not serve: %q", got)
	}
}

// A kube-proxy inside another process, and one whose configuration may not be read.
func TestNodeUnseen(t *testing.T) {
	metrics, healthz := fakeKubeProxy(t, nil)
	n := newTestNode(t, fakeProc(t, metrics, healthz))
	n.readAll(t)
	if err := os.RemoveAll(filepath.Join(n.cfg.ProcPath, "7")); err != nil {
		t.Fatal(err)
	}
	n.seen.processAlive = time.Time{} // as if it had never been seen
	if err := n.readProcess(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.seen.addresses = proxyAddresses{metrics, healthz}
	if report := n.Report().Nodes[0]; report.State() != StateHealthy {
		t.Errorf("inside another process: %+v", report)
	}
	n.seen.processAlive = time.Now()
	if report := n.Report().Nodes[0]; report.State() != StateUnwell {
		t.Errorf("it has ended: %+v", report)
	}
	n = newTestNode(t, fakeProc(t, netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddrPort("127.0.0.1:1")))
	if err := os.Remove(filepath.Join(n.cfg.ProcPath, "7/root/config.conf")); err != nil {
		t.Fatal(err)
	}
	n.readAll(t)
	if report := n.Report().Nodes[0]; report.State() != StateUnknown {
		t.Errorf("its ports are not known: %+v", report)
	}
	var out bytes.Buffer
	if err := n.WriteMetrics(&out); err != nil || strings.Contains(out.String(), "kproxy_endpoint_up") {
		t.Errorf("its ports are not known: %v\n%s", err, out.String())
	}
}

// A node without kube-proxy: nobody knows whether it should have one.
func TestNodeWithoutKubeProxy(t *testing.T) {
	n := newTestNode(t, fakeProc(t, netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddrPort("127.0.0.1:2")))
	if err := os.RemoveAll(filepath.Join(n.cfg.ProcPath, "7")); err != nil {
		t.Fatal(err)
	}
	n.readAll(t)
	report := n.Report().Nodes[0]
	if report.State() != StateUnknown || report.Expected != nil || len(report.Causes) != 0 {
		t.Errorf("got %+v", report)
	}
}

func TestFollowFamilies(t *testing.T) {
	n := newTestNode(t, t.TempDir())
	at := func(s int) time.Time { return begin.Add(time.Duration(s) * time.Second) }
	see := func(now int, f local.FamilyMetrics) time.Time {
		n.seen.metrics = &local.ProxyMetrics{Started: at(0), Families: map[string]local.FamilyMetrics{"IPv4": f}}
		n.followFamilies(at(now))
		return n.families["IPv4"].failing
	}
	if got := see(10, local.FamilyMetrics{Synced: at(5), Queued: at(4), Failures: 3}); !got.IsZero() {
		t.Errorf("it failed once and has synced since: failing since %v", got)
	}
	if got := see(20, local.FamilyMetrics{Synced: at(5), Queued: at(19), Failures: 4}); got != at(20) {
		t.Errorf("failing since %v", got)
	}
	if got := see(30, local.FamilyMetrics{Synced: at(5), Queued: at(19), Failures: 9}); got != at(20) {
		t.Errorf("still failing since %v", got)
	}
	if got := see(40, local.FamilyMetrics{Synced: at(35), Queued: at(19), Failures: 9}); !got.IsZero() {
		t.Errorf("it has synced: failing since %v", got)
	}
	if got := see(50, local.FamilyMetrics{Synced: at(35), Queued: at(36), Failures: 10}); got != at(50) {
		t.Errorf("failing again since %v", got)
	}
	// Another process counts anew, and may have failed before we came.
	n.seen.metrics = &local.ProxyMetrics{Started: at(60), Families: map[string]local.FamilyMetrics{"IPv4": {Queued: at(61), Failures: 1}}}
	n.followFamilies(at(70))
	if got := n.families["IPv4"].failing; got != at(61) {
		t.Errorf("a new process: failing since %v", got)
	}
}

func TestBound(t *testing.T) {
	other := netip.MustParseAddrPort("127.0.0.1:10249")
	for written, want := range map[string]string{
		"": "127.0.0.1:10249", "0.0.0.0:10250": "127.0.0.1:10250", "[::]:1": "127.0.0.1:1", "10.0.0.1:2": "10.0.0.1:2", "[fd00::1]:3": "[fd00::1]:3",
		"127.0.0.1:4": "127.0.0.1:4", "0.0.0.0": "127.0.0.1:10249", "192.0.2.1": "192.0.2.1:10249", "[fd00::1]": "[fd00::1]:10249", "0.0.0.0:0": "invalid AddrPort", "x": "invalid AddrPort",
	} {
		if got := bound(written, other).String(); got != want {
			t.Errorf("%q: %s, want %s", written, got, want)
		}
	}
}

// A reader that hangs fails, holds up no other, and is not asked twice; one
// that panics only fails.
func TestReadersAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &Node{cfg: NodeConfig{Name: "n1", Logger: log.NewNopLogger()}, desired: &desired{}, history: newHistory(log.NewNopLogger()), runs: newRunningConfigs()}
		release, asked, well := make(chan struct{}), 0, 0
		n.add("hangs", time.Second, func(context.Context) error { asked++; <-release; return nil }, nil)
		n.add("panics", time.Second, func(context.Context) error { panic("oh") }, nil)
		n.add("well", time.Second, func(context.Context) error { well++; return nil }, nil)
		n.add("fails", time.Second, func(context.Context) error { return errors.New("no") }, func() time.Duration { return time.Millisecond })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { n.Run(ctx); close(done) }()
		time.Sleep(time.Minute + time.Millisecond)
		for i, want := range []bool{false, false, true, false} {
			if s := n.readers[i].contact.state(time.Now(), time.Hour); s.ok != want || s.ok == s.failed {
				t.Errorf("%s: %+v", n.readers[i].contact.reader, s)
			}
		}
		if asked != 1 || well < 60 {
			t.Errorf("the one that hangs was asked %d times, the one that is well %d", asked, well)
		}
		close(release)
		synctest.Wait()
		if s := n.readers[0].contact.state(time.Now(), time.Hour); !s.ok {
			t.Errorf("it came back: %+v", s)
		}
		cancel()
		<-done
	})
}

func TestNodeAPI(t *testing.T) {
	api := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }))
	defer api.Close()
	api.Config.ErrorLog = nil
	host, port, err := net.SplitHostPort(api.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	roots := api.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	up := APIEndpoint{cause.KindEndpoint, prober.APITarget{Host: host, Port: port, Roots: roots, Path: livezPath}}
	n := newTestNode(t, t.TempDir())
	n.cfg.VIPHost, n.cfg.VIPPort = "127.0.0.1", "1"
	learn := func(servers ...APIEndpoint) { n.desired.servers["kubernetes"] = servers }
	learn(up)
	if err := n.readEndpoints(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := n.snapshot(time.Now()).Local.API
	if len(got) != 2 || got[0].Class != cause.APIClassOK || got[1].Class != "refused" || got[1].Kind != cause.KindVIP {
		t.Errorf("asked as nobody: %+v", got)
	}
	if !n.unconfirmed(false) || n.unconfirmed(true) || n.waitEndpoints() != confirmAfter || n.waitProxyAPI() != time.Minute {
		t.Error("one failure wants to be confirmed")
	}
	n.cfg.VIPHost = "" // it is no address any more
	if err := n.readEndpoints(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := n.snapshot(time.Now()).Local.API; len(got) != 1 || got[0].Times != 2 || n.unconfirmed(false) {
		t.Errorf("one is left: %+v", got)
	}
	var out bytes.Buffer
	if err := n.WriteMetrics(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		fmt.Sprintf(`kproxy_api_up{endpoint="%s:%s",node="n1",result="ok"} 1`, host, port),
		fmt.Sprintf(`kproxy_api_request_duration_seconds{endpoint="%s:%s",node="n1",phase="tls"}`, host, port),
		fmt.Sprintf(`kproxy_api_certificate_expiry_timestamp_seconds{endpoint="%s:%s",node="n1"}`, host, port),
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %s:\n%s", want, out.String())
		}
	}
	learn(up, up)
	if got := n.waitEndpoints(); got != endpointsRarer*time.Minute {
		t.Errorf("all are well, and are asked after %s", got)
	}
	n.noteAPI(cause.KindKubeProxy, prober.APITarget{Host: "127.0.0.1", Port: "1"}, prober.APIResult{Class: prober.APIRefused})
	if got := n.waitEndpoints(); got != time.Minute || n.waitProxyAPI() != confirmAfter {
		t.Errorf("kube-proxy's address fails, and the others are asked after %s", got)
	}
	learn()
	if err := n.readEndpoints(t.Context()); err == nil {
		t.Error("no address is no answer")
	}
}

// A kube-proxy that ends again and again: its log says why, and is counted.
func TestNodeLogs(t *testing.T) {
	n := newTestNode(t, fakeProc(t, netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddrPort("127.0.0.1:2")))
	if err := os.RemoveAll(filepath.Join(n.cfg.ProcPath, "7")); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(n.cfg.RootPath, "var/log/pods/kube-system_kube-proxy-x_uid/kube-proxy")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := n.readLogs(t.Context()); err != nil {
		t.Fatal(err)
	}
	line := time.Now().UTC().Format(time.RFC3339Nano) + " stderr F E1123 08:15:03.2 86 run.go:72] \"command failed\" err=\"failed validate: x\"\n"
	if err := os.WriteFile(filepath.Join(dir, "0.log"), []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	n.readAll(t)
	report := nodeReport(n.snapshot(time.Now().Add(10*time.Second)), n.history) // it may only be ending before
	if report.Primary == nil || report.Primary.Cause != "crash_loop" || report.Primary.Detail != "config_invalid" || report.Healthy == nil || *report.Healthy {
		t.Errorf("got %+v", report)
	}
	var out bytes.Buffer
	if err := n.WriteMetrics(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"# TYPE kproxy_log_errors_total counter\n", `kproxy_log_errors_total{node="n1",pattern="crash_loop/config_invalid"} 1`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %s:\n%s", want, out.String())
		}
	}
	if err := os.RemoveAll(filepath.Join(n.cfg.RootPath, "var")); err != nil {
		t.Fatal(err)
	}
	if err := n.readLogs(t.Context()); err == nil || n.seen.log != nil {
		t.Errorf("no logs any more: %v %+v", err, n.seen.log)
	}
}
