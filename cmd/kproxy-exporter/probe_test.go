package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/collector"
	"github.com/kproxy-exporter/kproxy-exporter/prober"
)

type fakeOnce func(ctx context.Context, service, port, module string) ([]*prober.Round, error)

func (f fakeOnce) ProbeOnce(ctx context.Context, service, port, module string) ([]*prober.Round, error) {
	return f(ctx, service, port, module)
}

func TestProbePage(t *testing.T) {
	vip := netip.MustParseAddrPort("10.96.0.7:80")
	var asked string
	var left time.Duration
	handler := probe(fakeOnce(func(ctx context.Context, service, port, module string) ([]*prober.Round, error) {
		asked = service + " " + port + " " + module
		if deadline, ok := ctx.Deadline(); ok {
			left = time.Until(deadline)
		}
		switch service {
		case "default/web":
			return []*prober.Round{{Target: &prober.ServiceTarget{Service: service, Port: 80, Module: prober.ModuleHTTP, VIP: vip}, At: time.Now(), Attempts: []prober.Attempt{
				{Path: prober.PathVIP, Address: vip, Reason: prober.ReasonTimeout, Error: "<b>\n", Backend: netip.MustParseAddrPort("10.1.0.1:80")}}}}, nil
		case "default/bad":
			return nil, fmt.Errorf("%w: x", collector.ErrProbeRequest)
		}
		return nil, collector.ErrProbeNone
	}))
	get := func(url string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, url, nil)
		r.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", "10")
		handler(w, r)
		return w
	}
	w := get("/probe?service=default/web&port=80&module=http&debug=true")
	body := w.Body.String()
	for _, want := range []string{"# default/web:80 http IPv4 at ", `vip      10.96.0.7:80: timeout in 0s, sent to 10.1.0.1:80: "<b>\n"`, "probe_success 0\n"} {
		if !strings.Contains(body, want) {
			t.Errorf("it does not say %s:\n%s", want, body)
		}
	}
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "text/plain; charset=utf-8" || asked != "default/web 80 http" || left <= 8*time.Second || left > 9*time.Second {
		t.Errorf("%d %v asked for %q with %s left", w.Code, w.Header(), asked, left)
	}
	if body := get("/probe?service=default/web").Body.String(); strings.Contains(body, "10.96.0.7") || asked != "default/web  tcp" {
		t.Errorf("without debug, asked for %q:\n%s", asked, body)
	}
	for url, want := range map[string]int{"/probe": 404, "/probe?service=default/bad": 400, "/probe?service=default/none": 404} {
		if w := get(url); w.Code != want {
			t.Errorf("%s answers %d, want %d: %s", url, w.Code, want, w.Body)
		}
	}
}

// Only so many at a time: it must not be a way to use up the node.
func TestProbePageIsBounded(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	handler := probe(fakeOnce(func(context.Context, string, string, string) ([]*prober.Round, error) {
		begun <- struct{}{}
		<-release
		return nil, collector.ErrProbeNone
	}))
	ended := make(chan int)
	for range atOnce {
		go func() {
			w := httptest.NewRecorder()
			handler(w, httptest.NewRequest(http.MethodGet, "/probe", nil))
			ended <- w.Code
		}()
		<-begun
	}
	w := httptest.NewRecorder()
	handler(w, httptest.NewRequest(http.MethodGet, "/probe", nil))
	if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") == "" {
		t.Errorf("one more answers %d", w.Code)
	}
	close(release)
	for range atOnce {
		if code := <-ended; code != http.StatusNotFound {
			t.Errorf("one that was let in answers %d", code)
		}
	}
}
