package local

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// ProxyMetrics is what kube-proxy's own metrics say that matters here.
type ProxyMetrics struct {
	// Started is when the process began; zero if it does not say.
	Started time.Time
	// FilesOpen and FilesMax are its descriptors; 0 if it does not say.
	FilesOpen, FilesMax float64
	// Families are the IP families, by name, of which it says something.
	Families map[string]FamilyMetrics
	// Version is its own, "v1.37.2"; empty if it does not say.
	Version string
}

// FamilyMetrics is what it says of an IP family.
type FamilyMetrics struct {
	// Queued is when a change was last heard of, Synced when the rules were last
	// written; zero if never.
	Queued, Synced time.Time
	// Failures counts the failed tries to write them.
	Failures float64
}

// The metrics that are read (pkg/proxy/metrics of Kubernetes). Before 1.33 those
// of the rules have no label ip_family: they are of the primary family then.
const (
	queuedMetric    = "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds"
	syncedMetric    = "kubeproxy_sync_proxy_rules_last_timestamp_seconds"
	restoreFailures = "kubeproxy_sync_proxy_rules_iptables_restore_failures_total"
	nftFailures     = "kubeproxy_sync_proxy_rules_nftables_sync_failures_total"
)

var readMetrics = []string{
	queuedMetric, syncedMetric, restoreFailures, nftFailures,
	"process_start_time_seconds", "process_open_fds", "process_max_fds", "kubernetes_build_info",
}

// NoFamily is the family of metrics without the label.
const NoFamily = "all"

// Bounds of an exposition: any process may have kube-proxy's port. kube-proxy's
// longest line has some hundred bytes, and of what is read here it has some ten lines.
const (
	metricsLineBytes = 16 << 10
	metricsLabels    = 64  // of a line
	metricsLines     = 256 // that are parsed
)

// ParseProxyMetrics reads an exposition in the text format; only the lines that
// matter are parsed at all. It fails if a line is too long, or has too many labels.
func ParseProxyMetrics(body []byte) (ProxyMetrics, error) {
	out := ProxyMetrics{Families: map[string]FamilyMetrics{}}
	var wanted bytes.Buffer
	lines := bufio.NewScanner(bytes.NewReader(body))
	lines.Buffer(nil, metricsLineBytes)
	read := 0
	for lines.Scan() {
		for _, name := range readMetrics {
			rest, ok := bytes.CutPrefix(lines.Bytes(), []byte(name))
			if !ok || len(rest) == 0 || rest[0] != '{' && rest[0] != ' ' {
				continue
			}
			if read++; read > metricsLines || bytes.Count(rest, []byte("=")) > metricsLabels {
				return out, fmt.Errorf("kube-proxy's metrics: more than %d samples or %d labels of %s", metricsLines, metricsLabels, name)
			}
			wanted.Write(lines.Bytes())
			wanted.WriteByte('\n')
		}
	}
	if err := lines.Err(); err != nil {
		return out, fmt.Errorf("kube-proxy's metrics: %w", err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(&wanted)
	if err != nil {
		return out, fmt.Errorf("kube-proxy's metrics: %w", err)
	}
	for name, f := range families {
		for _, m := range f.GetMetric() {
			out.note(name, m)
		}
	}
	return out, nil
}

func (p *ProxyMetrics) note(name string, m *dto.Metric) {
	v := m.GetUntyped().GetValue()
	label := func(key string) string {
		for _, l := range m.GetLabel() {
			if l.GetName() == key {
				return l.GetValue()
			}
		}
		return ""
	}
	switch name {
	case "process_start_time_seconds":
		p.Started = moment(v)
		return
	case "process_open_fds":
		p.FilesOpen = v
		return
	case "process_max_fds":
		p.FilesMax = v
		return
	case "kubernetes_build_info":
		p.Version = label("git_version")
		return
	}
	family := label("ip_family")
	switch family {
	case "":
		family = NoFamily
	case "IPv4", "IPv6":
	default:
		return // nobody's
	}
	f := p.Families[family]
	switch name {
	case queuedMetric:
		f.Queued = moment(v)
	case syncedMetric:
		f.Synced = moment(v)
	default:
		f.Failures += v
	}
	p.Families[family] = f
}

// moment is a time of seconds since the epoch; zero if it is none.
func moment(seconds float64) time.Time {
	const latest = 1 << 33 // the year 2242
	if !(seconds > 0 && seconds < latest) {
		return time.Time{}
	}
	return time.Unix(0, int64(seconds*1e9))
}

// IsHealth is whether a body is one of kube-proxy's /healthz, of any version.
func IsHealth(body []byte) bool {
	var h map[string]json.RawMessage
	return json.Unmarshal(body, &h) == nil && (h["lastUpdated"] != nil || h["nodeEligible"] != nil || h["currentTime"] != nil || h["healthy"] != nil)
}

// ParseHealth reads the body of /healthz: whether the node may get traffic; nil
// if it does not say.
func ParseHealth(body []byte) (eligible *bool) {
	var h struct {
		NodeEligible *bool `json:"nodeEligible"`
	}
	if json.Unmarshal(body, &h) != nil {
		return nil
	}
	return h.NodeEligible
}
