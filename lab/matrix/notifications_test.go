package matrix

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/lab/exporter"
	"github.com/kproxy-exporter/kproxy-exporter/lab/fault"
	"github.com/kproxy-exporter/kproxy-exporter/lab/monitoring"
	"github.com/kproxy-exporter/kproxy-exporter/lab/web"
)

const (
	// genericFor is how long the generic alerts wait: more of their 15 minutes
	// than the mixin's alerts do of theirs, as what happens before an alert waits
	// is not any faster here.
	genericFor = time.Minute
	// notifiedWithin is how long after a verdict its notification may take.
	notifiedWithin = 45 * time.Second
	// rareCanary is how often the canary is moved: a connection that is forgotten
	// in silence is one on which nothing has come for longer than a minute.
	rareCanary = 2 * time.Minute
)

// TestNotifications lets a real Prometheus and a real Alertmanager, with the
// mixin's rules, routes and inhibition, watch every fault: what reaches a person
// is one notification with the right cause, and no generic one.
func TestNotifications(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"nftables", "iptables"} {
		for lab := range labs {
			t.Run(fmt.Sprintf("%s-%d", mode, lab), func(t *testing.T) {
				t.Parallel()
				w, m := startMonitored(t, fmt.Sprintf("alerts-%s-%d", mode, lab), mode)
				walkNotifications(t, w, m, lab)
			})
		}
	}
}

// startMonitored starts a lab with both roles, probed Services and all that
// watches them.
func startMonitored(t *testing.T, name, mode string) (*world, *monitoring.Monitoring) {
	t.Helper()
	ctx := t.Context()
	forwards := monitoring.Forwards()
	maps.Copy(forwards, map[string]string{"exporter": exporter.Address, "n1": exporter.NodeAddress(1), "n2": exporter.NodeAddress(2)})
	w := startWith(t, name, mode, forwards)
	if err := web.Install(ctx, w.Cluster); err != nil {
		t.Fatal(err)
	}
	if err := exporter.InstallNode(ctx, w.Cluster, w.root, "--api.interval=3s", "--probe.interval=3s", "--probe.timeout=1s"); err != nil {
		t.Fatal(err)
	}
	if err := exporter.InstallCanary(ctx, w.Cluster, w.root, rareCanary); err != nil {
		t.Fatal(err)
	}
	// From the node that is broken it could not tell what others cannot reach there.
	for _, args := range [][]string{
		{"-n", exporter.Name, "patch", "deployment", exporter.Name, "-p", `{"spec":{"template":{"spec":{"nodeSelector":{"kubernetes.io/hostname":"n2"}}}}}`},
		{"-n", exporter.Name, "rollout", "status", "deployment/" + exporter.Name, "--timeout=60s"},
	} {
		if _, err := w.Kubectl(ctx, "", args...); err != nil {
			t.Fatal(err)
		}
	}
	if err := exporter.Start(ctx, w.Cluster, w.root, exporterArgs...); err != nil {
		t.Fatal(err)
	}
	w.urls = []string{"http://" + w.Listen["exporter"], "http://" + w.Listen["n1"], "http://" + w.Listen["n2"]}
	m, err := monitoring.Start(ctx, w.Cluster, monitoring.Config{
		Rules: filepath.Join(w.root, ".mixin-out/hasty/rules.json"), Alertmanager: filepath.Join(w.root, ".mixin-out/hasty/alertmanager.json"), GenericFor: genericFor,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := quiet(ctx, m); err != nil {
		t.Fatalf("before the first fault: %v\n%s", err, w.describe(ctx))
	}
	return w, m
}

// quiet waits until no alert names a cause or the exporter, and everybody has
// answered and been well for a while. The budget that a fault has burnt stays
// burnt for longer.
func quiet(ctx context.Context, m *monitoring.Monitoring) error {
	const well = `count(up{job="kube-proxy"} == 1) == 2 and count(up{job="kproxy-exporter"} == 1) == 3 and count(kproxy_primary_cause{cause="none"} == 1) == 4 and count(kproxy_audit_drift{kind="missing"}) == 2 unless count(kproxy_reader_success == 0) > 0`
	return until(ctx, healWithin, func() (string, error) {
		now, err := m.Alerts(ctx)
		if err != nil {
			return "", err
		}
		var lacks []string
		for i := range now {
			if now[i].Labels["kube_proxy_cause"] != "symptom" && (now[i].Causal() || now[i].State == "firing") {
				lacks = append(lacks, fmt.Sprintf("%s is %s %v", now[i].String(), now[i].State, now[i].Labels))
			}
		}
		found, err := m.Query(ctx, "count_over_time(("+well+")[10s:1s]) >= 10", time.Now())
		if err == nil && len(found) == 0 {
			lacks = append(lacks, "not everybody is well and scraped")
		}
		return strings.Join(lacks, ", "), err
	})
}

// until asks lacks until it returns "".
func until(ctx context.Context, within time.Duration, lacks func() (string, error)) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		last, err := lacks()
		if err == nil && last == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("after %s: %s (%w)", within, last, cmp.Or(err, ctx.Err()))
		case <-tick.C:
		}
	}
}

// walkNotifications tries every fault in one mode of those in which it applies,
// and this lab's share of them.
func walkNotifications(t *testing.T, w *world, m *monitoring.Monitoring, lab int) {
	var rows []string
	share := map[string]int{}
	for i := range fault.All {
		f := &fault.All[i]
		mode := []string{"nftables", "iptables"}[i%2]
		if !f.Applies(mode) {
			mode = f.Modes[0]
		}
		share[mode]++
		if mode != w.Mode || share[mode]%labs != lab {
			continue
		}
		t.Run(f.Name, func(t *testing.T) {
			in := &incident{world: w, Monitoring: m, f: f}
			rows = append(rows, in.try(t))
		})
	}
	t.Logf("%s:\n%s", w.Mode, strings.Join(rows, "\n"))
}

// incident is a fault as those who are notified see it.
type incident struct {
	*world
	*monitoring.Monitoring
	f *fault.Fault

	began, named, fired, healed time.Time
	generic                     map[string]bool // generic alerts that fired
	wrong                       map[string]bool
}

func (in *incident) everywhere() bool { return in.f.Everywhere || in.f.EverywhereOnNode }

// wanted is whether an alert names the fault, and right.
func (in *incident) wanted(a *monitoring.Alert) bool {
	said := a.Labels["kube_proxy_cause"] + "/" + a.Labels["detail"]
	return a.Labels["node"] == node && (said == in.f.Verdict() || said == in.f.OrOnNode)
}

// allowed is whether an alert that names a cause may be there too.
func (in *incident) allowed(a *monitoring.Alert) bool {
	c, _, _ := strings.Cut(in.f.Verdict(), "/")
	if a.Labels["kube_proxy_cause"] == c { // another detail of it may show first
		return in.everywhere() || a.Labels["node"] == node
	}
	switch {
	case a.Labels["detail"] == "not_applied" && a.Labels["node"] != node:
		return true // the other node's kube-proxy does not read a ConfigMap that is changed to break this one
	case a.Labels["kube_proxy_cause"] == "node_not_ready" && c == "api_unreachable":
		return true // the kubelet cannot reach it either; with the times that people have this alert yields before it fires
	}
	return slices.Contains(in.f.Beside, a.Labels["kube_proxy_cause"]) || slices.Contains(in.f.BesideOnNode, a.Labels["kube_proxy_cause"])
}

// look notes what Prometheus says now, and says what lacks.
func (in *incident) look(ctx context.Context) (string, error) {
	now, err := in.Alerts(ctx)
	if err != nil {
		return "", err
	}
	waits := false
	for i := range now {
		a := &now[i]
		switch {
		case in.wanted(a):
			if in.named.IsZero() {
				in.named = a.ActiveAt
			}
			if a.State == "firing" && in.fired.IsZero() {
				in.fired = time.Now()
			}
		case !a.Ours():
			if a.State == "firing" {
				in.generic[a.Name()] = true
			} else if in.healed.IsZero() && time.Since(a.ActiveAt) > 5*time.Second {
				waits = true
			}
		case a.Causal() && a.State == "firing" && !in.allowed(a):
			in.wrong[a.String()+" fires"] = true
		}
	}
	if in.fired.IsZero() {
		return fmt.Sprintf("no alert says %s of %s: %v", in.f.Verdict(), node, now), nil
	}
	if waits {
		return "the generic alert has not fired yet", nil
	}
	return "", nil
}

func (in *incident) try(t *testing.T) string {
	ctx := t.Context()
	in.began, in.generic, in.wrong = time.Now(), map[string]bool{}, map[string]bool{}
	before, err := in.Notifications(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := in.f.Inject(ctx, in.Cluster, node); err != nil {
		t.Fatal(err)
	}
	within := max(namedWithin, in.f.Within) + genericFor + 15*time.Second
	if err := until(ctx, within, func() (string, error) { return in.look(ctx) }); err != nil {
		t.Errorf("%v\n%s", err, in.describe(ctx))
	}
	var sent []monitoring.Notification
	if err := until(ctx, notifiedWithin, func() (string, error) {
		all, err := in.Notifications(ctx)
		if err != nil {
			return "", err
		}
		sent = all[len(before):]
		return in.lacks(sent), nil
	}); err != nil {
		t.Errorf("%v: %s", err, said(sent))
	}
	in.healed = time.Now()
	if err := in.f.Heal(ctx, in.Cluster, node); err != nil {
		t.Fatal(err)
	}
	if err := in.WaitReady(ctx, healWithin); err != nil {
		t.Error(err)
	}
	if err := quiet(ctx, in.Monitoring); err != nil {
		t.Errorf("healed: %v\n%s", err, in.describe(ctx))
	}
	if err := until(ctx, notifiedWithin, func() (string, error) {
		all, err := in.Notifications(ctx)
		if err != nil {
			return "", err
		}
		sent = all[len(before):]
		return strings.Join(open(sent), ", "), nil
	}); err != nil {
		t.Errorf("never resolved: %v: %s", err, said(sent))
	}
	in.record(t, sent)
	in.judge(t, sent)
	return fmt.Sprintf("%-26s %-34s named after %5.1fs, notified after %5.1fs; generic alerts: %s", in.f.Name, in.f.Verdict(),
		in.named.Sub(in.began).Seconds(), in.notified(sent).Sub(in.began).Seconds(), strings.Join(slices.Sorted(maps.Keys(in.generic)), " "))
}

// tells is whether a notification is the one that the fault must lead to: of the
// node, or of all where it is everywhere.
func (in *incident) tells(n *monitoring.Notification) bool {
	c, _, _ := strings.Cut(in.f.Verdict(), "/")
	return slices.ContainsFunc(n.Alerts, func(a monitoring.Alert) bool {
		right := in.wanted(&a)
		if in.everywhere() && a.Labels["alertname"] == "KubeProxyMassCause" {
			right = a.Labels["kube_proxy_cause"] == c
		}
		return right && a.Status == "firing" && n.Receiver == receiver(&a)
	})
}

// receiver is who must get an alert.
func receiver(a *monitoring.Alert) string {
	switch a.Labels["severity"] {
	case "critical":
		return "kube-proxy-page"
	case "info":
		return "kube-proxy-info"
	}
	return "kube-proxy-" + a.Labels["kube_proxy_owner"]
}

func (in *incident) lacks(sent []monitoring.Notification) string {
	if slices.ContainsFunc(sent, func(n monitoring.Notification) bool { return in.tells(&n) }) {
		return ""
	}
	return "nobody was told " + in.f.Verdict()
}

// notified is when somebody was told.
func (in *incident) notified(sent []monitoring.Notification) time.Time {
	for i := range sent {
		if in.tells(&sent[i]) {
			return sent[i].At
		}
	}
	return time.Time{}
}

// judge wants that people were told what it is, once, and nothing else.
func (in *incident) judge(t *testing.T, sent []monitoring.Notification) {
	pages := map[string]bool{}
	for i := range sent {
		n := &sent[i]
		if n.Status != "firing" {
			continue
		}
		if n.Receiver == monitoring.DefaultReceiver {
			t.Errorf("a generic alert was delivered: %s", said(sent[i:i+1]))
		}
		if n.Receiver == "kube-proxy-page" {
			pages[n.GroupKey] = true
		}
		for k := range n.Alerts {
			a := &n.Alerts[k]
			if !a.Causal() || a.Status != "firing" {
				continue
			}
			if !in.allowed(a) && !in.wanted(a) {
				in.wrong[a.String()+" was sent to "+n.Receiver] = true
			}
		}
	}
	if len(pages) > 1 {
		t.Errorf("%d pages for one incident: %s", len(pages), said(sent))
	}
	for what := range in.wrong {
		t.Errorf("%s\n%s\n%s", what, said(sent), in.describe(t.Context()))
	}
}

// open is what was sent and not taken back.
func open(sent []monitoring.Notification) []string {
	state := map[string]bool{}
	for i := range sent {
		for k := range sent[i].Alerts {
			a := &sent[i].Alerts[k]
			if a.Labels["kube_proxy_cause"] != "symptom" { // a burnt budget stays burnt
				state[sent[i].Receiver+" "+a.String()] = a.Status == "firing"
			}
		}
	}
	maps.DeleteFunc(state, func(_ string, fires bool) bool { return !fires })
	return slices.Sorted(maps.Keys(state))
}

// said is for a person who reads a failure.
func said(sent []monitoring.Notification) string {
	var out strings.Builder
	for i := range sent {
		n := &sent[i]
		fmt.Fprintf(&out, "\n%s %s %s:", n.At.Format(time.TimeOnly), n.Receiver, n.Status)
		for k := range n.Alerts {
			fmt.Fprintf(&out, " [%s %s]", n.Alerts[k].Status, n.Alerts[k].String())
		}
	}
	return out.String()
}
