package collector

import (
	"strings"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/collector/audit"
	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
	"github.com/kproxy-exporter/kproxy-exporter/collector/rules"
)

// add puts what is known of an IP family to the rest.
func (s *auditSeen) add(f rules.Family, one *familyAudit) {
	r := &s.result
	if one.at.Before(r.At) {
		r.At = one.at
	}
	s.wholes += max(one.wholeTook, one.wholeCost)
	r.Services += one.services
	if one.result.Flushed {
		r.Flushed = append(r.Flushed, f.String())
	}
	if t := one.result.Since; !t.IsZero() && (r.Since.IsZero() || t.Before(r.Since)) {
		r.Since = t
	}
	type of struct{ service, kind string }
	counted := map[of]bool{}
	for _, d := range one.result.Drifts {
		if k := (of{d.Service, string(d.Kind)}); d.Service == "" || !counted[k] {
			counted[k] = true
			r.Drift[string(d.Kind)]++
		}
		if len(r.Examples) < auditExamples {
			r.Examples = append(r.Examples, strings.TrimSpace(d.Service+" "+string(d.Kind)+": "+d.What))
		}
	}
}

// believable is for how long an outcome can be believed: until the next look at all
// Services can be afforded, and has come to an end.
func (s *auditSeen) believable() time.Duration {
	return believed*auditEvery + wholeShare*s.wholes
}

// snapshot is the newest outcome; nil if there is none that can be believed.
func (a *ruleAudit) snapshot(now time.Time) *cause.Audit {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.seen.result
	r.Lacks, r.Found = a.seen.lacks, a.seen.lacks != "" && !r.Since.IsZero()
	switch old := r.At.IsZero() || now.Sub(r.At) > a.seen.believable(); {
	case r.Lacks == "" && old:
		return &cause.Audit{Lacks: "a look at the rules that comes to an end", Found: !r.Since.IsZero()}
	case old:
		return &cause.Audit{Lacks: r.Lacks, Found: r.Found}
	}
	return &r
}

var (
	auditServices = family{"kproxy_audit_services", "How many Services' rules the newest look compared with what the API wants; a Service of two IP families counts twice.", []string{"node"}}
	auditDrift    = family{"kproxy_audit_drift", "How many Services' rules differ from what the API wants, by how; no sample while that is unknown.", []string{"kind", "node"}}
	auditOldest   = family{"kproxy_audit_oldest_drift_timestamp_seconds", "Since when the rules of the Service that differ for longest do, in seconds since the epoch; no sample while none do.", []string{"node"}}
	auditTook     = family{"kproxy_audit_duration_seconds", "How long the newest look took that read rules.", []string{"node"}}
	auditLast     = family{"kproxy_audit_last_timestamp_seconds", "When the newest look began that came to an end, in seconds since the epoch.", []string{"node"}}
	auditGen      = family{"kproxy_audit_generation", "The number of the state of nf_tables that was compared: it grows with each change of any rule on the node.", []string{"node"}}
)

// write writes what the newest look found.
func (a *ruleAudit) write(e *exposition, r *cause.Audit) {
	if r == nil || r.Lacks != "" {
		return
	}
	a.mu.Lock()
	took, generation := a.seen.took, a.seen.generation
	a.mu.Unlock()
	node := a.n.cfg.Name
	e.begin(&auditServices)
	e.sample(float64(r.Services), node)
	e.begin(&auditDrift)
	for _, k := range audit.Kinds {
		e.sample(float64(r.Drift[string(k)]), string(k), node)
	}
	if !r.Since.IsZero() {
		e.begin(&auditOldest)
		e.sample(seconds(r.Since), node)
	}
	for _, one := range []struct {
		family *family
		value  float64
	}{{&auditTook, took.Seconds()}, {&auditLast, seconds(r.At)}, {&auditGen, float64(generation)}} {
		e.begin(one.family)
		e.sample(one.value, node)
	}
}
