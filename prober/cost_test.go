package prober

import (
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"
)

// BenchmarkProbe compares a round of one attempt, counted, with a bare
// connection.
func BenchmarkProbe(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() {
		_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	}()
	at := netip.MustParseAddrPort(l.Addr().String())
	b.Run("bare", func(b *testing.B) {
		for b.Loop() {
			c, err := net.DialTimeout("tcp", at.String(), time.Second)
			if err != nil {
				b.Fatal(err)
			}
			c.Close()
		}
	})
	for _, m := range []Module{ModuleTCP, ModuleHTTP} {
		b.Run(string(m), func(b *testing.B) {
			s := NewServices(ServiceConfig{Interval: time.Minute, Timeout: time.Second})
			metrics := NewServiceMetrics("n1", "host")
			t := &ServiceTarget{Service: "default/web", Port: 80, Module: m, Endpoints: []Endpoint{{Address: at}}}
			for b.Loop() {
				r := s.Ask(b.Context(), t, 0, nil)
				if !r.Attempts[0].OK() {
					b.Fatalf("%+v", r.Attempts[0])
				}
				metrics.Note(r)
			}
		})
	}
}
