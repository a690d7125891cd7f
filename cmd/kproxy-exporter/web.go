package main

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"html/template"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/pprof"
	"slices"
	"strconv"
	"sync"

	"github.com/klauspost/compress/gzhttp"
	"github.com/klauspost/compress/gzip"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"

	"github.com/kproxy-exporter/kproxy-exporter/collector"
)

// role is what the pages need of a role.
type role interface {
	Run(context.Context)
	Ready() (ok bool, lacks string)
	Report() collector.Report
	WriteMetrics(io.Writer) error
}

// counter is a role that counts in the client library's way.
type counter interface{ Collectors() []prometheus.Collector }

//go:embed causes.html
var causesHTML string

var causesTemplate = template.Must(template.New("causes").Parse(causesHTML))

// pageOrder is the order of the nodes on the page for people.
var pageOrder = []string{collector.StateSick, collector.StateUnwell, collector.StateUnknown, collector.StateHealthy, collector.StateAbsent}

func newHandler(registry *prometheus.Registry, r role, l logs, profiles bool) (http.Handler, error) {
	landing, err := web.NewLandingPage(web.LandingConfig{
		Name: "kproxy-exporter", Description: "Why kube-proxy does not do its job, per node.", Version: version.Info(), Profiling: strconv.FormatBool(profiles),
		Links: []web.LandingLinks{
			{Address: "/causes", Text: "Causes", Description: "what is wrong now, with evidence and what to do"},
			{Address: "/metrics", Text: "Metrics"},
			{Address: "/-/ready", Text: "Ready"},
		},
	})
	if err != nil {
		return nil, err
	}
	errorLog := slog.NewLogLogger(l.slog.Handler(), slog.LevelError)
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", landing)
	compressed, err := gzhttp.NewWrapper(gzhttp.CompressionLevel(gzip.BestSpeed))
	if err != nil {
		return nil, err
	}
	mux.Handle("GET /metrics", newPlaces(mostScrapes).limit(promhttp.InstrumentMetricHandler(registry, compressed(metrics(registry, r, errorLog.Println)))))
	mux.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "healthy\n") })
	mux.HandleFunc("GET /-/ready", func(w http.ResponseWriter, _ *http.Request) {
		if ok, lacks := r.Ready(); !ok {
			text(w, http.StatusServiceUnavailable, "not ready: "+lacks+" has not been read yet\n")
			return
		}
		text(w, http.StatusOK, "ready\n")
	})
	mux.Handle("GET /causes", newPlaces(mostReports).limit(causes(r, errorLog.Println)))
	if p, ok := r.(onceProber); ok {
		mux.HandleFunc("GET /probe", probe(p))
	}
	if profiles { // they tell much and cost much, so only on demand
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux, nil
}

func text(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body))
}

// metrics answers with what the role found and then with what the registry
// holds: the process itself, and what is counted. Native histograms exist in the
// binary format alone, so who asks for that gets it.
func metrics(registry prometheus.Gatherer, r role, logError func(...any)) http.HandlerFunc {
	_, counts := r.(counter)
	return func(w http.ResponseWriter, req *http.Request) {
		format := expfmt.NegotiateAccept(req.Header, expfmt.DefaultAcceptedFormats()...)
		if format.FormatType() != expfmt.TypeProtoDelim || !counts {
			format = expfmt.NewFormat(expfmt.TypeTextPlain)
		}
		w.Header().Set("Content-Type", string(format))
		encoder := expfmt.NewEncoder(w, format)
		if err := writeRole(w, r, format, encoder); err != nil {
			return // the client has gone
		}
		families, err := registry.Gather()
		if err != nil {
			logError("msg", "gather the process' own metrics", "err", err)
		}
		for _, f := range families {
			if encoder.Encode(f) != nil {
				return
			}
		}
	}
}

// writeRole writes what the role found, in a format.
func writeRole(w io.Writer, r role, format expfmt.Format, encoder expfmt.Encoder) error {
	if format.FormatType() != expfmt.TypeProtoDelim {
		return r.WriteMetrics(w)
	}
	var text bytes.Buffer
	if err := r.WriteMetrics(&text); err != nil {
		return err
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(&text)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(families)) {
		if err := encoder.Encode(families[name]); err != nil {
			return err
		}
	}
	return nil
}

// causes answers with the report, as a page or with ?format=json. Of a large cluster it
// takes much memory until it is rendered: that happens to one at a time.
func causes(r role, logError func(...any)) http.HandlerFunc {
	var rendering sync.Mutex
	return func(w http.ResponseWriter, req *http.Request) {
		var contentType string
		var render func(io.Writer, collector.Report) error
		switch req.URL.Query().Get("format") {
		case "json":
			contentType, render = "application/json", renderJSON
		case "", "html":
			contentType, render = "text/html; charset=utf-8", renderPage
			w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		default:
			text(w, http.StatusBadRequest, "format is html or json\n")
			return
		}
		var body bytes.Buffer
		rendering.Lock()
		err := render(&body, r.Report())
		rendering.Unlock()
		if err != nil {
			logError("msg", "render causes", "err", err)
			text(w, http.StatusInternalServerError, "the page could not be rendered; see the log\n")
			return
		}
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write(body.Bytes())
	}
}

func renderJSON(w io.Writer, report collector.Report) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(report)
}

// renderPage shows what is wrong first, whatever its name.
func renderPage(w io.Writer, report collector.Report) error {
	slices.SortStableFunc(report.Nodes, func(a, b collector.NodeReport) int {
		return cmp.Compare(slices.Index(pageOrder, a.State()), slices.Index(pageOrder, b.State()))
	})
	return causesTemplate.Execute(w, report)
}
