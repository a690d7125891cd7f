package tests

import (
	"compress/gzip"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// recording is what Prometheus scraped from the exporter and from kube-proxy in
// the lab, around a fault or a healthy change; the lab's matrix writes it.
type recording struct {
	head   map[string]string
	step   time.Duration
	before time.Duration
	series []recorded
}

// recorded is a series: a value for each step, absent where there was none.
type recorded struct {
	labels labels.Labels
	values []float64
}

var absent = math.Inf(-1)

func (r *recorded) counter() bool {
	n := r.labels.Get(labels.MetricName)
	return strings.HasSuffix(n, "_total") || strings.HasSuffix(n, "_count") || strings.HasSuffix(n, "_bucket") || strings.HasSuffix(n, "_sum")
}

func (r *recording) steps() int { return len(r.series[0].values) }

// at is the step at so many seconds after the fault.
func (r *recording) at(seconds float64) int {
	return int((r.before.Seconds() + seconds) / r.step.Seconds())
}

func (r *recording) number(t testing.TB, key string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(r.head[key], 64)
	if err != nil {
		t.Fatalf("%s: %s: %v", r.head["name"], key, err)
	}
	return v
}

// recordings are those of a directory of testdata, by name.
func recordings(t testing.TB, dir string) []*recording {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("recorded", dir, "*.txt.gz"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("nothing is recorded in %s (%v)", dir, err)
	}
	var out []*recording
	for _, p := range paths {
		out = append(out, readRecording(t, p))
	}
	return out
}

func readRecording(t testing.TB, path string) *recording {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	r := &recording{head: map[string]string{}}
	p := parser.NewParser(parser.Options{})
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if head, ok := strings.CutPrefix(line, "# "); ok {
			k, v, _ := strings.Cut(head, ":")
			r.head[k] = strings.TrimSpace(v)
			continue
		}
		name, values, ok := strings.Cut(line, "} ")
		if !ok {
			t.Fatalf("%s: %s", path, line)
		}
		l, err := p.ParseMetric(name + "}")
		if err != nil {
			t.Fatalf("%s: %s: %v", path, line, err)
		}
		r.series = append(r.series, recorded{l, parseRuns(t, values)})
	}
	if r.step, err = time.ParseDuration(r.head["step"]); err == nil {
		r.before, err = time.ParseDuration(r.head["before"])
	}
	if err != nil || len(r.series) == 0 {
		t.Fatalf("%s: %v, %d series", path, err, len(r.series))
	}
	for _, s := range r.series {
		if len(s.values) != r.steps() {
			t.Fatalf("%s: %s has %d values, others %d", path, s.labels, len(s.values), r.steps())
		}
	}
	return r
}

// parseRuns parses "1*3 _ 2".
func parseRuns(t testing.TB, text string) []float64 {
	t.Helper()
	var out []float64
	for f := range strings.FieldsSeq(text) {
		v, times, many := strings.Cut(f, "*")
		n, value := 1, absent
		var err error
		if many {
			if n, err = strconv.Atoi(times); err != nil {
				t.Fatal(err)
			}
		}
		if v != "_" {
			if value, err = strconv.ParseFloat(v, 64); err != nil {
				t.Fatal(err)
			}
		}
		out = append(out, slices.Repeat([]float64{value}, n)...)
	}
	return out
}

// tape is series over a time that is put together from recordings: a value for
// each step.
type tape struct {
	step   time.Duration
	steps  int
	series map[string]*track // by labels
}

type track struct {
	labels  labels.Labels
	counter bool
	values  []float64
	// offset makes a counter go on where it was.
	offset, last float64
	seen         bool
}

func newTape(step time.Duration) *tape { return &tape{step: step, series: map[string]*track{}} }

func (t *tape) track(r *recorded) *track {
	k := r.labels.String()
	if t.series[k] == nil {
		t.series[k] = &track{labels: r.labels, counter: r.counter()}
	}
	return t.series[k]
}

// play appends steps from..to of a recording.
func (t *tape) play(r *recording, from, to int) {
	for i := range r.series {
		s := &r.series[i]
		tr := t.track(s)
		tr.fill(t.steps)
		began := false
		for _, v := range s.values[from:to] {
			if v != absent && tr.counter {
				if !began && tr.seen {
					tr.offset = tr.last - v
				}
				began = true
				v = max(0, v+tr.offset)
				tr.last, tr.seen = v, true
			}
			tr.values = append(tr.values, v)
		}
	}
	t.steps += to - from
	t.close()
}

// rest goes on as a recording ends, when all has been well for a while; what
// failed at the last fails no more.
func (t *tape) rest(r *recording, times int) {
	t.repeat(r, r.steps()-1, times, func(s *recorded) float64 {
		if result := s.labels.Get("result"); result != "" && result != "ok" {
			return 0
		}
		return s.slope(r.steps()-3, r.steps())
	})
}

// hold repeats one step: gauges stay, counters go on as fast as they did on
// average in the steps around.
func (t *tape) hold(r *recording, at, from, to, times int) {
	t.repeat(r, at, times, func(s *recorded) float64 { return s.slope(from, to) })
}

func (t *tape) repeat(r *recording, at, times int, slopeOf func(*recorded) float64) {
	for i := range r.series {
		s := &r.series[i]
		tr := t.track(s)
		tr.fill(t.steps)
		v := s.values[at]
		slope := 0.0
		if tr.counter && v != absent {
			slope = slopeOf(s)
			if !tr.seen {
				tr.last = v
			}
		}
		for range times {
			if tr.counter && v != absent {
				tr.last, tr.seen = tr.last+slope, true
				tr.values = append(tr.values, tr.last)
				continue
			}
			tr.values = append(tr.values, v)
		}
	}
	t.steps += times
	t.close()
}

// slope is by how much a counter grew in a step, from the first to the last
// value in a range.
func (r *recorded) slope(from, to int) float64 {
	first, last := -1, -1
	for k := from; k < to; k++ {
		if r.values[k] != absent {
			if first < 0 {
				first = k
			}
			last = k
		}
	}
	if first < 0 || last == first || r.values[last] < r.values[first] {
		return 0
	}
	return (r.values[last] - r.values[first]) / float64(last-first)
}

func (tr *track) fill(to int) {
	for len(tr.values) < to {
		tr.values = append(tr.values, absent)
	}
}

// close fills up what the last piece did not have.
func (t *tape) close() {
	for _, tr := range t.series {
		tr.fill(t.steps)
	}
}
