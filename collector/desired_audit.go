package collector

import (
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/collector/audit"
)

// auditWants is what the rule audit keeps of what the API wants.
type auditWants struct {
	keeper   audit.Keeper
	services map[string]*audit.Service
	// slices are those of a Service; a list is never changed, only replaced.
	slices  map[string][]*audit.Slice
	changed map[string]auditChange // by Service
	// gone are Services as they were before they went or changed, the oldest first;
	// those of versions up to goneUntil were let go of.
	gone      []auditGone
	goneUntil int
	removed   time.Time // when something that was wanted last went
	zone      string
	zoned     int // the version since which the zone is this
	version   int
	claims    int // the version of the Services alone
	// kick says that something changed.
	kick chan struct{}
}

// auditChange is the last of a Service: the version that it made, and when it came;
// zero if nobody knows since when it has been so.
type auditChange struct {
	version int
	at      time.Time
}

type auditGone struct {
	version int
	service *audit.Service
}

// auditMostGone is how many Services are remembered that went or changed.
const auditMostGone = 1000

func newAuditWants(node string) *auditWants {
	return &auditWants{
		keeper: audit.Keeper{Node: node}, services: map[string]*audit.Service{}, slices: map[string][]*audit.Slice{}, changed: map[string]auditChange{}, kick: make(chan struct{}, 1),
	}
}

// keep notes one change; the caller holds the lock of desired.
func (a *auditWants) keep(previous, current *wish, listed bool, now time.Time) {
	if previous != nil && current != nil && reflect.DeepEqual(previous.auditService, current.auditService) && reflect.DeepEqual(previous.auditSlice, current.auditSlice) {
		current.auditService, current.auditSlice = previous.auditService, previous.auditSlice
		return // it was listed again, or something else of it changed
	}
	names := map[string]bool{}
	a.version++
	if previous != nil {
		if s := previous.auditService; s != nil {
			names[s.Name] = true
			delete(a.services, s.Name)
			a.went(s)
		}
		if s := previous.auditSlice; s != nil {
			names[s.Service] = true
			rest := slices.DeleteFunc(slices.Clone(a.slices[s.Service]), func(o *audit.Slice) bool { return o == s })
			if a.slices[s.Service] = rest; len(rest) == 0 {
				delete(a.slices, s.Service)
			}
		}
	}
	if current != nil {
		if s := current.auditService; s != nil {
			names[s.Name] = true
			a.services[s.Name] = s
			a.claims = a.version
		}
		if s := current.auditSlice; s != nil {
			names[s.Service] = true
			a.slices[s.Service] = append(slices.Clip(a.slices[s.Service]), s)
			if current.zone != "" && current.zone != a.zone {
				a.zone, a.zoned = current.zone, a.version
			}
		}
	}
	if len(names) == 0 {
		a.version--
		return
	}
	if previous != nil {
		a.removed = now
	}
	for name := range names {
		c := auditChange{a.version, a.changed[name].at}
		if !listed {
			c.at = now
		}
		a.changed[name] = c
		if a.services[name] == nil && a.slices[name] == nil {
			delete(a.changed, name)
		}
	}
	select {
	case a.kick <- struct{}{}:
	default:
	}
}

// went notes a Service that went, or was another until now.
func (a *auditWants) went(s *audit.Service) {
	a.claims = a.version
	a.gone = append(a.gone, auditGone{a.version, s})
	if len(a.gone) > auditMostGone {
		half := len(a.gone) / 2
		a.goneUntil = a.gone[half-1].version
		a.gone = slices.Clone(a.gone[half:])
	}
}

// auditSince are the Services of which the API wants something else than at a
// version, and those that went or changed as they were then; ok is false if it
// cannot be told any more.
func (d *desired) auditSince(version int) (names map[string]bool, gone []*audit.Service, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	a := d.audit
	names = map[string]bool{}
	if a.version == version {
		return names, nil, true
	}
	if a.goneUntil > version || a.zoned > version {
		return nil, nil, false
	}
	for name, c := range a.changed {
		if c.version > version {
			names[name] = true
		}
	}
	for _, g := range a.gone {
		if g.version > version {
			gone = append(gone, g.service)
		}
	}
	return names, gone, true
}

// auditClaims is the version of the Services.
func (d *desired) auditClaims() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.audit.claims
}

// auditState is what the API wants now; version grows with each change of it.
func (d *desired) auditState() (s *audit.State, zone string, version int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	a := d.audit
	return &audit.State{Services: maps.Clone(a.services), Slices: maps.Clone(a.slices)}, a.zone, a.version
}

func (d *desired) auditVersion() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.audit.version
}

// auditChanged is when what the API wants of a Service last changed; of "", when
// something that it had wanted last went.
func (d *desired) auditChanged(service string) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	if service == "" {
		return d.audit.removed
	}
	return d.audit.changed[service].at
}

// auditStale is how long the API server may not answer before what it said is
// compared with nothing any more.
const auditStale = 2 * time.Minute

// auditable is whether what the API wants is known; if not, what lacks.
func (d *desired) auditable(now time.Time) (ok bool, lacks string) {
	if len(d.sources.readers) == 0 {
		return false, "access to the API: what it wants"
	}
	for _, r := range d.sources.readers {
		if !r.contact.state(now, auditStale).fresh {
			return false, "what the API wants: " + r.contact.reader
		}
	}
	return true, ""
}

// away is whether the API server does not answer now.
func (d *desired) away(now time.Time) bool {
	return slices.ContainsFunc(d.sources.readers, func(r *reader) bool { return r.contact.state(now, auditStale).failed })
}

// ownAndProbed are the exporter's own Services, default/kubernetes, and those that
// are probed.
func (d *desired) ownAndProbed() []string {
	names := []string{d.canary, d.responders, "default/kubernetes"}
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, s := range d.services {
		if probesOf(s, d.probed) != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
