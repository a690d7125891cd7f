package matrix

import (
	"compress/gzip"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/lab/fault"
	"github.com/kproxy-exporter/kproxy-exporter/lab/monitoring"
)

// recordTo names a directory to which what Prometheus scraped is written, for
// the tests of the mixin: mixin/tests/recorded.
const recordTo = "KPROXY_LAB_RECORD"

// In a recording time goes in steps; it begins a while before the fault.
const (
	recordStep   = 5 * time.Second
	recordBefore = 30 * time.Second
)

// forRules are the families that the rules rest on, forDashboards all of which
// the dashboards show more; the latter are recorded of one fault.
const (
	forRules      = "kproxy_(primary_cause|cause_active|cause_start_timestamp_seconds|expected|healthy|reader_success|probes_total|probe_verdict|api_certificate_expiry_timestamp_seconds|canary_latency_seconds_(bucket|count)|probe_delay_seconds_count)|up|kubeproxy_network_programming_duration_seconds_(bucket|count)"
	forDashboards = "kproxy_.*|up|kubeproxy_network_programming_duration_seconds_(bucket|count)|kubeproxy_sync_proxy_rules_(duration_seconds_bucket|iptables_restore_failures_total|nftables_sync_failures_total)|process_(resident_memory_bytes|cpu_seconds_total)"
	dashboards    = "vip-rules-gone"
)

// recording is what was scraped around a fault, or a healthy change.
type recording struct {
	// head are lines "key: value".
	head   []string
	name   string
	dir    string
	began  time.Time
	series []monitoring.Series
}

// record writes what was scraped from before the fault to after it.
func (in *incident) record(t *testing.T, sent []monitoring.Notification) {
	receiver := ""
	for i := range sent {
		if in.tells(&sent[i]) {
			receiver = sent[i].Receiver
		}
	}
	seconds := func(at time.Time) string { return strconv.FormatFloat(at.Sub(in.began).Seconds(), 'f', 1, 64) }
	write(t, in.Monitoring, recording{name: in.f.Name, dir: "faults", began: in.began, head: []string{
		"breaks: " + in.f.Breaks, "mode: " + in.Mode, "verdict: " + in.f.Verdict(), fmt.Sprintf("everywhere: %v", in.everywhere()), "receiver: " + receiver, "beside: " + strings.Join(slices.Concat(in.f.Beside, in.f.BesideOnNode), " "),
		"named: " + seconds(in.named), "healed: " + seconds(in.healed), "generic: " + strings.Join(slices.Sorted(maps.Keys(in.generic)), " "),
	}})
}

// TestRecordHealthy records the healthy changes, one after the other; that they
// stay silent is for TestMatrix, TestNodeMatrix and the mixin's own tests.
func TestRecordHealthy(t *testing.T) {
	if os.Getenv(recordTo) == "" {
		t.Skip("it only records, for the mixin's tests: set " + recordTo)
	}
	t.Parallel()
	for _, mode := range []string{"nftables", "iptables"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			w, m := startMonitored(t, "healthy-"+mode, mode)
			for _, c := range fault.Changes {
				t.Run(c.Name, func(t *testing.T) {
					began := time.Now()
					if err := c.Run(t.Context(), w.Cluster, node); err != nil {
						t.Error(err)
					}
					if err := quiet(t.Context(), m); err != nil {
						t.Error(err)
					}
					write(t, m, recording{name: c.Name, dir: "healthy-" + mode, began: began, head: []string{"does: " + c.Does, "mode: " + mode}})
				})
			}
		})
	}
}

func write(t *testing.T, m *monitoring.Monitoring, r recording) {
	dir := os.Getenv(recordTo)
	if dir == "" {
		return
	}
	end := time.Now()
	families := forRules
	if r.name == dashboards {
		families = forDashboards
	}
	var err error
	r.series, err = m.Query(t.Context(), fmt.Sprintf("{__name__=~%q}[%ds]", families, int((end.Sub(r.began)+recordBefore).Seconds())), end)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, r.dir, r.name+".txt.gz")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, _ := gzip.NewWriterLevel(f, gzip.BestCompression) // the level is one
	if _, err := z.Write([]byte(r.text(end))); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
}

// text is the recording: a line for each series with the newest sample of each
// step, "_" where there was none, and "*n" behind what is there n times.
func (r *recording) text(end time.Time) string {
	from := r.began.Add(-recordBefore)
	steps := int(end.Sub(from) / recordStep)
	lines := []string{}
	for _, s := range r.series {
		values := make([]string, steps)
		for _, v := range s.Values {
			at := time.UnixMilli(int64(v[0].(float64) * 1000))
			if k := int(at.Sub(from) / recordStep); k >= 0 && k < steps {
				values[k] = v[1].(string)
			}
		}
		lines = append(lines, metric(s.Metric)+" "+runs(values))
	}
	slices.Sort(lines)
	head := append([]string{"name: " + r.name}, r.head...)
	head = append(head, "step: "+recordStep.String(), "before: "+recordBefore.String())
	return "# " + strings.Join(head, "\n# ") + "\n" + strings.Join(lines, "\n") + "\n"
}

func metric(labels map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		if k != "__name__" {
			out = append(out, fmt.Sprintf("%s=%q", k, labels[k]))
		}
	}
	return labels["__name__"] + "{" + strings.Join(out, ",") + "}"
}

func runs(values []string) string {
	var out []string
	for i := 0; i < len(values); {
		n := i
		for n < len(values) && values[n] == values[i] {
			n++
		}
		one := values[i]
		if one == "" {
			one = "_"
		}
		if n-i > 1 {
			one += "*" + strconv.Itoa(n-i)
		}
		out = append(out, one)
		i = n
	}
	return strings.Join(out, " ")
}
