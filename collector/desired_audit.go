package collector

import (
	"hash/maphash"
	"slices"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/collector/audit"
	"github.com/kproxy-exporter/kproxy-exporter/collector/rules"
)

// auditWants is what the rule audit keeps of what the API wants.
type auditWants struct {
	keeper   audit.Keeper
	services map[string]*audit.Service
	// slices are those of a Service; a list is never changed, only replaced.
	slices  map[string][]*audit.Slice
	changed map[string]time.Time // by Service; none where nobody knows since when it is so
	// at are the Services with more than ClusterIPs, by a hash of each address and port
	// that they want: others there may be what packets meet.
	at   map[uint64][]string
	seed maphash.Seed
	// log are the newest changes of Services, the oldest first; those of versions up
	// to forgotten are in it no more.
	log       []auditEntry
	forgotten int
	removed   time.Time // when something that was wanted last went
	zone      string
	zoned     int // the version since which the zone is this
	version   int
	claims    int // the version of the Services alone
	// kick says that something changed.
	kick chan struct{}
}

// auditEntry is a change of what the API wants of a Service.
type auditEntry struct {
	version int
	name    string
	// was is the Service as it was before; nil if it was not, or is the same.
	was *audit.Service
}

// auditLog is how many changes are remembered one by one.
const auditLog = 4096

func newAuditWants(node string) *auditWants {
	return &auditWants{
		keeper: audit.Keeper{Node: node}, services: map[string]*audit.Service{}, slices: map[string][]*audit.Slice{}, changed: map[string]time.Time{}, kick: make(chan struct{}, 1),
		at: map[uint64][]string{}, seed: maphash.MakeSeed(),
	}
}

// places are the hashes of what a Service with more than ClusterIPs wants.
func (a *auditWants) places(s *audit.Service) (out []uint64) {
	if s == nil || !s.External() {
		return nil
	}
	for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
		for _, of := range s.Addressees(f) {
			if of.Port != 0 {
				out = append(out, maphash.Comparable(a.seed, of))
			}
		}
	}
	return out
}

// neighbours are the other Services at the addresses and ports of one.
func (a *auditWants) neighbours(s *audit.Service) (names []string) {
	for _, p := range a.places(s) {
		for _, name := range a.at[p] {
			if name != s.Name {
				names = append(names, name)
			}
		}
	}
	return names
}

// keep notes one change; the caller holds the lock of desired.
func (a *auditWants) keep(previous, current *wish, listed bool, now time.Time) {
	if previous != nil && current != nil && previous.auditService.Same(current.auditService) && previous.auditSlice.Same(current.auditSlice) {
		current.auditService, current.auditSlice = previous.auditService, previous.auditSlice
		return // it was listed again, or something else of it changed
	}
	a.version++
	names, was := a.drop(previous)
	names = append(names, a.add(current)...)
	if len(names) == 0 {
		a.version--
		return
	}
	if previous != nil {
		a.removed = now
	}
	// What was behind it may come to light, and what is behind it may be what packets meet.
	of := []*audit.Service{was}
	for _, name := range names {
		of = append(of, a.services[name])
	}
	for _, s := range of {
		names = append(names, a.neighbours(s)...)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		e := auditEntry{version: a.version, name: name}
		if was != nil && was.Name == name {
			e.was = was
		}
		a.log = append(a.log, e)
		switch {
		case a.services[name] == nil && a.slices[name] == nil:
			delete(a.changed, name)
		case !listed:
			a.changed[name] = now
		}
	}
	if len(a.log) > auditLog {
		half := len(a.log) / 2
		a.forgotten = a.log[half-1].version
		a.log = slices.Clone(a.log[half:])
	}
	select {
	case a.kick <- struct{}{}:
	default:
	}
}

// drop lets go of what an object wanted, and says of which Service that was and, if it
// was the Service itself, what it was.
func (a *auditWants) drop(w *wish) (names []string, was *audit.Service) {
	if w == nil {
		return nil, nil
	}
	if s := w.auditService; s != nil {
		names = append(names, s.Name)
		delete(a.services, s.Name)
		for _, p := range a.places(s) {
			if a.at[p] = slices.DeleteFunc(a.at[p], func(name string) bool { return name == s.Name }); len(a.at[p]) == 0 {
				delete(a.at, p)
			}
		}
		was, a.claims = s, a.version
	}
	if s := w.auditSlice; s != nil {
		names = append(names, s.Service)
		rest := slices.DeleteFunc(slices.Clone(a.slices[s.Service]), func(o *audit.Slice) bool { return o == s })
		if a.slices[s.Service] = rest; len(rest) == 0 {
			delete(a.slices, s.Service)
		}
	}
	return names, was
}

// add keeps what an object wants, and says of which Service that is.
func (a *auditWants) add(w *wish) (names []string) {
	if w == nil {
		return nil
	}
	if s := w.auditService; s != nil {
		names = append(names, s.Name)
		a.services[s.Name] = s
		for _, p := range a.places(s) {
			a.at[p] = append(a.at[p], s.Name)
		}
		a.claims = a.version
	}
	if s := w.auditSlice; s != nil {
		names = append(names, s.Service)
		a.slices[s.Service] = append(slices.Clip(a.slices[s.Service]), s)
		if w.zone != "" && w.zone != a.zone {
			a.zone, a.zoned = w.zone, a.version
		}
	}
	return names
}

// since are the Services of which the API wants something else than at a version, and
// those that went or changed as they were then; ok is false if it cannot be told any
// more.
func (a *auditWants) since(version int) (names map[string]bool, gone []*audit.Service, ok bool) {
	if a.forgotten > version || a.zoned > version {
		return nil, nil, false
	}
	names = map[string]bool{}
	for _, e := range slices.Backward(a.log) {
		if e.version <= version {
			break
		}
		names[e.name] = true
		if e.was != nil {
			gone = append(gone, e.was)
		}
	}
	return names, gone, true
}

// state is what the API wants now, for as long as the lock of desired is held.
func (a *auditWants) state() *audit.State {
	return &audit.State{Services: a.services, Slices: a.slices}
}

// auditVersion grows with each change of what the API wants.
func (d *desired) auditVersion() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.audit.version
}

// auditChanged is when what the API wants of a Service last changed; of "", when
// something that it had wanted last went.
func (d *desired) auditChanged(service string) audit.Change {
	d.mu.Lock()
	defer d.mu.Unlock()
	if service == "" {
		return audit.Change{Heard: d.audit.removed}
	}
	heard, known := d.audit.changed[service]
	if !known && d.audit.services[service] == nil {
		heard = d.audit.removed // it went after it was looked at
	}
	c := audit.Change{Heard: heard}
	if s := d.audit.services[service]; s != nil {
		newest := s.Written
		for _, one := range d.audit.slices[service] {
			if one.Written == 0 {
				return c
			}
			newest = max(newest, one.Written)
		}
		if s.Written != 0 {
			c.Written = time.Unix(newest, 0)
		}
	}
	return c
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
// are probed; the caller holds the lock.
func (d *desired) ownAndProbed() []string {
	names := []string{d.canary, d.responders, "default/kubernetes"}
	for name, s := range d.services {
		if probesOf(s, d.probed) != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
