package tests

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// Each healthy change happens this often in a day: a cluster in which more
// happens than in any.
const (
	day   = 24 * time.Hour
	often = 12
)

// TestHealthyDay replays what the exporter gave while nodes, kube-proxy, the
// control plane and Services changed in healthy ways: no alert, all day.
func TestHealthyDay(t *testing.T) {
	for _, mode := range []string{"nftables", "iptables"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			changes := recordings(t, "healthy-"+mode)
			tp := newTape(changes[0].step)
			tp.rest(changes[0], int(warmUp/tp.step))
			each := int(day/tp.step) / often / len(changes)
			for range often {
				for _, r := range changes {
					began := tp.steps
					tp.play(r, r.at(0), r.steps())
					tp.rest(r, max(0, each-(tp.steps-began)))
				}
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
