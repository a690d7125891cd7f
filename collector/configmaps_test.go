package collector

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
)

func TestParseConfig(t *testing.T) {
	const head = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
	for _, tc := range []struct {
		name string
		data map[string]string
		want cause.Config
		err  string
	}{
		{"kubeadm", map[string]string{"config.conf": head + "mode: nftables\nclusterCIDR: 10.244.0.0/16,fd00:1::/48\nmetricsBindAddress: 0.0.0.0:10249\n", "kubeconfig.conf": "kind: Config"},
			cause.Config{Mode: "nftables", MetricsBind: "0.0.0.0:10249", ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:1::/48")}}, ""},
		{"EKS", map[string]string{"config": head + "mode: iptables\nhostnameOverride: x\n"}, cause.Config{Mode: "iptables", Hostname: "x"}, ""},
		{"under another key", map[string]string{"a.yaml": "x: y", "proxy.yaml": head + "detectLocalMode: NodeCIDR\n"}, cause.Config{DetectLocal: "NodeCIDR"}, ""},
		{"a range that is none", map[string]string{"config": head + "clusterCIDR: 10.0.0.0/8, ten\n"},
			cause.Config{ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, BadCIDRs: []string{"ten"}}, ""},
		{"no configuration", map[string]string{"kubeconfig.conf": "kind: Config"}, cause.Config{Missing: true}, ""},
		{"nothing", nil, cause.Config{Missing: true}, ""},
		{"not YAML", map[string]string{"config.conf": "{ " + head}, cause.Config{}, "yaml"},
		{"another kind", map[string]string{"config.conf": "kind: KubeletConfiguration\n"}, cause.Config{}, "KubeletConfiguration"},
		{"a wrong type", map[string]string{"config.conf": head + "iptables: [1]\n"}, cause.Config{}, "iptables"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.want.Name = "kube-system/kube-proxy"
			got := parseConfig(tc.want.Name, tc.data)
			if (tc.err == "") != (got.Error == "") || !strings.Contains(got.Error, tc.err) {
				t.Errorf("error %q, want one with %q", got.Error, tc.err)
			}
			if (got.Error != "" || got.Missing) != (got.Settings == nil) {
				t.Errorf("settings %v", got.Settings)
			}
			got.Settings = nil // TestSettings
			if got.Error = ""; !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add("kind: KubeProxyConfiguration\nclusterCIDR: 10.0.0.0/8\n")
	f.Add("{")
	f.Add("clusterCIDR: ,,::/0")
	f.Fuzz(func(t *testing.T, text string) {
		c := parseConfig("x", map[string]string{"config": text})
		if c.Missing {
			t.Error("a configuration is called missing")
		}
		for _, p := range c.ClusterCIDRs {
			if !p.IsValid() {
				t.Errorf("range %v", p)
			}
		}
	})
}

func TestCiliumClaims(t *testing.T) {
	for value, want := range map[string]string{"true": cause.ReasonCilium, "strict": cause.ReasonCilium, "false": "", "partial": "", "": ""} {
		row, ok := convertConfigMap(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: ciliumConfig}, Data: map[string]string{"kube-proxy-replacement": value}})
		if !ok || row.replaces != want {
			t.Errorf("%q gives %+v", value, row)
		}
	}
}

func TestFlagValue(t *testing.T) {
	for argv, want := range map[string]struct {
		value string
		found bool
	}{
		"kube-proxy --config=x":                                  {"", false},
		"kube-proxy --hostname-override=$(NODE_NAME)":            {"", true},
		"kube-proxy --hostname-override=n2":                      {"n2", true},
		"kube-proxy --hostname-override n2":                      {"n2", true},
		"kube-proxy --hostname-override":                         {"", true},
		"sh -c exec|kube-proxy|--hostname-override=${NODE_NAME}": {"", true},
	} {
		fields := strings.Fields(argv)
		for i := range fields {
			fields[i] = strings.ReplaceAll(fields[i], "|", " ")
		}
		if value, found := flagValue(fields, "--hostname-override"); value != want.value || found != want.found {
			t.Errorf("%s: got %q %v", argv, value, found)
		}
	}
}
