package cause

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// ProbeVerdict says whose fault it is if a Service does not answer: a closed set.
type ProbeVerdict string

// The verdicts. The zero value is the safe one.
const (
	ProbeUnknown     ProbeVerdict = ""
	ProbeOK          ProbeVerdict = "ok"
	ProbeNoEndpoints ProbeVerdict = "no_endpoints" // nothing stands behind it: nobody's fault here
	ProbeDataplane   ProbeVerdict = "dataplane"    // the rules on this node
	ProbeBackend     ProbeVerdict = "backend"      // what stands behind it
	ProbeNetwork     ProbeVerdict = "network"      // the way from this node to it
)

// ProbeVerdicts are those that are named.
var ProbeVerdicts = []ProbeVerdict{ProbeOK, ProbeNoEndpoints, ProbeDataplane, ProbeBackend, ProbeNetwork}

// Probe is a port of a Service as this node finds it.
type Probe struct {
	// Name is "namespace/name:port module".
	Name string
	// Rounds are the newest two, the newest last.
	Rounds []ProbeRound
	// Failing is when the first round had ended since which something has failed in
	// each; zero if nothing did in the newest.
	Failing time.Time
}

// ProbeRound are attempts of one moment.
type ProbeRound struct {
	At time.Time
	// Listed is how many endpoints the Service had then.
	Listed int
	// Changing says that they had changed shortly before: kube-proxy may be
	// writing.
	Changing bool
	// VIP and NodePort are nil if they were not asked.
	VIP, NodePort *ProbeAttempt
	Endpoints     []ProbeAttempt
}

// ProbeAttempt is one attempt.
type ProbeAttempt struct {
	Address string
	// Node is the endpoint's; Host says that its address is that node's own: there
	// is another way to it than to the pods there.
	Node string
	Host bool
	OK   bool
	// Answered says that somebody there said something, good or bad; Connected that
	// somebody accepted the connection, whatever came after.
	Answered, Connected bool
	// Local says that this node could not even try.
	Local         bool
	Reason, Error string
	// Backend is where the kernel sent it; empty if that is not known. Listed says
	// that it is an endpoint of the Service.
	Backend string
	Listed  bool
}

func (a *ProbeAttempt) String() string {
	if a.OK {
		return a.Address + " answers"
	}
	to := ""
	if a.Backend != "" {
		to = ", sent to " + a.Backend
		if !a.Listed {
			to += ", which is no endpoint of it"
		}
	}
	return fmt.Sprintf("%s: %s%s: %s", a.Address, a.Reason, to, quote(a.Error))
}

// reached is what this node reached at some time.
type reached struct {
	answered map[place]bool // those where an endpoint said something
	// silent are the Services of which an endpoint at a place said nothing.
	silent map[place]map[string]bool
}

// place is a node itself, or the pods on it.
type place struct {
	node string
	host bool
}

func (a *ProbeAttempt) place() place { return place{a.Node, a.Host} }

// reach looks at each probe's newest round that began between two times: what was
// reached before something had failed, or after it failed last, says nothing.
func reach(probes []Probe, from, to time.Time) reached {
	out := reached{map[place]bool{}, map[place]map[string]bool{}}
	for _, p := range probes {
		service, _, _ := strings.Cut(p.Name, ":")
		for _, r := range slices.Backward(p.Rounds) {
			if !r.At.Before(from) && !r.At.After(to) {
				out.note(service, &r)
				break
			}
		}
	}
	return out
}

func (out *reached) note(service string, r *ProbeRound) {
	for i := range r.Endpoints {
		switch e := &r.Endpoints[i]; {
		case e.Answered:
			out.answered[e.place()] = true
		case !e.Local:
			if out.silent[e.place()] == nil {
				out.silent[e.place()] = map[string]bool{}
			}
			out.silent[e.place()][service] = true
		}
	}
}

// JudgeProbe judges what both of a probe's newest rounds say alike; a single
// failure says nothing yet. The evidence is the newest round's.
func JudgeProbe(p *Probe, all []Probe) (ProbeVerdict, []string) {
	if len(p.Rounds) == 0 {
		return ProbeUnknown, nil
	}
	newest := &p.Rounds[len(p.Rounds)-1]
	seen := sync.OnceValue(func() reached { return reach(all, p.Failing, newest.At) })
	v := newest.judge(seen)
	if v == ProbeOK || v == ProbeNoEndpoints {
		return v, newest.evidence()
	}
	if len(p.Rounds) < 2 || p.Rounds[0].judge(seen) != v {
		return ProbeUnknown, newest.evidence()
	}
	return v, newest.evidence()
}

// fails is whether the Service's own address failed in both of the newest
// rounds although something behind it answered, and something in the round before
// them: by then every other Service has been asked, too, and might have told whose
// fault it is. Where nothing answers it is no fault of kube-proxy's.
func (p *Probe) fails() bool {
	failing := func(r ProbeRound) bool {
		answers := slices.ContainsFunc(r.Endpoints, func(e ProbeAttempt) bool { return e.OK })
		return answers && !r.Changing && r.VIP != nil && !r.VIP.OK && !r.VIP.Local && !r.VIP.Connected
	}
	return len(p.Rounds) == 2 && failing(p.Rounds[0]) && failing(p.Rounds[1]) && !p.Rounds[0].At.Before(p.Failing)
}

func (r *ProbeRound) judge(seen func() reached) ProbeVerdict {
	failing := func(a *ProbeAttempt) bool { return a != nil && !a.OK }
	dead := slices.ContainsFunc(r.Endpoints, func(e ProbeAttempt) bool { return !e.OK })
	switch {
	case r.VIP == nil && r.NodePort == nil:
		return ProbeUnknown
	case r.Listed == 0:
		return ProbeNoEndpoints
	case !failing(r.VIP) && !failing(r.NodePort) && !dead:
		return ProbeOK
	case r.Changing, failing(r.VIP) && r.VIP.Local, slices.ContainsFunc(r.Endpoints, func(e ProbeAttempt) bool { return e.Local }):
		return ProbeUnknown
	case failing(r.VIP):
		return r.judgeFront(r.VIP, seen)
	case failing(r.NodePort):
		return r.judgeFront(r.NodePort, seen)
	}
	return r.judgeDead(seen) // the Service answered this time, by another endpoint
}

// enoughAsked is how many endpoints that answer prove that a Service does not
// fail because of one that was not asked.
const enoughAsked = 8

// judgeFront judges an address of the Service, or of the node, that failed.
func (r *ProbeRound) judgeFront(a *ProbeAttempt, seen func() reached) ProbeVerdict {
	if a.Backend != "" {
		if !a.Listed {
			return ProbeDataplane // it was sent to nobody who stands behind it
		}
		i := slices.IndexFunc(r.Endpoints, func(e ProbeAttempt) bool { return e.Address == a.Backend })
		switch {
		case a.Connected:
			return ProbeBackend // the rules did their part
		case i < 0:
			return ProbeUnknown
		case !r.Endpoints[i].OK:
			return r.Endpoints[i].whose(seen)
		}
		return ProbeDataplane
	}
	// Nobody knows where it was sent: an endpoint that is dead may be why.
	if v := r.judgeDead(seen); v != ProbeOK {
		return v
	}
	if a.Connected {
		return ProbeUnknown // to somebody, of whom nobody knows whether he should be asked
	}
	if len(r.Endpoints) >= min(r.Listed, enoughAsked) {
		return ProbeDataplane
	}
	return ProbeUnknown
}

// judgeDead is whose fault it is that endpoints do not answer, if they are all
// alike; ok if all answer.
func (r *ProbeRound) judgeDead(seen func() reached) ProbeVerdict {
	whose := ProbeOK
	for i := range r.Endpoints {
		e := &r.Endpoints[i]
		if e.OK {
			continue
		}
		v := e.whose(seen)
		if whose != ProbeOK && v != whose {
			return ProbeUnknown
		}
		whose = v
	}
	return whose
}

// whose fault it is that an endpoint does not answer: one that says something is
// reached; of one that is silent another on its node may tell.
func (a *ProbeAttempt) whose(seen func() reached) ProbeVerdict {
	switch {
	case a.Answered:
		return ProbeBackend
	case a.Node == "":
		return ProbeUnknown
	case seen().answered[a.place()]:
		return ProbeBackend
	case len(seen().silent[a.place()]) > 1:
		return ProbeNetwork // nobody there answers, of several Services
	}
	return ProbeUnknown
}

func (r *ProbeRound) evidence() []string {
	var out []string
	for _, a := range []*ProbeAttempt{r.VIP, r.NodePort} {
		if a != nil {
			out = append(out, a.String())
		}
	}
	for i := range r.Endpoints {
		out = append(out, "endpoint "+r.Endpoints[i].String())
	}
	if len(out) > 0 {
		out[0] += " " + stamp(r.At)
	}
	return out
}

// Failures is what failed, and when, for people.
func (r *ProbeRound) Failures() string {
	out := stamp(r.At)
	for _, a := range []*ProbeAttempt{r.VIP, r.NodePort} {
		if a != nil && !a.OK {
			out += "; " + a.String()
		}
	}
	for i := range r.Endpoints {
		if e := &r.Endpoints[i]; !e.OK {
			out += "; endpoint " + e.String()
		}
	}
	return out
}

// dataplane are the probes of which the rules on this node are at fault.
func dataplane(s *Snapshot) (evidence []string) {
	for i := range s.Local.Probes {
		if v, why := JudgeProbe(&s.Local.Probes[i], s.Local.Probes); v == ProbeDataplane {
			evidence = append(evidence, "Service "+s.Local.Probes[i].Name+": "+strings.Join(why, "; "))
		}
	}
	return evidence
}
