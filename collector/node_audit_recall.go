package collector

import (
	"errors"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/collector/audit"
	"github.com/kproxy-exporter/kproxy-exporter/collector/rules"
)

// compared is what looks were at.
type compared struct {
	services map[string]bool
	nobody   map[rules.Addressee]bool
}

// checkAll is check of all Services in mode nftables. Where there are many, it leaves a
// fingerprint, so that another such look may be spared.
func (a *ruleAudit) checkAll(reader *rules.Reader, state *audit.State, c *audit.Config, p plan, one *familyAudit) (result audit.Result, err error) {
	var print *rules.Fingerprint
	if a.n.cfg.Audit == AuditAll && len(state.Services) > auditFew {
		print, _, _ = reader.Fingerprint(c.Family, nil) // why there is none does not matter: rules are read next
	}
	rs, err := reader.ReadNFTables(c.Family)
	if err != nil {
		return result, err
	}
	one.frame, one.print = rs.Frame(), nil
	if result, err = audit.Check(rs, state, c, &p.scope); err != nil || print == nil {
		return result, err
	}
	// What changed meanwhile may have been compared as it was, or as it is.
	if _, changes, failed := reader.Fingerprint(c.Family, print); failed == nil {
		if touched, nobody, ok := p.scope.Claims.Touched(changes, state); ok {
			one.print, one.since = print, compared{map[string]bool{}, map[rules.Addressee]bool{}}
			one.since.note(touched, nobody)
		}
	}
	return result, nil
}

// recall finds out what is not as it was at the last look at all, where nobody knows what
// changed.
func (a *ruleAudit) recall(reader *rules.Reader, one *familyAudit, c *audit.Config, l *looked) {
	if one.print == nil || !one.told.All || a.parts.wait(time.Now()) > 0 {
		return
	}
	spent := processors()
	print, changes, err := reader.Fingerprint(c.Family, one.print)
	for try := 1; errors.Is(err, rules.ErrChanged) && try < 3; try++ {
		print, changes, err = reader.Fingerprint(c.Family, one.print)
	}
	l.part += processors() - spent
	switch {
	case err != nil: // it is tried again, or all is looked at
	case changes.All: // all is to be looked at
		one.print = nil
	default:
		one.told, one.recalled, one.frame = *changes, true, print.Frame()
	}
}

// note notes what a look compared after the fingerprint was taken.
func (s *compared) note(services []string, nobody []rules.Addressee) {
	for _, name := range services {
		s.services[name] = true
	}
	for _, a := range nobody {
		s.nobody[a] = true
	}
}
