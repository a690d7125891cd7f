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
	changed map[string]time.Time
	removed time.Time // when something that was wanted last went
	zone    string
	version int
	// kick says that something changed.
	kick chan struct{}
}

func newAuditWants(node string) *auditWants {
	return &auditWants{
		keeper: audit.Keeper{Node: node}, services: map[string]*audit.Service{}, slices: map[string][]*audit.Slice{}, changed: map[string]time.Time{}, kick: make(chan struct{}, 1),
	}
}

// keep notes one change; the caller holds the lock of desired.
func (a *auditWants) keep(previous, current *wish, listed bool, now time.Time) {
	if previous != nil && current != nil && reflect.DeepEqual(previous.auditService, current.auditService) && reflect.DeepEqual(previous.auditSlice, current.auditSlice) {
		current.auditService, current.auditSlice = previous.auditService, previous.auditSlice
		return // it was listed again, or something else of it changed
	}
	name := ""
	if previous != nil {
		if s := previous.auditService; s != nil {
			name = s.Name
			delete(a.services, s.Name)
		}
		if s := previous.auditSlice; s != nil {
			name = s.Service
			rest := slices.DeleteFunc(slices.Clone(a.slices[s.Service]), func(o *audit.Slice) bool { return o == s })
			if a.slices[s.Service] = rest; len(rest) == 0 {
				delete(a.slices, s.Service)
			}
		}
	}
	if current != nil {
		if s := current.auditService; s != nil {
			name = s.Name
			a.services[s.Name] = s
		}
		if s := current.auditSlice; s != nil {
			name = s.Service
			a.slices[s.Service] = append(slices.Clip(a.slices[s.Service]), s)
			if current.zone != "" {
				a.zone = current.zone
			}
		}
	}
	if name == "" {
		return
	}
	a.version++
	if !listed {
		a.changed[name] = now
	}
	if previous != nil {
		a.removed = now
	}
	if a.services[name] == nil && a.slices[name] == nil {
		delete(a.changed, name)
	}
	select {
	case a.kick <- struct{}{}:
	default:
	}
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
	return d.audit.changed[service]
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

// ownOrProbed is whether a Service is the exporter's own, default/kubernetes, or
// one that is probed.
func (d *desired) ownOrProbed(service string) bool {
	if service == d.canary || service == d.responders || service == "default/kubernetes" {
		return true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.services[service]
	return s != nil && probesOf(s, d.probed) != ""
}
