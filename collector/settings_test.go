package collector

import (
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kproxy-exporter/kproxy-exporter/collector/audit"
	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
	"github.com/kproxy-exporter/kproxy-exporter/prober"
)

func TestSettings(t *testing.T) {
	got := settingsOf([]byte(`
mode: nftables
clusterCIDR: 10.0.0.0/8, fd00::/48
configSyncPeriod: 15m
nftables: {masqueradeAll: true, masqueradeBit: 14, minSyncPeriod: 1s}
nodePortAddresses: [10.0.0.0/8]
featureGates: {A: true}
conntrack: {maxPerCore: null}
iptables:
`))
	want := cause.Settings{
		"mode": "nftables", "clustercidr": "10.0.0.0/8,fd00::/48", "configsyncperiod": "15m0s", "nodeportaddresses": `["10.0.0.0/8"]`,
		"nftables.masqueradeall": "true", "nftables.masqueradebit": "14", "nftables.minsyncperiod": "1s", "featuregates.a": "true",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := settingsOf([]byte("[1]")); got != nil {
		t.Errorf("a list gives %v", got)
	}
}

// configz is what kube-proxy v1.37.2 answered in mode nftables.
func configz(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile("testdata/configz.json")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestRunningConfigs(t *testing.T) {
	r := newRunningConfigs()
	say := func(node, life, path string, status int, body string) bool {
		return r.page(prober.PortTarget{Node: node, Life: life}, path, status, []byte(body))
	}
	if r.of("n1", "a") != nil {
		t.Error("it knows before anybody told")
	}
	for _, n := range []string{"n1", "n2"} {
		if !say(n, "a", modePage, http.StatusOK, "nftables\n") || !say(n, "a", configzPage, http.StatusOK, strings.Replace(configz(t), `"hostnameOverride":"n1"`, `"hostnameOverride":"`+n+`"`, 1)) {
			t.Fatal("not understood")
		}
	}
	one, two := r.of("n1", "a"), r.of("n2", "a")
	if one.Mode != "nftables" || one.Hostname != "n1" || two.Hostname != "n2" || !one.Settings.Versioned || one.Settings.Settings["clustercidr"] != "10.244.0.0/16" {
		t.Errorf("got %+v, %+v", one, two)
	}
	if one.Settings != two.Settings {
		t.Error("the same settings are held twice")
	}
	for range 100 { // more settings than are kept to share
		say("n3", "a", configzPage, http.StatusOK, fmt.Sprintf(`{"kubeproxy.config.k8s.io":{"Mode":"m%d"}}`, len(r.shared)+1))
	}
	if len(r.shared) > 16 {
		t.Errorf("%d settings are held", len(r.shared))
	}
	same := cause.NewRunningSettings(cause.Settings{"mode": "x"}, true)
	if r.share(same) != same || r.share(cause.NewRunningSettings(cause.Settings{"mode": "x"}, false)) == same {
		t.Error("settings of different forms are shared")
	}
	if r.of("n1", "b") != nil || r.of("n1", "") != nil {
		t.Error("another container is not what told")
	}
	if old := r.of("n3", "a"); old.Settings.Versioned || old.Settings.Settings["mode"] == "" {
		t.Errorf("the internal form: %+v", old)
	}
	if say("n1", "b", modePage, http.StatusNotFound, "<html>") {
		t.Error("a page that is not there is understood")
	}
	if b := r.of("n1", "b"); b == nil || !b.Foreign || b.Mode != "" || b.Settings != nil {
		t.Errorf("somebody else's: %+v", b)
	}
	if say("n1", "b", modePage, http.StatusOK, "iptables"); r.of("n1", "b").Foreign {
		t.Error("still foreign")
	}
	for _, body := range []string{"", "{}", "null", "[]", `{"kubeproxy.config.k8s.io":null}`, `{"kubeproxy.config.k8s.io":{}}`, `{"kubeproxy.config.k8s.io":{"a":1}}`, `{"kubeproxy.config.k8s.io":"x"}`, "{"} {
		if say("n1", "b", configzPage, http.StatusOK, body) || r.of("n1", "b").Settings != nil {
			t.Errorf("%s is understood", body)
		}
	}
	if say("n1", "b", modePage, http.StatusOK, "ok") || say("n1", "b", modePage, http.StatusForbidden, "iptables") {
		t.Error("that is no mode")
	}
	r.forget("n1")
	if r.of("n1", "b") != nil {
		t.Error("not forgotten")
	}
}

// TestConfigzForms reads the same configuration in each form in which kube-proxy
// shows it: marshalled from the types of v1.30.14 and v1.33.13, and as v1.37.2
// answered it. The pod ranges must reach the audit and the comparison with the
// ConfigMap alike.
func TestConfigzForms(t *testing.T) {
	both := []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/56")}
	tests := map[string]struct {
		versioned bool
		ranges    []netip.Prefix
	}{
		"configz-1.30.json": {false, both},
		"configz-1.33.json": {false, both},
		"configz.json":      {true, both[:1]},
	}
	for file, want := range tests {
		t.Run(file, func(t *testing.T) {
			page, err := os.ReadFile("testdata/" + file)
			if err != nil {
				t.Fatal(err)
			}
			settings, versioned, ok := parseConfigz(page)
			if !ok || versioned != want.versioned {
				t.Fatalf("parsed: %t, versioned: %t", ok, versioned)
			}
			running := cause.NewRunningSettings(settings, versioned)
			if diff := cmp.Diff(want.ranges, running.ClusterCIDRs, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
				t.Error("running settings:", diff)
			}
			c, lacks := newAuditConfig(audit.ModeNFTables, settings)
			if lacks != "" {
				t.Fatal("the audit lacks", lacks)
			}
			if diff := cmp.Diff(want.ranges, c.cidrs, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
				t.Error("audit:", diff)
			}
			if c.detect != "ClusterCIDR" || c.MasqueradeAll {
				t.Errorf("audit: detectLocalMode %s, masqueradeAll %t", c.detect, c.MasqueradeAll)
			}
			other := settingsOf([]byte("clusterCIDR: 10.1.0.0/16"))
			if diff := cmp.Diff([]string{"clustercidr"}, other.Differs(running)); diff != "" {
				t.Error("another clusterCIDR in the ConfigMap:", diff)
			}
		})
	}
	if _, lacks := newAuditConfig(audit.ModeNFTables, cause.Settings{"clustercidr": "10.244.0.0/16,x"}); lacks != "kube-proxy's clusterCIDR" {
		t.Errorf("a clusterCIDR that is not one: lacks %q", lacks)
	}
}

func FuzzConfigz(f *testing.F) {
	f.Add([]byte(configz(f)))
	f.Add([]byte(`{"kubeproxy.config.k8s.io":{"Mode":"x","DetectLocal":{"ClusterCIDRs":["10.244.0.0/16",1]}}}`))
	f.Add([]byte(`{"kubeproxy.config.k8s.io":{"Mode":"x","a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":1}}}}}}}}}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		settings, _, ok := parseConfigz(body)
		if ok != (settings != nil) {
			t.Errorf("%v and %v", ok, settings)
		}
		for path := range settings {
			if strings.Count(path, ".") >= settingsDepth && path == strings.ToLower(path) && !strings.Contains(string(body), ".") {
				t.Errorf("too deep: %q", path)
			}
		}
	})
}
