package audit

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/kproxy-exporter/kproxy-exporter/collector/audit"
	"github.com/kproxy-exporter/kproxy-exporter/collector/rules"
)

// kinds wants that what is said of Services is of a kind that some packet's new way is,
// and that of each packet which goes to other endpoints the kind is said.
func (l *look) kinds(before, after map[rules.Packet][]rules.Outcome, drifts []audit.Drift, base bool) error {
	said := map[audit.Kind]bool{}
	for _, d := range drifts {
		said[d.Kind] = true
	}
	right := map[audit.Kind]bool{}
	for p, was := range before {
		is := after[p]
		if !l.serves(p.Dst.Addr()) {
			was, is = accepted(was), accepted(is)
		}
		kinds, sure := kindsOf(was, is)
		if base && slices.Contains(kinds, audit.Missing) { // it meets no rules that there are
			kinds = append(kinds, audit.Unlinked)
		}
		if sure && !slices.ContainsFunc(kinds, func(k audit.Kind) bool { return said[k] }) {
			return fmt.Errorf("%+v: %v, before %v: that is %q, and what is said is %+v", p, is, was, kinds, drifts)
		}
		for _, k := range kinds {
			right[k] = true
		}
	}
	for _, d := range drifts {
		if d.Service != "" && !right[d.Kind] {
			return fmt.Errorf("%+v: no packet has such a way", d)
		}
	}
	return nil
}

// kindsOf are the kinds of drift that other ways of a packet are; sure if the endpoints
// are others, or what becomes of it where it goes to none.
func kindsOf(was, is []rules.Outcome) (kinds []audit.Kind, sure bool) {
	a, fateWas := endpoints(was)
	b, fateIs := endpoints(is)
	lost := slices.ContainsFunc(a, func(e netip.AddrPort) bool { return !slices.Contains(b, e) })
	extra := slices.ContainsFunc(b, func(e netip.AddrPort) bool { return !slices.Contains(a, e) })
	switch {
	case len(a) == 0 && len(b) > 0:
		return []audit.Kind{audit.Stale}, true
	case len(a) > 0 && len(b) == 0:
		return []audit.Kind{audit.Missing}, true
	case lost && extra:
		return []audit.Kind{audit.WrongBackend}, true
	case lost:
		return []audit.Kind{audit.Missing}, true
	case extra:
		return []audit.Kind{audit.Stale}, true
	case len(a) == 0 && fateWas == fateIs:
		return nil, false
	case len(a) == 0 && fateWas == rules.Accept:
		return []audit.Kind{audit.Stale}, true
	case len(a) == 0:
		return []audit.Kind{audit.Missing}, true
	case slices.Equal(was, is):
		return nil, false
	}
	// Shares, the source, and with which endpoint a client stays.
	return []audit.Kind{audit.Missing, audit.Stale, audit.WrongBackend}, false
}

// endpoints are those to which new clients are sent, each once, and what becomes of who
// is sent to none.
func endpoints(ways []rules.Outcome) (to []netip.AddrPort, fate rules.VerdictKind) {
	fate = rules.Accept
	for _, o := range ways {
		switch {
		case o.From.IsValid() || o.Known != "":
		case o.To.IsValid() && o.Kind == rules.Accept:
			if !slices.Contains(to, o.To) {
				to = append(to, o.To)
			}
		default:
			fate = o.Kind
		}
	}
	return to, fate
}
