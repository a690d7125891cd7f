// Package monitoring puts a real Prometheus into a lab, with the mixin's rules
// and the generic ones, and a real Alertmanager, and hears what it sends.
package monitoring

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/lab/cluster"
	"github.com/kproxy-exporter/kproxy-exporter/lab/machine"
)

// Where they listen, on the control plane's machine.
const (
	prometheusAddress   = "10.99.0.1:9090"
	alertmanagerAddress = "10.99.0.1:9093"
	inboxAddress        = "10.99.0.1:9096"
)

// Interval is how often Prometheus scrapes and evaluates here.
const Interval = time.Second

// Forwards are the addresses that the host must reach.
func Forwards() map[string]string {
	return map[string]string{"prometheus": prometheusAddress, "alertmanager": alertmanagerAddress, "inbox": inboxAddress}
}

//go:embed prometheus.yml
var prometheusConfig string

//go:embed upstream.yaml
var upstreamRules string

// Config says with what they start.
type Config struct {
	// Rules is a file with the mixin's rules, rendered for haste.
	Rules string
	// GenericFor is how long the generic alerts wait.
	GenericFor time.Duration
	// Alertmanager is a file with the mixin's routes, receivers and inhibit rules;
	// empty for no Alertmanager.
	Alertmanager string
	// Prometheus is its configuration, where it is not the lab's own; {INTERVAL} is
	// filled in.
	Prometheus string
}

// Monitoring is what runs.
type Monitoring struct {
	// Prometheus and Inbox are URLs on the host.
	Prometheus, Inbox string
}

// Start starts all of it and waits until it answers.
func Start(ctx context.Context, c *cluster.Cluster, cfg Config) (*Monitoring, error) {
	cp, err := c.Node(cluster.ControlPlane)
	if err != nil {
		return nil, err
	}
	rules, err := os.ReadFile(cfg.Rules)
	if err != nil {
		return nil, err
	}
	kubeconfig, err := c.AdminKubeconfig("https://"+cluster.APIAddress, "prometheus")
	if err != nil {
		return nil, err
	}
	files := map[string]string{
		"prometheus.yml": strings.ReplaceAll(cmp.Or(cfg.Prometheus, prometheusConfig), "{INTERVAL}", Interval.String()),
		"upstream.yaml":  strings.ReplaceAll(upstreamRules, "{FOR}", cfg.GenericFor.String()),
		"kproxy.yaml":    string(rules),
		"kubeconfig":     string(kubeconfig),
	}
	services := []machine.Service{
		{Name: "discovery", Argv: []string{"/opt/lab/kproxy-lab", "discovery", "--kubeconfig=/etc/prometheus/kubeconfig", "--listen=127.0.0.1:9091"}},
		{Name: "prometheus", Argv: []string{"/opt/lab/prometheus", "--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/var/lib/prometheus", "--web.listen-address=" + prometheusAddress}},
	}
	m := &Monitoring{Prometheus: "http://" + c.Listen["prometheus"]}
	ready := map[string]string{"prometheus": m.Prometheus + "/-/ready"}
	if cfg.Alertmanager != "" {
		if files["alertmanager.yml"], err = alertmanagerConfig(cfg.Alertmanager); err != nil {
			return nil, err
		}
		m.Inbox = "http://" + c.Listen["inbox"]
		ready["alertmanager"], ready["inbox"] = "http://"+c.Listen["alertmanager"]+"/-/ready", m.Inbox
		services = append(services,
			machine.Service{Name: "inbox", Argv: []string{"/opt/lab/kproxy-lab", "inbox", "--listen=" + inboxAddress}},
			machine.Service{Name: "alertmanager", Argv: []string{"/opt/lab/alertmanager", "--config.file=/etc/prometheus/alertmanager.yml", "--storage.path=/var/lib/alertmanager",
				"--cluster.listen-address=", "--web.listen-address=" + alertmanagerAddress}})
	}
	for name, text := range files {
		if err := cp.WriteFile("/etc/prometheus/"+name, []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	if cfg.Alertmanager != "" { // Debian's looks for these there
		if _, err := cp.Run("sh", "-c", "mkdir -p /usr/share/prometheus/alertmanager && cp /opt/lab/*.tmpl /usr/share/prometheus/alertmanager/"); err != nil {
			return nil, err
		}
	}
	for _, s := range services {
		if err := cp.StartService(s); err != nil {
			return nil, err
		}
	}
	for name, address := range ready {
		if err := c.WaitService(ctx, cp, name, 30*time.Second, func(ctx context.Context) error { _, err := get(ctx, address); return err }); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// alertmanagerConfig is a whole configuration from what the mixin ships: its
// routes under a root that gets what is left, each receiver a mailbox here.
func alertmanagerConfig(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	var ours struct {
		InhibitRules []json.RawMessage `json:"inhibit_rules"`
		Routes       []json.RawMessage `json:"routes"`
		Receivers    []struct {
			Name string `json:"name"`
		} `json:"receivers"`
	}
	if err := json.Unmarshal(b, &ours); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	names := []string{DefaultReceiver}
	for _, r := range ours.Receivers {
		names = append(names, r.Name)
	}
	receivers := make([]any, 0, len(names))
	for _, n := range names {
		receivers = append(receivers, map[string]any{"name": n, "webhook_configs": []any{map[string]any{"url": "http://" + inboxAddress + "/" + n, "send_resolved": true}}})
	}
	out, err := json.Marshal(map[string]any{ // JSON is YAML
		"route": map[string]any{
			"receiver": DefaultReceiver, "group_by": []string{"alertname", "cluster"},
			"group_wait": GroupWait.String(), "group_interval": "5s", "repeat_interval": "1h", "routes": ours.Routes,
		},
		"receivers": receivers, "inhibit_rules": ours.InhibitRules,
	})
	return string(out), err
}

// DefaultReceiver gets what no route of the mixin's takes.
const DefaultReceiver = "default"

// GroupWait is how long Alertmanager waits for more alerts of a group.
const GroupWait = 3 * time.Second

func get(ctx context.Context, address string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", address, res.Status, b)
	}
	return b, err
}

// Alert is one as Prometheus has it, or as Alertmanager sends it.
type Alert struct {
	Labels map[string]string `json:"labels"`
	// State is pending or firing, as Prometheus has it.
	State string `json:"state"`
	// ActiveAt is since when its expression has been true.
	ActiveAt time.Time `json:"activeAt"`
	// Status is firing or resolved, as Alertmanager sends it.
	Status string `json:"status"`
}

// Name is the alert's.
func (a *Alert) Name() string { return a.Labels["alertname"] }

// Ours says that it is one of the mixin's.
func (a *Alert) Ours() bool { return a.Labels["component"] == "kube-proxy" }

// Causal says that it names a cause, and not a symptom or the exporter itself.
func (a *Alert) Causal() bool {
	switch a.Labels["kube_proxy_cause"] {
	case "", "symptom", "exporter", "many":
		return false
	}
	return true
}

// String is for people.
func (a *Alert) String() string {
	if a.Ours() {
		return fmt.Sprintf("%s %s: %s / %s", a.Name(), a.Labels["node"], a.Labels["kube_proxy_cause"], a.Labels["detail"])
	}
	return strings.TrimSpace(a.Name() + " " + a.Labels["instance"])
}

// Alerts are those that are pending or fire.
func (m *Monitoring) Alerts(ctx context.Context) ([]Alert, error) {
	b, err := get(ctx, m.Prometheus+"/api/v1/alerts")
	if err != nil {
		return nil, err
	}
	var body struct {
		Data struct{ Alerts []Alert } `json:"data"`
	}
	return body.Data.Alerts, json.Unmarshal(b, &body)
}

// SickRules are the names of rules that were not evaluated, or not without an error.
func (m *Monitoring) SickRules(ctx context.Context) (names []string, err error) {
	b, err := get(ctx, m.Prometheus+"/api/v1/rules")
	if err != nil {
		return nil, err
	}
	var body struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError string }
			}
		}
	}
	if err := json.Unmarshal(b, &body); err != nil {
		return nil, err
	}
	rules := 0
	for _, g := range body.Data.Groups {
		for _, r := range g.Rules {
			if rules++; r.Health != "ok" {
				names = append(names, strings.TrimSpace(r.Name+" "+r.LastError))
			}
		}
	}
	if rules == 0 {
		return nil, errors.New("there are no rules")
	}
	return names, nil
}

// Series is one with its samples.
type Series struct {
	Metric map[string]string `json:"metric"`
	// Values are pairs of seconds since the epoch and a value as text.
	Values [][2]any `json:"values"`
	Value  [2]any   `json:"value"`
}

// Query asks Prometheus at a time.
func (m *Monitoring) Query(ctx context.Context, expr string, at time.Time) ([]Series, error) {
	b, err := get(ctx, m.Prometheus+"/api/v1/query?query="+url.QueryEscape(expr)+fmt.Sprintf("&time=%.3f", float64(at.UnixMilli())/1000))
	if err != nil {
		return nil, err
	}
	var body struct {
		Data struct {
			Result []Series `json:"result"`
		} `json:"data"`
	}
	return body.Data.Result, json.Unmarshal(b, &body)
}

// Notification is what Alertmanager sent to a receiver.
type Notification struct {
	At       time.Time `json:"at"`
	Receiver string    `json:"receiver"`
	GroupKey string    `json:"groupKey"`
	Status   string    `json:"status"`
	Alerts   []Alert   `json:"alerts"`
}

// Notifications are all that were sent so far.
func (m *Monitoring) Notifications(ctx context.Context) ([]Notification, error) {
	b, err := get(ctx, m.Inbox)
	if err != nil {
		return nil, err
	}
	var all []Notification
	return all, json.Unmarshal(b, &all)
}
