package tests

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
)

// dashboard is as much of Grafana's model as is held to something.
type dashboard struct {
	UID, Title string
	Tags       []string
	Panels     []struct {
		ID                       int
		Type, Title, Description string
		GridPos                  struct{ X, Y, W, H int }
		Datasource               struct{ UID string }
		Targets                  []struct {
			Expr  string
			RefID string `json:"refId"`
		}
		FieldConfig struct{ Defaults struct{ Unit string } }
	}
	Templating struct {
		List []struct {
			Name, Type string
			Query      any
			Hide       int
		}
	}
}

func dashboards(t testing.TB, config string) map[string]dashboard {
	t.Helper()
	var out map[string]dashboard
	render(t, with(config)+`.grafanaDashboards`, &out)
	return out
}

// TestDashboardsAreWhole looks for what makes a dashboard break in Grafana.
func TestDashboardsAreWhole(t *testing.T) {
	uids := map[string]bool{}
	for file, d := range dashboards(t, "{}") {
		if d.UID == "" || len(d.UID) > 40 || uids[d.UID] {
			t.Errorf("%s: uid %q", file, d.UID)
		}
		uids[d.UID] = true
		if d.Title == "" || len(d.Tags) == 0 {
			t.Errorf("%s has title %q and tags %v", file, d.Title, d.Tags)
		}
		ids := map[int]bool{}
		taken := map[[2]int]string{}
		for _, p := range d.Panels {
			where := file + ": " + p.Title
			if p.ID == 0 || ids[p.ID] {
				t.Errorf("%s: id %d", where, p.ID)
			}
			ids[p.ID] = true
			g := p.GridPos
			if g.W <= 0 || g.H <= 0 || g.X < 0 || g.X+g.W > 24 {
				t.Errorf("%s stands at %+v", where, g)
			}
			for x := g.X; x < g.X+g.W; x++ {
				for y := g.Y; y < g.Y+g.H; y++ {
					if other := taken[[2]int{x, y}]; other != "" {
						t.Fatalf("%s covers %s", where, other)
					}
					taken[[2]int{x, y}] = p.Title
				}
			}
			if p.Type == "row" {
				continue
			}
			if p.Description == "" || p.Title == "" {
				t.Errorf("%s has no description or title", where)
			}
			if p.Type != "text" && (p.Datasource.UID != "${datasource}" || p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0) {
				t.Errorf("%s has data source %q, unit %q, %d queries", where, p.Datasource.UID, p.FieldConfig.Defaults.Unit, len(p.Targets))
			}
			refs := map[string]bool{}
			for _, q := range p.Targets {
				if refs[q.RefID] {
					t.Errorf("%s has %s twice", where, q.RefID)
				}
				refs[q.RefID] = true
			}
		}
	}
	hidden := func(config string) int {
		for _, v := range dashboards(t, config)["kproxy-on-call.json"].Templating.List {
			if v.Name == "cluster" {
				return v.Hide
			}
		}
		return -1
	}
	if hidden("{}") != 2 || hidden("{showMultiCluster: true}") != 0 {
		t.Errorf("the choice of a cluster is hidden %d, shown %d", hidden("{}"), hidden("{showMultiCluster: true}"))
	}
}

// TestDashboardLinks wants that every link leads to a dashboard of the mixin, or
// to a page that is there for every cause.
func TestDashboardLinks(t *testing.T) {
	var all map[string]any
	render(t, with("{}")+`.grafanaDashboards`, &all)
	b, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	uids := dashboards(t, "{}")
	for _, m := range regexp.MustCompile(`"url":"([^"]*)"`).FindAllStringSubmatch(string(b), -1) {
		link := strings.ReplaceAll(m[1], `\u0026`, "&")
		switch uid, ok := strings.CutPrefix(link, "/d/"); {
		case link == "":
		case ok:
			uid, _, _ = strings.Cut(uid, "?")
			found := false
			for _, d := range uids {
				found = found || d.UID == uid
			}
			if !found {
				t.Errorf("%s leads nowhere", link)
			}
		default:
			pages, _ := filepath.Glob("../../docs/causes/*.md")
			for _, p := range pages {
				checkRunbook(t, "a dashboard", strings.ReplaceAll(link, "${__data.fields.cause}", strings.TrimSuffix(filepath.Base(p), ".md")))
			}
		}
	}
}

// mayBeEmpty are queries that rightly find nothing during the fault that the
// recording is of, and why.
var mayBeEmpty = map[string]string{
	"What the exporter could not read":    "it could read all",
	"Nodes whose rules do not follow":     "the canary is not asked by a node without its rules",
	"Lines of kube-proxy's log, by class": "kube-proxy says nothing of it",
	"Failures to write the rules":         "one of the two backends has its counter",
}

// TestDashboardQueries runs every query of every dashboard with the real engine
// over what the exporter really gave during a fault.
func TestDashboardQueries(t *testing.T) {
	r := readRecording(t, fullRecording)
	tp, _, healed := lengthen(t, r)
	th := newTheater(t, ruleFiles(upstream(t))...)
	defer th.storage.Close()
	engine := promqltest.NewTestEngineWithOpts(t, promql.EngineOpts{MaxSamples: 50_000_000, Timeout: time.Minute, LookbackDelta: 5 * time.Minute})
	rules := rulesOf(t, "{}")
	there := known(t, rules)
	replace := strings.NewReplacer("$cluster", ".*", "${node:regex}", "n1", "$node", "n1", "$__rate_interval", "2m", "${datasource}", "x")
	labelValues := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)
	looked := false
	th.run(t, tp, func(step int) {
		if step >= healed || step+int(interval/tp.step) < healed {
			return
		}
		looked = true
		query := func(where, expr string) int {
			checkExpr(t, where, expr, there, 0)
			q, err := engine.NewInstantQuery(t.Context(), th.storage, nil, expr, th.now)
			if err != nil {
				t.Errorf("%s: %s: %v", where, expr, err)
				return 0
			}
			defer q.Close()
			res := q.Exec(t.Context())
			v, err := res.Vector()
			if err != nil {
				t.Errorf("%s: %s: %v", where, expr, err)
			}
			return len(v)
		}
		for file, d := range dashboards(t, "{}") {
			for _, p := range d.Panels {
				for _, target := range p.Targets {
					where := fmt.Sprintf("%s: %s (%s)", file, p.Title, target.RefID)
					if n := query(where, replace.Replace(target.Expr)); n == 0 && mayBeEmpty[p.Title] == "" {
						t.Errorf("%s finds nothing: %s", where, target.Expr)
					}
				}
			}
			for _, v := range d.Templating.List {
				if v.Type != "query" {
					continue
				}
				text := v.Query.(map[string]any)["query"].(string)
				m := labelValues.FindStringSubmatch(replace.Replace(text))
				if m == nil {
					t.Errorf("%s: variable %s: %s", file, v.Name, text)
					continue
				}
				if query(file+": "+v.Name, m[1]) == 0 {
					t.Errorf("%s: variable %s finds nothing", file, v.Name)
				}
			}
		}
	})
	if !looked {
		t.Error("nothing was looked at")
	}
}
