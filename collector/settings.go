package collector

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
)

// Bounds of a configuration: it is foreign input.
const (
	settingsDepth = 8
	settingsMany  = 1000
)

// configzKey is under which kube-proxy's /configz shows its configuration.
const configzKey = "kubeproxy.config.k8s.io"

// configzVersion is the version in which /configz shows the configuration since
// Kubernetes 1.36. Older versions show the internal form, which keeps some
// settings in other places.
const configzVersion = "kubeproxy.config.k8s.io/v1alpha1"

// settingsOf flattens a KubeProxyConfiguration in YAML or JSON; nil if it is none.
func settingsOf(text []byte) cause.Settings {
	text, err := yaml.YAMLToJSON(text)
	if err != nil {
		return nil
	}
	return settingsOfJSON(text)
}

func settingsOfJSON(text []byte) cause.Settings {
	var tree map[string]any
	if json.Unmarshal(text, &tree) != nil || tree == nil {
		return nil
	}
	out := cause.Settings{}
	flatten(out, "", tree, settingsDepth)
	return out
}

// flatten writes the leaves below path: names in lower case, because the
// internal form spells them as Go does; values as text.
func flatten(out cause.Settings, path string, value any, depth int) {
	if depth == 0 || len(out) > settingsMany {
		return
	}
	switch v := value.(type) {
	case map[string]any:
		for k, below := range v {
			flatten(out, strings.TrimPrefix(path+"."+strings.ToLower(k), "."), below, depth-1)
		}
	case nil:
	case string:
		if d, err := time.ParseDuration(v); err == nil {
			v = d.String()
		}
		out[path] = strings.ReplaceAll(v, " ", "")
	case bool:
		out[path] = strconv.FormatBool(v)
	case float64:
		out[path] = strconv.FormatFloat(v, 'f', -1, 64)
	default: // lists
		b, err := json.Marshal(v)
		if err == nil {
			out[path] = string(b)
		}
	}
}

// parseConfigz reads what /configz answered.
func parseConfigz(body []byte) (settings cause.Settings, versioned, ok bool) {
	var all map[string]json.RawMessage
	if json.Unmarshal(body, &all) != nil || all[configzKey] == nil {
		return nil, false, false
	}
	settings = settingsOfJSON(all[configzKey])
	if settings == nil || settings["mode"] == "" && settings["hostnameoverride"] == "" && settings["bindaddress"] == "" {
		return nil, false, false
	}
	// Kubernetes 1.31 to 1.35 show clusterCIDR as the list DetectLocal.ClusterCIDRs
	// (pkg/proxy/apis/config/types.go).
	if list, ok := settings["detectlocal.clustercidrs"]; ok && settings["clustercidr"] == "" {
		var ranges []string
		if json.Unmarshal([]byte(list), &ranges) != nil {
			return nil, false, false
		}
		settings["clustercidr"] = strings.Join(ranges, ",")
	}
	return settings, settings["apiversion"] == configzVersion, true
}
