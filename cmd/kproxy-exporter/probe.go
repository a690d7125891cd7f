package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/collector"
	"github.com/kproxy-exporter/kproxy-exporter/prober"
)

// onceProber is a role that asks a Service when it is told to.
type onceProber interface {
	ProbeOnce(ctx context.Context, service, port, module string) ([]*prober.Round, error)
}

// atOnce is how many requests of /probe are served at a time.
const atOnce = 8

// probe answers /probe?service=NAMESPACE/NAME&port=P&module=M&debug=true.
func probe(p onceProber) http.HandlerFunc {
	room := make(chan struct{}, atOnce)
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case room <- struct{}{}:
			defer func() { <-room }()
		default:
			w.Header().Set("Retry-After", "1")
			text(w, http.StatusTooManyRequests, fmt.Sprintf("%d probes are being made\n", atOnce))
			return
		}
		q := r.URL.Query()
		module := q.Get("module")
		if module == "" {
			module = string(prober.ModuleTCP)
		}
		ctx := r.Context()
		if seconds, err := strconv.ParseFloat(r.Header.Get("X-Prometheus-Scrape-Timeout-Seconds"), 64); err == nil && seconds > 0 && seconds < 3600 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, time.Duration(seconds*float64(time.Second))*9/10)
			defer cancel()
		}
		rounds, err := p.ProbeOnce(ctx, q.Get("service"), q.Get("port"), module)
		switch {
		case errors.Is(err, collector.ErrProbeRequest):
			text(w, http.StatusBadRequest, err.Error()+"\n")
			return
		case err != nil:
			text(w, http.StatusNotFound, err.Error()+"\n")
			return
		}
		var body bytes.Buffer
		if q.Get("debug") == "true" {
			debugRounds(&body, rounds)
		}
		if err := collector.WriteRounds(&body, rounds); err != nil {
			text(w, http.StatusInternalServerError, err.Error()+"\n")
			return
		}
		text(w, http.StatusOK, body.String())
	}
}

// debugRounds is every attempt, for people.
func debugRounds(out *bytes.Buffer, rounds []*prober.Round) {
	for _, r := range rounds {
		fmt.Fprintf(out, "# %s at %s: %d endpoints\n", r.Target.Key(), r.At.UTC().Format(time.RFC3339Nano), len(r.Target.Endpoints))
		for i := range r.Attempts {
			a := &r.Attempts[i]
			fmt.Fprintf(out, "#   %-8s %s: %s in %s", a.Path, a.Address, a.Reason, a.Total.Round(time.Microsecond))
			for _, p := range a.Took {
				fmt.Fprintf(out, ", %s %s", p.Phase, p.Took.Round(time.Microsecond))
			}
			if a.Backend.IsValid() {
				fmt.Fprintf(out, ", sent to %s", a.Backend)
			}
			if a.Error != "" {
				fmt.Fprintf(out, ": %q", a.Error)
			}
			out.WriteString("\n")
		}
	}
	out.WriteString("\n")
}
