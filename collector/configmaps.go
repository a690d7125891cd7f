package collector

import (
	"errors"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/kube-proxy/config/v1alpha1"
	"sigs.k8s.io/yaml"

	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
)

// configMapNames are the ConfigMaps that are read: kube-proxy's as kubeadm and
// as EKS call it, and the one in which Cilium says whether it replaces it.
var configMapNames = []string{"kube-proxy", "kube-proxy-config", ciliumConfig}

const ciliumConfig = "cilium-config"

// configRow is what is kept of one of them.
type configRow struct {
	config cause.Config
	// replaces is the reason that a replacement gives; empty for kube-proxy's own.
	replaces string
	cilium   bool
	// keeps reports that Cilium leaves Services to kube-proxy.
	keeps bool
}

func convertConfigMap(object any) (configRow, bool) {
	m, ok := object.(*corev1.ConfigMap)
	if !ok || !slices.Contains(configMapNames, m.Name) {
		return configRow{}, false
	}
	if m.Name == ciliumConfig {
		row := configRow{cilium: true}
		switch m.Data["kube-proxy-replacement"] {
		case "true", "strict":
			row.replaces = cause.ReasonCilium
		case "false", "disabled", "partial", "probe":
			row.keeps = true // the last three before Cilium 1.15
		}
		return row, true
	}
	row := configRow{config: parseConfig(m.Namespace+"/"+m.Name, m.Data)}
	for _, f := range m.ManagedFields {
		if f.Time != nil && f.Time.After(row.config.Modified) {
			row.config.Modified = f.Time.Time
		}
	}
	return row, true
}

// parseConfig finds kube-proxy's configuration among a ConfigMap's keys and
// reads it with the upstream type.
func parseConfig(name string, data map[string]string) cause.Config {
	out := cause.Config{Name: name, Missing: true}
	keys := make([]string, 0, len(data))
	for k := range data {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		if k != "config.conf" && k != "config" && !strings.Contains(data[k], "KubeProxyConfiguration") {
			continue
		}
		out.Missing = false
		var c v1alpha1.KubeProxyConfiguration
		if err := decodeConfig(data[k], &c); err != nil {
			out.Error = err.Error()
			return out
		}
		out.Mode, out.DetectLocal, out.Hostname = string(c.Mode), string(c.DetectLocalMode), c.HostnameOverride
		out.Settings = settingsOf([]byte(data[k]))
		out.MetricsBind, out.HealthzBind = c.MetricsBindAddress, c.HealthzBindAddress
		out.ClusterCIDRs, out.BadCIDRs = cause.ParseCIDRs(c.ClusterCIDR)
		return out
	}
	return out
}

func decodeConfig(text string, into *v1alpha1.KubeProxyConfiguration) error {
	if err := yaml.Unmarshal([]byte(text), into); err != nil {
		return err
	}
	if into.Kind != "" && into.Kind != "KubeProxyConfiguration" {
		return errors.New("it is a " + into.Kind)
	}
	return nil
}
