package collector

import (
	"maps"
	"slices"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/collector/audit"
	"github.com/kproxy-exporter/kproxy-exporter/collector/rules"
)

// plan is what a look at the rules of an IP family compares.
type plan struct {
	extent audit.Extent
	scope  audit.Scope
	// owed says that all Services are still to be looked at.
	owed bool
}

// plan says what to look at: what changed and what differed, if that can be told,
// else everything; ok is false if that would take more than it may. The caller holds
// the lock of desired.
func (a *ruleAudit) plan(one *familyAudit, c *audit.Config, seen *auditSeen) (p plan, ok bool) {
	wants := a.n.desired.audit
	state := wants.state()
	if one.claims == nil || one.claimedAt != wants.claims {
		one.claims, one.claimedAt = audit.NewClaims(state.Services, c.Family), wants.claims
		one.services = a.counted(state, c.Family)
	}
	services, nobodys, attributed := one.judge.Suspects()
	since := seen.at.Sub(one.whole)
	first := !one.tried
	afford := first || a.wholes.wait(time.Now()) == 0 || !attributed && one.result.Pending && since > 10*max(one.wholeTook, one.wholeCost)
	few := len(state.Services) <= auditFew
	if old := since > auditWhole && afford; !first && attributed && !few && !old {
		if some, nobody, ok := a.changed(one, c, state, seen.generation); ok && len(some) <= len(state.Services)/4 {
			for name := range services {
				some[name] = true
			}
			return a.within(plan{extent: audit.OfChanged, scope: audit.Scope{Services: some, Nobody: append(nobody, nobodys...), Claims: one.claims}}), true
		}
	}
	switch {
	case afford:
		return a.within(plan{extent: audit.OfAll, scope: audit.Scope{Claims: one.claims}}), true
	case !attributed || a.parts.wait(time.Now()) > 0:
		return p, false
	}
	// Meanwhile some say whether all are gone: first those of which the API says
	// something new.
	recent, _, _ := wants.since(one.version)
	for name := range recent {
		if len(services) < auditSample && state.Services[name] != nil {
			services[name] = true
		}
	}
	for _, name := range a.n.desired.ownAndProbed() {
		if state.Services[name] != nil {
			services[name] = true
		}
	}
	for name := range state.Services {
		if len(services) >= auditSample {
			break
		}
		services[name] = true
	}
	return a.within(plan{extent: audit.OfSuspects, scope: audit.Scope{Services: services, Nobody: nobodys, Claims: one.claims}, owed: true}), true
}

const (
	// auditFew are so few Services that all are always looked at.
	auditFew = 100
	// auditSample is how many are looked at while all cannot be.
	auditSample = 50
)

// within leaves only the exporter's own Services, and those that are probed, where
// nothing else is to be compared.
func (a *ruleAudit) within(p plan) plan {
	if a.n.cfg.Audit != AuditCanary {
		return p
	}
	own := map[string]bool{}
	p.scope.Nobody = nil
	for _, name := range a.n.desired.ownAndProbed() {
		if p.scope.Services == nil || p.scope.Services[name] {
			own[name] = true
		}
	}
	p.scope.Services = own
	return p
}

// changed are the Services of which the rules, or what the API wants, changed since
// the last look, and other addressees for which there may be rules now; ok is false
// if it cannot be told.
func (a *ruleAudit) changed(one *familyAudit, c *audit.Config, state *audit.State, generation uint32) (services map[string]bool, nobody []rules.Addressee, ok bool) {
	if one.polled || !slices.Equal(one.addresses, c.Addresses) {
		return nil, nil, false
	}
	services, gone, ok := a.n.desired.audit.since(one.version)
	if !ok {
		return nil, nil, false
	}
	for _, s := range gone {
		nobody = append(nobody, s.Addressees(c.Family)...)
	}
	if c.Mode != audit.ModeNFTables {
		// A rule that is left cannot be asked for, and neither can what changed in the kernel.
		return services, nil, len(nobody) == 0 && one.generation == generation
	}
	if one.frame == nil {
		return nil, nil, false
	}
	touched, of, ok := one.claims.Touched(&one.told, state)
	for _, name := range touched {
		services[name] = true
	}
	if one.recalled {
		maps.Copy(services, one.since.services)
		of = slices.AppendSeq(of, maps.Keys(one.since.nobody))
	}
	return services, append(nobody, of...), ok
}
