package audit

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/collector/rules"
)

// TestCompareAffinity is of whether a client stays where it was sent first.
func TestCompareAffinity(t *testing.T) {
	a, b := netip.MustParseAddrPort("10.244.1.2:80"), netip.MustParseAddrPort("10.244.1.3:80")
	const hour = 3600 * 1000
	first := func(to netip.AddrPort, list string) rules.Outcome {
		return rules.Outcome{To: to, Weight: 0.5, Records: list}
	}
	known := func(to netip.AddrPort, list string, part float64, ms uint64) rules.Outcome {
		return rules.Outcome{To: to, Weight: part, Known: list, KnownFor: ms, Records: list}
	}
	for _, tc := range []struct {
		name   string
		sticky time.Duration
		ways   []rules.Outcome
		kind   Kind
		says   string
	}{
		{"it stays", time.Hour, []rules.Outcome{first(a, "A"), first(b, "B"), known(a, "A", 1, hour), known(b, "B", 1, hour)}, "", ""},
		{"it stays, by two rules", time.Hour, []rules.Outcome{first(a, "A"), first(b, "B"), known(a, "A", 0.5, hour), known(a, "A", 0.5, hour), known(b, "B", 1, hour)}, "", ""},
		{"chance comes before memory", time.Hour, []rules.Outcome{first(a, "A"), first(b, "B"), known(a, "A", 1, hour), known(b, "B", 0.5, hour)}, Missing, "stay with 10.244.1.3:80 and may be sent elsewhere"},
		{"memory is not asked", time.Hour, []rules.Outcome{first(a, "A"), first(b, "B"), known(b, "B", 1, hour)}, Missing, "stay with 10.244.1.2:80 and does not"},
		{"nothing is remembered", time.Hour, []rules.Outcome{first(a, ""), first(b, "B"), known(b, "B", 1, hour)}, Missing, "is not remembered"},
		{"it leads to another", time.Hour, []rules.Outcome{first(a, "A"), first(b, "B"), known(b, "A", 1, hour), known(b, "B", 1, hour)}, WrongBackend, "stay with 10.244.1.2:80 may be sent to 10.244.1.3:80"},
		{"for too long", time.Minute, []rules.Outcome{first(a, "A"), first(b, "B"), known(a, "A", 1, hour), known(b, "B", 1, hour)}, Stale, "for 1h0m0s and should for 1m0s"},
		{"it should not", 0, []rules.Outcome{first(a, "A"), first(b, "B"), known(a, "A", 1, hour), known(b, "B", 1, hour)}, Stale, "should not stay"},
		{"it need not", 0, []rules.Outcome{first(a, ""), first(b, "")}, "", ""},
	} {
		d := compareAffinity(expectation{endpoints: []endpoint{{to: a}, {to: b}}}, tc.ways, &Service{Sticky: tc.sticky})
		switch {
		case d == nil && tc.kind != "":
			t.Errorf("%s: nothing is said", tc.name)
		case d != nil && (d.kind != tc.kind || !strings.Contains(d.what, tc.says)):
			t.Errorf("%s: %s, %s", tc.name, d.kind, d.what)
		}
	}
}

// TestZoneless is of rules that would be right if the node had no zone.
func TestZoneless(t *testing.T) {
	a, b := netip.MustParseAddrPort("10.244.1.2:80"), netip.MustParseAddrPort("10.244.1.3:80")
	service := &Service{Name: "x/y", ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.9")}, Ports: []Port{{Protocol: TCP, Port: 80}}}
	slice := &Slice{Service: service.Name, Ports: []Port{{Protocol: TCP, Port: 80}}}
	for at, zone := range map[netip.AddrPort]string{a: "a", b: "b"} {
		slice.Endpoints = append(slice.Endpoints, Endpoint{Address: at.Addr(), Ready: true, Serving: true, Hints: &Hints{Zones: []string{zone}}})
	}
	state := &State{Services: map[string]*Service{service.Name: service}, Slices: map[string][]*Slice{service.Name: {slice}}}
	way := func(to netip.AddrPort, part float64) rules.Outcome {
		return rules.Outcome{Kind: rules.Accept, To: to, Weight: part}
	}
	for _, tc := range []struct {
		name, zone string
		known      bool
		ways       []rules.Outcome
		want       bool
	}{
		{"to all endpoints", "a", true, []rules.Outcome{way(a, 0.5), way(b, 0.5)}, true},
		{"to those of the zone", "a", true, []rules.Outcome{way(a, 1)}, false},
		{"to those of another zone", "a", true, []rules.Outcome{way(b, 1)}, false},
		{"to somebody else too", "a", true, []rules.Outcome{way(a, 0.5), way(netip.MustParseAddrPort("10.244.1.4:80"), 0.5)}, false},
		{"it has no zone", "", true, []rules.Outcome{way(a, 0.5), way(b, 0.5)}, false},
		{"its zone is not known", "", false, []rules.Outcome{way(a, 0.5), way(b, 0.5)}, false},
	} {
		c := &Config{Mode: ModeNFTables, Family: rules.IPv4, Node: "n1", Zone: tc.zone, ZoneKnown: tc.known}
		k := newChecker(nil, state, c, nil)
		claims := k.claims.of[destination{TCP, netip.AddrPortFrom(service.ClusterIPs[0], 80)}]
		if got := k.zoneless(claims, tc.ways, &source{name: "x"}, service.ClusterIPs[0]); len(claims) != 1 || got != tc.want {
			t.Errorf("%s: %t of %d claims, want %t", tc.name, got, len(claims), tc.want)
		}
	}
}

// TestCompareAffinityAgain is that the same rules are called the same each time.
func TestCompareAffinityAgain(t *testing.T) {
	var e expectation
	var ways []rules.Outcome
	for i := range 10 {
		to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, 9, byte(i + 1)}), 8080)
		e.endpoints = append(e.endpoints, endpoint{to: to})
		ways = append(ways, rules.Outcome{Kind: rules.Accept, To: to, Weight: .1, Records: fmt.Sprint("affinity-", i)})
	}
	first := compareAffinity(e, ways, &Service{Sticky: time.Hour})
	for range 100 {
		if again := compareAffinity(e, ways, &Service{Sticky: time.Hour}); *again != *first {
			t.Fatalf("%+v, and then %+v", first, again)
		}
	}
}
