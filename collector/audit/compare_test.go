package audit

import (
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
