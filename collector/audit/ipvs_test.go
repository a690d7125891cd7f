package audit

import (
	"net/netip"
	"testing"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/collector/rules"
)

// TestIPVS is every way in which virtual servers may differ, and those in which
// they may not. The real ones are compared in lab/vm.
func TestIPVS(t *testing.T) {
	at := netip.MustParseAddrPort
	server := func() *rules.IPVS {
		return &rules.IPVS{
			Bound:   []netip.Addr{netip.MustParseAddr("10.96.0.9")},
			Servers: []rules.VirtualServer{{Proto: TCP, Dst: at("10.96.0.9:80"), Servers: map[netip.AddrPort]int{at("10.0.0.1:8080"): 1, at("10.0.0.2:8080"): 1}}},
		}
	}
	for name, tc := range map[string]struct {
		change func(*rules.IPVS, *Service)
		want   Kind
	}{
		"right":               {func(*rules.IPVS, *Service) {}, ""},
		"one ends":            {func(v *rules.IPVS, _ *Service) { v.Servers[0].Servers[at("10.0.0.7:8080")] = 0 }, ""},
		"no virtual server":   {func(v *rules.IPVS, _ *Service) { v.Servers = nil }, Missing},
		"a real server lacks": {func(v *rules.IPVS, _ *Service) { delete(v.Servers[0].Servers, at("10.0.0.2:8080")) }, Missing},
		"one gets nothing":    {func(v *rules.IPVS, _ *Service) { v.Servers[0].Servers[at("10.0.0.2:8080")] = 0 }, Missing},
		"one too many":        {func(v *rules.IPVS, _ *Service) { v.Servers[0].Servers[at("10.0.0.7:8080")] = 1 }, Stale},
		"another in its place": {func(v *rules.IPVS, _ *Service) {
			delete(v.Servers[0].Servers, at("10.0.0.2:8080"))
			v.Servers[0].Servers[at("10.0.0.7:8080")] = 1
		}, WrongBackend},
		"weights":                    {func(v *rules.IPVS, _ *Service) { v.Servers[0].Servers[at("10.0.0.2:8080")] = 5 }, WrongBackend},
		"not bound":                  {func(v *rules.IPVS, _ *Service) { v.Bound = nil }, Unlinked},
		"no affinity":                {func(_ *rules.IPVS, s *Service) { s.Sticky = time.Minute }, Missing},
		"affinity that nobody wants": {func(v *rules.IPVS, _ *Service) { v.Servers[0].Persistent = 60 }, Stale},
		"affinity":                   {func(v *rules.IPVS, s *Service) { v.Servers[0].Persistent, s.Sticky = 60, time.Minute }, ""},
		"of no Service": {func(v *rules.IPVS, _ *Service) {
			v.Servers = append(v.Servers, rules.VirtualServer{Proto: UDP, Dst: at("10.96.0.9:53")})
		}, Stale},
		"somebody else's, not bound": {func(v *rules.IPVS, _ *Service) {
			v.Servers = append(v.Servers, rules.VirtualServer{Proto: UDP, Dst: at("172.16.0.9:53")})
		}, ""},
		"policy Local, and none is":     {func(_ *rules.IPVS, s *Service) { s.ExternalLocal = true }, ""},
		"the Service is of IPv6 by now": {func(_ *rules.IPVS, s *Service) { s.ClusterIPs = []netip.Addr{netip.MustParseAddr("fd00::9")} }, Stale},
	} {
		t.Run(name, func(t *testing.T) {
			s := &Service{Name: "a/b", ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.9")}, Ports: []Port{{Name: "http", Protocol: TCP, Port: 80}}}
			e := &Slice{Service: "a/b", Ports: []Port{{Name: "http", Protocol: TCP, Port: 8080}}, Endpoints: []Endpoint{{Address: netip.MustParseAddr("10.0.0.1"), Ready: true}, {Address: netip.MustParseAddr("10.0.0.2"), Ready: true}}}
			v := server()
			tc.change(v, s)
			r := CheckIPVS(v, &State{map[string]*Service{"a/b": s}, map[string][]*Slice{"a/b": {e}}}, &Config{Mode: ModeIPVS, Family: rules.IPv4}, nil)
			var got Kind
			if len(r.Drifts) > 0 {
				got = r.Drifts[0].Kind
			}
			if got != tc.want {
				t.Errorf("got %+v, want %q", r.Drifts, tc.want)
			}
		})
	}
}
