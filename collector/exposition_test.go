package collector

import (
	"bytes"
	"errors"
	"math"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// What is written is what Prometheus' own parser reads, whatever is in it.
func TestExpositionIsReadAsItWasWritten(t *testing.T) {
	f := family{"kproxy_test", "Help with \\ and\nanother line and \"quotes\".", []string{"a", "b"}}
	values := []string{"", "plain", `back\slash`, "new\nline", `"quoted"`, "ünïcode", `\n`, `a="b",c="d"} 1`}
	for _, a := range values {
		for _, v := range []float64{0, 1, -1.5, 1763911234.123, math.Inf(1), 1e-9} {
			var out bytes.Buffer
			e := newExposition(&out)
			e.begin(&family{"kproxy_empty", "No samples, no header.", nil})
			e.begin(&f)
			e.sample(v, a, "x")
			e.sample(2, "other", a)
			e.begin(&family{"kproxy_bare", "Without labels.", nil})
			e.sample(3)
			if err := e.end(); err != nil {
				t.Fatal(err)
			}
			parser := expfmt.NewTextParser(model.UTF8Validation)
			got, err := parser.TextToMetricFamilies(&out)
			if err != nil {
				t.Fatalf("%q: %v", a, err)
			}
			if len(got) != 2 || got["kproxy_test"].GetHelp() != f.help || len(got["kproxy_test"].Metric) != 2 {
				t.Fatalf("%q: %v", a, got)
			}
			first, second := got["kproxy_test"].Metric[0], got["kproxy_test"].Metric[1]
			if first.GetGauge().GetValue() != v || first.Label[0].GetValue() != a || first.Label[1].GetValue() != "x" || second.Label[1].GetValue() != a {
				t.Errorf("%q %v was read as %v, %v", a, v, first, second)
			}
			if bare := got["kproxy_bare"].Metric[0]; bare.GetGauge().GetValue() != 3 || len(bare.Label) != 0 {
				t.Errorf("bare: %v", bare)
			}
		}
	}
}

var errGone = errors.New("the client is gone")

type goneWriter struct{}

func (goneWriter) Write([]byte) (int, error) { return 0, errGone }

func TestExpositionKeepsTheError(t *testing.T) {
	e := newExposition(goneWriter{})
	e.begin(&family{"kproxy_test", "Help.", []string{"a"}})
	for range 10000 {
		e.sample(1, "value")
	}
	if err := e.end(); !errors.Is(err, errGone) {
		t.Errorf("got %v", err)
	}
}
