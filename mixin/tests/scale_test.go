package tests

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// BenchmarkRules evaluates all rules over what clusters of some sizes export: of
// one node of the lab's, as many times as there are nodes; a hundredth of them
// has a cause. It gives series and seconds for each evaluation, of which one is
// due each 30 s.
func BenchmarkRules(b *testing.B) {
	asked := map[string]bool{} // what the rules ask for; the rest costs them nothing
	for _, r := range rulesOf(b, "{}") {
		e, err := parser.NewParser(parser.Options{}).ParseExpr(r.Expr)
		if err != nil {
			b.Fatal(err)
		}
		parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
			if v, ok := n.(*parser.VectorSelector); ok {
				asked[v.Name] = true
			}
			return nil
		})
	}
	for _, nodes := range []int{100, 1000, 5000} {
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			r := readRecording(b, fullRecording)
			tp := newTape(r.step)
			well, sick := r.at(0)-1, r.at(r.number(b, "healed"))-1
			for i := range nodes {
				at := well
				if i%100 == 0 {
					at = sick
				}
				addNode(tp, r, at, fmt.Sprintf("node-%d", i), asked)
			}
			steps := int(warmUp / tp.step)
			for _, tr := range tp.series {
				first := tr.values[0]
				for k := 1; k < steps; k++ {
					v := first
					if tr.counter {
						v += float64(k) // which it does in the lab, about
					}
					tr.values = append(tr.values, v)
				}
			}
			tp.steps = steps
			th := newTheater(b, ruleFiles()...)
			defer th.storage.Close()
			for step := 0; step < tp.steps; step += int(interval / tp.step) {
				th.now = epoch.Add(time.Duration(step) * tp.step)
				th.scrape(b, tp, step)
			}
			th.evaluate(b)
			b.ResetTimer()
			for b.Loop() {
				th.now = th.now.Add(time.Second)
				th.evaluate(b)
			}
			b.ReportMetric(float64(len(tp.series)), "series")
			b.ReportMetric(float64(b.Elapsed().Seconds())/float64(b.N)/interval.Seconds(), "of-the-interval")
			for _, g := range th.groups {
				took := 0.0
				for _, rule := range g.Rules() {
					took += rule.GetEvaluationDuration().Seconds()
					if d := rule.GetEvaluationDuration(); d > 100*time.Millisecond {
						b.Logf("%s takes %s", rule.Name(), d)
					}
				}
				b.ReportMetric(took, g.Name()+"-s")
			}
		})
	}
}

// addNode adds what there is of the lab's broken node at a step, under another
// name: by the role on it, and by the cluster role.
func addNode(tp *tape, r *recording, at int, name string, asked map[string]bool) {
	for i := range r.series {
		s := &r.series[i]
		v := s.values[at]
		onNode := s.labels.Get("node") == broken
		proxy := s.labels.Get("job") == "kube-proxy" && s.labels.Get("instance") == broken
		if v == absent || !onNode && !proxy || !asked[s.labels.Get(labels.MetricName)] {
			continue
		}
		lb := labels.NewBuilder(s.labels)
		if onNode {
			lb.Set("node", name)
		}
		if proxy || s.labels.Get("instance") == "10.99.0.11:19249" { // the node role's own
			lb.Set("instance", name)
		}
		l := lb.Labels()
		tp.series[l.String()] = &track{labels: l, counter: s.counter(), values: []float64{v}}
	}
}
