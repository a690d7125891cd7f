package tests

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/config"
	"github.com/prometheus/alertmanager/dispatch"
	"github.com/prometheus/alertmanager/eventrecorder"
	"github.com/prometheus/alertmanager/inhibit"
	"github.com/prometheus/alertmanager/provider/mem"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/labels"
	"sigs.k8s.io/yaml"
)

// alertmanager is the mixin's routes under a root as anybody may have, and its
// inhibit rules.
type alertmanager struct {
	config *config.Config
	route  *dispatch.Route
}

// newAlertmanager adds more inhibit rules to the mixin's.
func newAlertmanager(t testing.TB, more ...any) *alertmanager {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(renderedDir, "alertmanager.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var ours struct {
		InhibitRules []any            `json:"inhibit_rules"`
		Routes       []any            `json:"routes"`
		Receivers    []map[string]any `json:"receivers"`
	}
	if err := yaml.Unmarshal(b, &ours); err != nil {
		t.Fatal(err)
	}
	whole, err := json.Marshal(map[string]any{
		"route": map[string]any{"receiver": "default", "group_by": []string{"alertname"}, "routes": ours.Routes}, "inhibit_rules": append(ours.InhibitRules, more...),
		"receivers": append(ours.Receivers, map[string]any{"name": "default"}),
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(string(whole))
	if err != nil {
		t.Fatal(err)
	}
	return &alertmanager{cfg, dispatch.NewRoute(cfg.Route, nil)}
}

// delivery is an alert that reaches somebody.
type delivery struct {
	receiver string
	// group is what is one notification.
	group string
	alert model.LabelSet
}

func (d delivery) String() string {
	return fmt.Sprintf("%s gets %s %s %s/%s", d.receiver, d.alert["alertname"], d.alert["node"], d.alert["kube_proxy_cause"], d.alert["detail"])
}

// deliver is what reaches whom of alerts that fire.
func (am *alertmanager) deliver(t testing.TB, firing []model.LabelSet) []delivery {
	t.Helper()
	alerts, err := mem.NewAlerts(t.Context(), time.Hour, 0, nil, promslog.NewNopLogger(), eventrecorder.NopRecorder(), prometheus.NewRegistry(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer alerts.Close()
	now := time.Now()
	for _, l := range firing {
		a := &alert.Alert{Alert: model.Alert{Labels: l, StartsAt: now.Add(-time.Minute), EndsAt: now.Add(time.Hour)}, UpdatedAt: now}
		if err := alerts.Put(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	ih := inhibit.NewInhibitor(alerts, am.config.InhibitRules, promslog.NewNopLogger(), eventrecorder.NopRecorder())
	go ih.Run()
	ih.WaitForLoading()
	defer ih.Stop()
	var out []delivery
	for _, l := range firing {
		if ih.Mutes(t.Context(), l) {
			continue
		}
		for _, r := range am.route.Match(l) {
			group := []string{r.ID()}
			for name := range r.RouteOpts.GroupBy {
				group = append(group, string(name)+"="+string(l[name]))
			}
			slices.Sort(group)
			out = append(out, delivery{r.RouteOpts.Receiver, strings.Join(group, " "), l})
		}
	}
	slices.SortFunc(out, func(a, b delivery) int { return strings.Compare(a.String(), b.String()) })
	return out
}

func labelSets(all []labels.Labels) []model.LabelSet {
	out := make([]model.LabelSet, len(all))
	for i, l := range all {
		out[i] = model.LabelSet{}
		l.Range(func(one labels.Label) { out[i][model.LabelName(one.Name)] = model.LabelValue(one.Value) })
	}
	return out
}

// ours is an alert of the mixin's.
func ours(name, severity, cause, owner, scope string, more model.LabelSet) model.LabelSet {
	return model.LabelSet{"alertname": model.LabelValue(name), "severity": model.LabelValue(severity), "component": "kube-proxy", "kube_proxy_cause": model.LabelValue(cause),
		"kube_proxy_owner": model.LabelValue(owner), "kube_proxy_scope": model.LabelValue(scope)}.Merge(more)
}

func onNode(node string) model.LabelSet {
	return model.LabelSet{"node": model.LabelValue(node), "instance": model.LabelValue(node), "detail": "d"}
}

// TestInhibitionAndRouting tries what may fire together, with and without a
// label of the cluster: a label that lacks on both sides counts as equal.
func TestInhibitionAndRouting(t *testing.T) {
	am := newAlertmanager(t)
	down := model.LabelSet{"alertname": "KubeProxyDown", "job": "kube-proxy", "severity": "critical"}
	unreachable := func(l model.LabelSet) model.LabelSet {
		return model.LabelSet{"alertname": "KubeProxyInstanceUnreachable", "job": "kube-proxy", "severity": "warning"}.Merge(l)
	}
	targetDown := func(job string) model.LabelSet {
		return model.LabelSet{"alertname": "TargetDown", "job": model.LabelValue(job), "severity": "warning", "namespace": "kube-system"}
	}
	crash := func(n string) model.LabelSet {
		return ours("KubeProxyCrashLoop", "warning", "crash_loop", "platform", "node", onNode(n))
	}
	stale := func(n string) model.LabelSet {
		return ours("KubeProxyRulesStale", "critical", "rules_stale", "platform", "node", onNode(n))
	}
	failing := func(n string) model.LabelSet {
		return ours("KubeProxyNodeVIPFailing", "critical", "symptom", "network", "node", onNode(n))
	}
	away := func(n string) model.LabelSet {
		return ours("KubeProxyApiUnreachable", "warning", "api_unreachable", "platform", "node", onNode(n))
	}
	blind := func(n string) model.LabelSet {
		return ours("KubeProxyExporterMissingOnNode", "warning", "exporter", "monitoring", "node", onNode(n))
	}
	mass := ours("KubeProxyMassCause", "warning", "crash_loop", "platform", "cluster", nil)
	wide := ours("KubeProxyDownClusterWide", "critical", "many", "platform", "cluster", nil)
	burn := ours("KubeProxyVIPErrorBudgetBurn", "critical", "symptom", "network", "cluster", model.LabelSet{"long": "1h", "short": "5m"})
	missing := ours("KubeProxyExporterAbsent", "warning", "exporter", "monitoring", "cluster", nil)
	notScraped := ours("KubeProxyNotScraped", "warning", "exporter", "monitoring", "cluster", nil)
	notReady := ours("KubeProxyNodeNotReady", "info", "node_not_ready", "node", "node", onNode("n1"))
	for _, tc := range []struct {
		name   string
		firing []model.LabelSet
		want   []string
	}{
		{"a cause goes to its owner, and silences the generic alert of its node", []model.LabelSet{crash("n1"), unreachable(model.LabelSet{"instance": "n1"})},
			[]string{"kube-proxy-platform KubeProxyCrashLoop"}},
		{"also where the target has a label node", []model.LabelSet{crash("n1"), unreachable(model.LabelSet{"instance": "10.0.0.1:10249", "node": "n1"})},
			[]string{"kube-proxy-platform KubeProxyCrashLoop"}},
		{"but not that of another node", []model.LabelSet{crash("n1"), unreachable(model.LabelSet{"instance": "n2"})},
			[]string{"default KubeProxyInstanceUnreachable", "kube-proxy-platform KubeProxyCrashLoop"}},
		{"nor one that cannot be told to be of its node", []model.LabelSet{crash("n1"), unreachable(model.LabelSet{"instance": "10.0.0.1:10249", "pod": "kube-proxy-x"})},
			[]string{"default KubeProxyInstanceUnreachable", "kube-proxy-platform KubeProxyCrashLoop"}},
		{"a cause of one node does not silence what is about the whole cluster", []model.LabelSet{crash("n1"), down, targetDown("kube-proxy")},
			[]string{"default KubeProxyDown", "default TargetDown", "kube-proxy-platform KubeProxyCrashLoop"}},
		{"many nodes that are down are one page, with one ticket for their cause, and silence all that", []model.LabelSet{mass, wide, crash("n1"), crash("n2"), down, targetDown("kube-proxy"), unreachable(model.LabelSet{"instance": "n1"})},
			[]string{"kube-proxy-page KubeProxyDownClusterWide", "kube-proxy-platform KubeProxyMassCause"}},
		{"but no other cause, and no other job", []model.LabelSet{mass, stale("n3"), targetDown("kubelet")},
			[]string{"default TargetDown", "kube-proxy-page KubeProxyRulesStale", "kube-proxy-platform KubeProxyMassCause"}},
		{"many causes on most nodes silence the generic alerts and no cause", []model.LabelSet{wide, crash("n1"), down},
			[]string{"kube-proxy-page KubeProxyDownClusterWide", "kube-proxy-platform KubeProxyCrashLoop"}},
		{"the scrape configuration is told to monitoring, instead of a page", []model.LabelSet{notScraped, down},
			[]string{"kube-proxy-monitoring KubeProxyNotScraped"}},
		{"a page with its cause is better than one with the symptom", []model.LabelSet{stale("n1"), failing("n1"), failing("n2")},
			[]string{"kube-proxy-page KubeProxyNodeVIPFailing", "kube-proxy-page KubeProxyRulesStale"}},
		{"a cause that does not page leaves the symptom", []model.LabelSet{crash("n1"), failing("n1")},
			[]string{"kube-proxy-page KubeProxyNodeVIPFailing", "kube-proxy-platform KubeProxyCrashLoop"}},
		{"the error budget is silenced by nothing", []model.LabelSet{burn, mass, wide, stale("n1"), crash("n1"), missing, notReady},
			[]string{"kube-proxy-info KubeProxyNodeNotReady", "kube-proxy-page KubeProxyDownClusterWide", "kube-proxy-platform KubeProxyMassCause", "kube-proxy-page KubeProxyRulesStale", "kube-proxy-page KubeProxyVIPErrorBudgetBurn", "kube-proxy-monitoring KubeProxyExporterAbsent"}},
		{"a node that is gone has alerts of its own", []model.LabelSet{{"alertname": "KubeNodeNotReady", "node": "n1", "severity": "warning"}, crash("n1"), notReady, crash("n2"), stale("n1")},
			[]string{"default KubeNodeNotReady", "kube-proxy-page KubeProxyRulesStale", "kube-proxy-platform KubeProxyCrashLoop"}},
		{"a symptom, and the exporter's own alerts, name no cause and silence nothing of their node", []model.LabelSet{failing("n1"), blind("n1"), unreachable(model.LabelSet{"instance": "n1"}), unreachable(model.LabelSet{"instance": "x", "node": "n1"})},
			[]string{"default KubeProxyInstanceUnreachable", "default KubeProxyInstanceUnreachable", "kube-proxy-monitoring KubeProxyExporterMissingOnNode", "kube-proxy-page KubeProxyNodeVIPFailing"}},
		{"a cause of many nodes silences nothing of those that do not have it", []model.LabelSet{mass, crash("n1"), unreachable(model.LabelSet{"instance": "n2"}), down},
			[]string{"default KubeProxyDown", "default KubeProxyInstanceUnreachable", "kube-proxy-platform KubeProxyMassCause"}},
		{"that a node cannot reach the API server only it can say", []model.LabelSet{{"alertname": "KubeNodeNotReady", "node": "n1", "severity": "warning"}, away("n1"), crash("n1")},
			[]string{"default KubeNodeNotReady", "kube-proxy-platform KubeProxyApiUnreachable"}},
		{"also of a node that is not heard of", []model.LabelSet{{"alertname": "KubeNodeUnreachable", "node": "n1", "severity": "warning"}, away("n1"), crash("n1")},
			[]string{"default KubeNodeUnreachable", "kube-proxy-platform KubeProxyApiUnreachable"}},
		{"without the exporter the generic alerts are delivered as ever", []model.LabelSet{missing, down, unreachable(model.LabelSet{"instance": "n1"}), targetDown("kube-proxy")},
			[]string{"default KubeProxyDown", "default KubeProxyInstanceUnreachable", "default TargetDown", "kube-proxy-monitoring KubeProxyExporterAbsent"}},
	} {
		for _, cluster := range []model.LabelSet{nil, {"cluster": "c1"}} {
			var firing []model.LabelSet
			for _, l := range tc.firing {
				firing = append(firing, l.Merge(cluster))
			}
			var got []string
			pages := map[string]bool{}
			for _, d := range am.deliver(t, firing) {
				got = append(got, d.receiver+" "+string(d.alert["alertname"]))
				if d.receiver == "kube-proxy-page" {
					pages[d.group] = true
				}
			}
			slices.Sort(got)
			want := slices.Sorted(slices.Values(tc.want))
			if !slices.Equal(got, want) {
				t.Errorf("%s %v: delivered %v, want %v", tc.name, cluster, got, want)
			}
			if len(pages) > 1 {
				t.Errorf("%s: %d pages for one incident", tc.name, len(pages))
			}
		}
	}
	// Nothing of one cluster is silenced by another, nor in one notification with
	// what is another's.
	for _, pair := range [][2]model.LabelSet{
		{wide, down}, {notScraped, down}, {wide, targetDown("kube-proxy")}, {crash("n1"), unreachable(model.LabelSet{"instance": "n1"})},
		{crash("n1"), unreachable(model.LabelSet{"instance": "x", "node": "n1"})}, {mass, crash("n1")}, {stale("n1"), failing("n1")},
		{{"alertname": "KubeNodeNotReady", "node": "n1", "severity": "warning"}, crash("n1")},
	} {
		one, other := model.LabelSet{"cluster": "c1"}, model.LabelSet{"cluster": "c2"}
		if got := am.deliver(t, []model.LabelSet{pair[0].Merge(one), pair[1].Merge(one)}); len(got) != 1 {
			t.Errorf("in one cluster %v are delivered", got)
		}
		if got := am.deliver(t, []model.LabelSet{pair[0].Merge(one), pair[1].Merge(other)}); len(got) != 2 {
			t.Errorf("of two clusters %v are delivered", got)
		}
	}
	for _, l := range []model.LabelSet{stale("n1"), crash("n1"), notReady} {
		got := am.deliver(t, []model.LabelSet{l.Merge(model.LabelSet{"cluster": "c1"}), l.Merge(model.LabelSet{"cluster": "c2"})})
		if len(got) != 2 || got[0].group == got[1].group {
			t.Errorf("two clusters have one notification: %v", got)
		}
	}
}

// TestInfoMutesNothing is for kube-prometheus, which mutes info alerts while no
// graver alert of their namespace fires: what they would mute must be delivered.
func TestInfoMutesNothing(t *testing.T) {
	am := newAlertmanager(t)
	infos := 0
	for _, r := range rulesOf(t, "{}") {
		if !strings.Contains(r.Labels["severity"], "info") {
			continue
		}
		l := model.LabelSet{"alertname": model.LabelValue(r.Alert), "node": "n1", "instance": "n1", "detail": "d"}
		for k, v := range r.Labels {
			l[model.LabelName(k)] = model.LabelValue(v)
		}
		l["severity"] = "info"
		muted := []model.LabelSet{
			{"alertname": "KubeProxyDown", "job": "kube-proxy", "severity": "critical"},
			{"alertname": "TargetDown", "job": "kube-proxy", "severity": "warning", "namespace": "kube-system"},
			{"alertname": "KubeProxyInstanceUnreachable", "job": "kube-proxy", "severity": "warning", "instance": "n1", "node": "n1"},
			ours("KubeProxyCrashLoop", "warning", "crash_loop", "platform", "node", onNode("n1")),
			ours("KubeProxyNodeVIPFailing", "critical", "symptom", "network", "node", onNode("n1")),
		}
		for _, other := range muted {
			if got := am.deliver(t, []model.LabelSet{other, l}); len(got) != 2 {
				t.Errorf("of info alert %s and %s only these are delivered: %v", r.Alert, other["alertname"], got)
			}
		}
		infos++
	}
	if infos == 0 {
		t.Error("there is no info alert")
	}

	// kube-prometheus' own rules: kubernetes/alertmanager in its jsonnet,
	// kubePrometheus/components/alertmanager.libsonnet.
	equal := []string{"namespace", "alertname"}
	am = newAlertmanager(t,
		map[string]any{"source_matchers": []string{`severity = critical`}, "target_matchers": []string{`severity =~ warning|info`}, "equal": equal},
		map[string]any{"source_matchers": []string{`severity = warning`}, "target_matchers": []string{`severity = info`}, "equal": equal},
		map[string]any{"source_matchers": []string{`alertname = InfoInhibitor`}, "target_matchers": []string{`severity = info`}, "equal": []string{"namespace"}},
	)
	local := func(n string) model.LabelSet {
		return ours("KubeProxyMetricsUnreachable", "info", "metrics_unreachable", "monitoring", "node", onNode(n))
	}
	infoInhibitor := model.LabelSet{"alertname": "InfoInhibitor", "severity": "none"}
	down := model.LabelSet{"alertname": "KubeProxyDown", "job": "kube-proxy", "severity": "critical"}
	unreachable := model.LabelSet{"alertname": "KubeProxyInstanceUnreachable", "job": "kube-proxy", "severity": "warning", "instance": "n1"}
	for name, tc := range map[string]struct {
		firing []model.LabelSet
		want   []string
	}{
		"metrics on localhost, and nothing graver fires": {[]model.LabelSet{local("n1"), unreachable, infoInhibitor}, []string{"default InfoInhibitor", "default KubeProxyInstanceUnreachable"}},
		"and the failing scrape fires too": {[]model.LabelSet{local("n1"), unreachable, ours("KubeProxyScrapeFailing", "warning", "metrics_unreachable", "monitoring", "node", onNode("n1"))},
			[]string{"kube-proxy-info KubeProxyMetricsUnreachable", "kube-proxy-monitoring KubeProxyScrapeFailing"}},
		"on all nodes": {[]model.LabelSet{local("n1"), local("n2"), down, infoInhibitor, ours("KubeProxyNotScraped", "warning", "exporter", "monitoring", "cluster", nil)},
			[]string{"default InfoInhibitor", "kube-proxy-monitoring KubeProxyNotScraped"}},
	} {
		var got []string
		for _, d := range am.deliver(t, tc.firing) {
			got = append(got, d.receiver+" "+string(d.alert["alertname"]))
		}
		slices.Sort(got)
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: delivered %v, want %v", name, got, tc.want)
		}
	}
}

// TestEveryAlertHasAReceiver wants a route of the mixin's for each alert, to one
// that it names.
func TestEveryAlertHasAReceiver(t *testing.T) {
	am := newAlertmanager(t)
	for _, r := range rulesOf(t, "{}") {
		if r.Alert == "" {
			continue
		}
		l := model.LabelSet{"alertname": model.LabelValue(r.Alert)}
		for k, v := range r.Labels {
			l[model.LabelName(k)] = model.LabelValue(v)
		}
		if strings.Contains(r.Labels["severity"], "{{") {
			l["severity"] = "warning"
		}
		want := "kube-proxy-" + r.Labels["kube_proxy_owner"]
		switch l["severity"] {
		case "critical":
			want = "kube-proxy-page"
		case "info":
			want = "kube-proxy-info"
		}
		got := am.route.Match(l)
		if len(got) != 1 || got[0].RouteOpts.Receiver != want {
			t.Errorf("%s goes to %v, want %s", r.Alert, got, want)
		}
	}
}
