package audit

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/collector/rules"
)

// difference is how the ways of a packet differ from what is wanted.
type difference struct {
	kind Kind
	what string
	by   by
	// endpoints is how many are lacking or should not be there.
	endpoints int
}

// share is how much of the traffic an endpoint may get more or less than its
// part, of that part.
const share = 0.005

// compare is nil if all the ways are right.
func (k *checker) compare(e expectation, ways []rules.Outcome, s *Service, from *source) *difference {
	got, other := map[netip.AddrPort]float64{}, 0.0
	kind := rules.Accept
	for i := range ways {
		o := &ways[i]
		switch {
		case o.From.IsValid() || o.Known != "":
		case o.To.IsValid() && o.Kind == rules.Accept:
			got[o.To] += o.Weight
		default:
			other += o.Weight
			kind = o.Kind
		}
	}
	if e.kind != rules.Accept || len(e.endpoints) == 0 {
		return compareRefusal(e, kind, got)
	}
	var lacks, extra []string
	for _, w := range e.endpoints {
		if got[w.to] == 0 {
			lacks = append(lacks, w.to.String())
		}
	}
	for to := range got {
		if !slices.ContainsFunc(e.endpoints, func(w endpoint) bool { return w.to == to }) {
			extra = append(extra, to.String())
		}
	}
	slices.Sort(extra)
	n := len(lacks) + len(extra)
	switch {
	case len(got) == 0:
		return &difference{kind: Missing, what: "it is not sent to an endpoint" + becomes(kind), endpoints: n}
	case len(lacks) > 0 && len(extra) > 0:
		return &difference{kind: WrongBackend, what: "it may be sent to " + some(extra) + " and never to " + some(lacks), endpoints: n}
	case len(lacks) > 0:
		return &difference{kind: Missing, what: "it is never sent to " + some(lacks), endpoints: n}
	case len(extra) > 0:
		return &difference{kind: Stale, what: "it may be sent to " + some(extra), endpoints: n}
	case other > 0.001:
		return &difference{kind: Missing, what: fmt.Sprintf("of %.0f %% of the packets none is sent to an endpoint%s", 100*other, becomes(kind))}
	}
	for _, w := range e.endpoints {
		if want := 1 / float64(len(e.endpoints)); math.Abs(got[w.to]-want) > share*want {
			return &difference{kind: WrongBackend, what: fmt.Sprintf("%.1f %% of it is sent to %s, of which its part is %.1f %%", 100*got[w.to], w.to, 100*want)}
		}
	}
	if d := k.compareMasquerade(e, ways, from); d != nil {
		return d
	}
	return compareAffinity(e, ways, s)
}

// compareRefusal is of a packet that should go to no endpoint.
func compareRefusal(e expectation, kind rules.VerdictKind, got map[netip.AddrPort]float64) *difference {
	switch {
	case len(got) > 0:
		var to []string
		for a := range got {
			to = append(to, a.String())
		}
		slices.Sort(to)
		return &difference{kind: Stale, what: "it may be sent to " + some(to) + " and should be" + becomes(e.kind), endpoints: len(to)}
	case kind == e.kind:
		return nil
	case kind == rules.Accept:
		return &difference{kind: Missing, what: "it should be" + becomes(e.kind) + " and is let through"}
	case e.kind == rules.Accept:
		return &difference{kind: Stale, what: "no rule should be for it, and it is" + becomes(kind)}
	}
	return &difference{kind: Missing, what: "it should be" + becomes(e.kind) + " and is" + becomes(kind)}
}

func becomes(k rules.VerdictKind) string {
	return map[rules.VerdictKind]string{rules.Drop: " dropped", rules.Reject: " refused"}[k]
}

// some shortens a list for a person.
func some(list []string) string {
	const most = 3
	if len(list) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
	}
	return strings.Join(list, ", ")
}

// compareMasquerade is of whether the source is replaced, as it must be where
// the answer would not come back otherwise; from is nil if that was not seen.
func (k *checker) compareMasquerade(e expectation, ways []rules.Outcome, from *source) *difference {
	if from == nil {
		return nil
	}
	hairpin := map[netip.AddrPort]bool{}
	for i := range ways {
		o := &ways[i]
		if o.From.IsValid() {
			if o.From == o.To.Addr() && o.Masqueraded {
				hairpin[o.To] = true
			}
			continue
		}
		if o.Hairpin || o.Masqueraded {
			hairpin[o.To] = true
		}
		if e.masquerade == nil || k.local[o.To.Addr()] || o.Masqueraded == *e.masquerade || !o.To.IsValid() {
			continue
		}
		if !*e.masquerade && o.ByOther {
			continue
		}
		if *e.masquerade {
			return &difference{kind: Missing, what: "its source should be replaced (masquerade) and is not"}
		}
		return &difference{kind: Stale, what: "its source is replaced (masquerade) and should not be"}
	}
	if !from.AnyPod {
		return nil
	}
	for _, w := range e.endpoints {
		if w.local && !k.local[w.to.Addr()] && !hairpin[w.to] {
			return &difference{kind: Missing, what: fmt.Sprintf("the source should be replaced (masquerade) if it is %s itself and is not", w.to.Addr())}
		}
	}
	return nil
}

// compareAffinity is of whether a client stays with an endpoint.
func compareAffinity(e expectation, ways []rules.Outcome, s *Service) *difference {
	records := map[string]netip.AddrPort{}
	for i := range ways {
		switch o := &ways[i]; {
		case o.From.IsValid() || o.Known != "":
		case s.Sticky == 0 && o.Records != "":
			return &difference{kind: Stale, what: "a client should not stay with an endpoint and does"}
		case s.Sticky != 0 && o.Records == "":
			return &difference{kind: Missing, what: fmt.Sprintf("a client should stay with %s and is not remembered", o.To)}
		case s.Sticky != 0:
			records[o.Records] = o.To
		}
	}
	stays := map[string]float64{} // of its packets, by the list in which it is
	for i := range ways {
		o := &ways[i]
		if o.Known == "" || o.From.IsValid() {
			continue
		}
		if s.Sticky == 0 || o.KnownFor != uint64(s.Sticky/time.Millisecond) {
			return &difference{kind: Stale, what: fmt.Sprintf("a client stays with %s for %s and should for %s", o.To, time.Duration(o.KnownFor)*time.Millisecond, s.Sticky)}
		}
		if to, known := records[o.Known]; known {
			if o.To != to {
				return &difference{kind: WrongBackend, what: fmt.Sprintf("a client that should stay with %s may be sent to %s", to, o.To)}
			}
			stays[o.Known] += o.Weight
		}
	}
	if s.Sticky != 0 && len(e.endpoints) > 1 {
		for _, list := range slices.Sorted(maps.Keys(records)) {
			to := records[list]
			switch part := stays[list]; {
			case part == 0:
				return &difference{kind: Missing, what: fmt.Sprintf("a client should stay with %s and does not", to)}
			case part < 1-share:
				return &difference{kind: Missing, what: fmt.Sprintf("a client should stay with %s and may be sent elsewhere", to)}
			}
		}
	}
	return nil
}
