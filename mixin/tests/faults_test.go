package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// How long a fault lasts in the replay: longer than the generic alerts wait.
const (
	faultLasts = 40 * time.Minute
	warmUp     = 12 * time.Minute
	afterwards = 15 * time.Minute
)

// incident is what a recorded fault leads to with the times that people have.
type incident struct {
	*recording
	cause, detail string
	everywhere    bool
	// When alerts fired first, after the fault; by name.
	ours, generic map[string]time.Duration
	wrong         map[string]bool
	// delivered is what had reached people at its end.
	delivered []delivery
	// resolved is how long after the fault ended the last of our alerts that name
	// a cause did; negative if one never did.
	resolved time.Duration
}

const broken = "n1"

// upstream writes the generic alerts as they are, and returns the file.
func upstream(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile("../../lab/monitoring/upstream.yaml")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "upstream.yaml")
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(b), "{FOR}", "15m")), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// lengthen plays a fault so that it lasts.
func lengthen(t testing.TB, r *recording) (tp *tape, injected, healed int) {
	t.Helper()
	tp = newTape(r.step)
	steps := func(d time.Duration) int { return int(d / r.step) }
	start, end := r.at(0), min(r.at(r.number(t, "healed")), r.steps()-1)
	tp.hold(r, start-1, 0, start, steps(warmUp)) // before that an earlier fault may just have ended
	injected = tp.steps
	tp.play(r, start, end)
	tp.hold(r, end-1, start, end, steps(faultLasts)-(end-start))
	healed = tp.steps
	tp.play(r, end, r.steps())
	tp.hold(r, r.steps()-1, end, r.steps(), steps(afterwards))
	return tp, injected, healed
}

func replay(t testing.TB, r *recording, am *alertmanager, generic string) *incident {
	t.Helper()
	in := &incident{recording: r, everywhere: r.head["everywhere"] == "true", ours: map[string]time.Duration{}, generic: map[string]time.Duration{}, wrong: map[string]bool{}}
	in.cause, in.detail, _ = strings.Cut(r.head["verdict"], "/")
	tp, injected, healed := lengthen(t, r)
	th := newTheater(t, ruleFiles(generic)...)
	defer th.storage.Close()
	last := healed
	th.run(t, tp, func(step int) {
		after := time.Duration(step-injected) * tp.step
		firing := th.firing()
		if step < healed && step+int(interval/tp.step) >= healed {
			in.delivered = am.deliver(t, labelSets(firing))
		}
		for _, l := range firing {
			in.note(l, after, step < healed)
			if step >= healed && causal(l) {
				last = step + 1
			}
		}
	})
	in.resolved = time.Duration(last-healed) * tp.step
	return in
}

// causal says that an alert names a cause, and not a symptom or the exporter.
func causal(l labels.Labels) bool {
	c := l.Get("kube_proxy_cause")
	return c != "" && c != "symptom" && c != "exporter" && c != "many"
}

func (in *incident) note(l labels.Labels, after time.Duration, lasts bool) {
	name := l.Get("alertname")
	if l.Get("component") != "kube-proxy" {
		if _, known := in.generic[name]; !known && lasts {
			in.generic[name] = after
		}
		return
	}
	if _, known := in.ours[name]; !known && lasts {
		in.ours[name] = after
	}
	if !causal(l) {
		return
	}
	c, node := l.Get("kube_proxy_cause"), l.Get("node")
	right := c == in.cause && (in.everywhere || node == broken) // another detail of it may show first
	if !right && !slices.Contains(strings.Fields(in.head["beside"]), c) {
		in.wrong[fmt.Sprintf("%s %s %s/%s fires", name, node, c, l.Get("detail"))] = true
	}
}

// told is the delivery of what names the fault.
func (in *incident) told() *delivery {
	for i := range in.delivered {
		a := in.delivered[i].alert
		if string(a["kube_proxy_cause"]) != in.cause {
			continue
		}
		if a["alertname"] == "KubeProxyMassCause" && in.everywhere || a["node"] == broken && string(a["detail"]) == in.detail {
			return &in.delivered[i]
		}
	}
	return nil
}

// TestFaults replays every fault of the lab's matrix with the times that people
// have: the right alert, no other, before the generic one, which is silenced;
// and one page at most. It writes what it finds as docs/fault-matrix.md.
func TestFaults(t *testing.T) {
	am := newAlertmanager(t)
	generic := upstream(t)
	recorded := recordings(t, "faults")
	found := make([]*incident, len(recorded))
	t.Run("replay", func(t *testing.T) {
		for i, r := range recorded {
			t.Run(r.head["name"], func(t *testing.T) {
				t.Parallel()
				in := replay(t, r, am, generic)
				found[i] = in
				in.judge(t)
			})
		}
	})
	if !t.Failed() || *update {
		compareFile(t, "../../docs/fault-matrix.md", matrix(found))
	}
}

func (in *incident) judge(t *testing.T) {
	told := in.told()
	if told == nil {
		t.Errorf("nobody was told %s; delivered were %v; fired %v", in.head["verdict"], in.delivered, in.ours)
	}
	for what := range in.wrong {
		t.Error(what)
	}
	pages := map[string]bool{}
	for _, d := range in.delivered {
		if d.receiver == "default" {
			t.Errorf("a generic alert is delivered: %s", d)
		}
		if d.receiver == "kube-proxy-page" {
			pages[d.group] = true
		}
	}
	if len(pages) > 1 {
		t.Errorf("%d pages for one incident: %v", len(pages), in.delivered)
	}
	for name, after := range in.generic {
		if told != nil && after < in.ours[string(told.alert["alertname"])] {
			t.Errorf("%s fires after %s, before ours", name, after)
		}
	}
	if in.resolved > afterwards-2*time.Minute {
		t.Errorf("an alert that names a cause outlives it by %s", in.resolved)
	}
}

// matrix is the page for people.
func matrix(all []*incident) string {
	var out strings.Builder
	out.WriteString(`# What was broken, and which alert said what

Every fault was made on a real cluster (kube-proxy v1.37, two nodes) and watched by a real Prometheus, once with all alerts' times 30 times
shorter. *Named* is how long it took until a cause was visible to Prometheus there, from
when making the fault began (connections-forgotten waits for a quiet minute first). *Alert* is when the alert fires with the times that the mixin
has: the recorded series, played to the real rules with the fault lasting for 40 minutes, scraped and evaluated each 30 s. The generic alerts
are those of kubernetes-mixin, which wait 15 minutes. This page is generated: ` + "`make mixin-update`" + `.

| fault | what was broken | cause | named | generic alerts | our alert | goes to |
|---|---|---|---|---|---|---|
`)
	silent := 0
	for _, in := range all {
		if in == nil {
			continue
		}
		var generic []string
		for _, name := range []string{"KubeProxyDown", "KubeProxyInstanceUnreachable"} {
			if after, ok := in.generic[name]; ok {
				generic = append(generic, name+" "+minutes(after))
			}
		}
		if len(generic) == 0 {
			silent++
			generic = []string{"nothing"}
		}
		alert, to := "none", "nobody"
		if d := in.told(); d != nil {
			alert = string(d.alert["alertname"]) + " " + minutes(in.ours[string(d.alert["alertname"])])
			to = strings.TrimPrefix(d.receiver, "kube-proxy-")
		}
		fmt.Fprintf(&out, "| %s | %s | [%s](causes/%s.md) | %s s | %s | %s | %s |\n", in.head["name"], in.head["breaks"], in.head["verdict"], in.cause, in.head["named"], strings.Join(generic, "<br>"), alert, to)
	}
	fmt.Fprintf(&out, "\nThe generic alerts say nothing of %d of these %d faults, and of the others that a target does not answer.\n", silent, len(all))
	return out.String()
}

func minutes(d time.Duration) string {
	return fmt.Sprintf("%.1f min", d.Minutes())
}
