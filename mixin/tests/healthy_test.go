package tests

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// Each healthy change happens this often in a day: a cluster in which more
// happens than in any.
const (
	day   = 24 * time.Hour
	often = 12
)

// absentFor is longer than any alert waits but those about the exporter itself.
const absentFor = 45 * time.Minute

// absentByDesign is a step in the middle of the time in which no kube-proxy is
// wanted; 0 if there is none.
func absentByDesign(r *recording) int {
	var steps []int
	for i := range r.series {
		s := &r.series[i]
		if s.labels.Get(labels.MetricName) != "kproxy_expected" {
			continue
		}
		for step, v := range s.values {
			if v == 0 && step > r.at(0) {
				steps = append(steps, step)
			}
		}
	}
	if len(steps) == 0 {
		return 0
	}
	slices.Sort(steps)
	return steps[len(steps)/2]
}

// TestHealthyDay replays what the exporter gave while nodes, kube-proxy, the
// control plane and Services changed in healthy ways: no alert, all day.
func TestHealthyDay(t *testing.T) {
	for _, mode := range []string{"nftables", "iptables"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			changes := recordings(t, "healthy-"+mode)
			tp := newTape(changes[0].step)
			tp.rest(changes[0], int(warmUp/tp.step))
			held := 0
			each := int(day/tp.step) / often / len(changes)
			for round := range often {
				for _, r := range changes {
					began := tp.steps
					if absent := absentByDesign(r); absent > 0 && round == 0 { // once it lasts
						tp.play(r, r.at(0), absent)
						tp.hold(r, absent, absent-1, absent+1, int(absentFor/tp.step))
						tp.play(r, absent, r.steps())
						held++
					} else {
						tp.play(r, r.at(0), r.steps())
					}
					tp.rest(r, max(0, each-(tp.steps-began)))
				}
			}
			if held == 0 {
				t.Error("kube-proxy is replaced by design in no change")
			}
			th := newTheater(t, ruleFiles()...)
			defer th.storage.Close()
			fired := map[string]bool{}
			evaluations := 0
			th.run(t, tp, func(step int) {
				evaluations++
				for _, l := range th.firing() {
					if key := l.Get("alertname") + " " + l.Get("node") + " " + l.Get("detail"); !fired[key] {
						fired[key] = true
						t.Errorf("%s fires at %s", l, th.now.Sub(epoch))
					}
				}
			})
			names := make([]string, len(changes))
			for i, r := range changes {
				names[i] = r.head["name"]
			}
			slices.Sort(names)
			t.Log(fmt.Sprintf("%d changes, each %d times, %d evaluations over %s: %v", len(names), often, evaluations, th.now.Sub(epoch), names))
		})
	}
}
