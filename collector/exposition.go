package collector

import (
	"bufio"
	"io"
	"strconv"
	"strings"
)

// family is a metric family.
type family struct {
	name, help string
	labels     []string
}

// exposition writes families as Prometheus' text format, one after the other
// and without a copy in memory: on a large cluster the client library's way,
// an object for each sample, costs several times the time and the memory of all
// else that a scrape needs.
type exposition struct {
	out    *bufio.Writer
	family *family
	headed bool // the family's header is written
	kind   string
	number []byte
}

func newExposition(w io.Writer) *exposition {
	return &exposition{out: bufio.NewWriterSize(w, 64<<10)}
}

// begin begins a family; its header is written before its first sample.
func (e *exposition) begin(f *family) { e.family, e.headed, e.kind = f, false, "gauge" }

// beginCounter begins a family of counters.
func (e *exposition) beginCounter(f *family) { e.family, e.headed, e.kind = f, false, "counter" }

// sample writes one sample of the family that was begun, with a value for each
// of its labels. Errors are kept for end.
func (e *exposition) sample(value float64, labels ...string) {
	f := e.family
	if !e.headed {
		e.headed = true
		e.put("# HELP ", f.name, " ", helpEscapes.Replace(f.help), "\n# TYPE ", f.name, " ", e.kind, "\n")
	}
	e.put(f.name)
	for i, v := range labels {
		if i == 0 {
			e.put("{")
		} else {
			e.put(",")
		}
		if strings.ContainsAny(v, "\\\n\"") {
			v = labelEscapes.Replace(v)
		}
		e.put(f.labels[i], `="`, v, `"`)
	}
	if len(labels) > 0 {
		e.put("}")
	}
	e.put(" ")
	e.number = strconv.AppendFloat(e.number[:0], value, 'g', -1, 64)
	_, _ = e.out.Write(e.number)
	e.put("\n")
}

var (
	helpEscapes  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	labelEscapes = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
)

func (e *exposition) put(texts ...string) {
	for _, t := range texts {
		_, _ = e.out.WriteString(t) // a bufio.Writer keeps its first error
	}
}

// end writes what is left and returns the first error.
func (e *exposition) end() error { return e.out.Flush() }
