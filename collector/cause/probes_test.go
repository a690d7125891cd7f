package cause

import (
	"strings"
	"testing"
	"time"
)

// probeOf is one that is well, changed alike in both rounds.
func probeOf(change func(*ProbeRound)) Probe {
	p := Probe{Name: "default/web:80 tcp IPv4"}
	for i := range 2 {
		r := ProbeRound{
			At: now.Add(time.Duration(i-1) * 15 * time.Second), Listed: 2, VIP: &ProbeAttempt{Address: "10.96.0.9:80", OK: true, Answered: true},
			Endpoints: []ProbeAttempt{{Address: "10.1.0.1:80", Node: "n2", OK: true, Answered: true}, {Address: "10.1.1.1:80", Node: "n3", OK: true, Answered: true}},
		}
		change(&r)
		p.Rounds = append(p.Rounds, r)
	}
	return p
}

func TestJudgeProbe(t *testing.T) {
	silent := func(a *ProbeAttempt) { a.OK, a.Answered, a.Reason = false, false, "timeout" }
	refused := func(a *ProbeAttempt) { a.OK, a.Answered, a.Reason = false, true, "refused" }
	sentTo := func(r *ProbeRound, backend string, listed bool) {
		silent(r.VIP)
		r.VIP.Backend, r.VIP.Listed = backend, listed
	}
	nodePort := ProbeAttempt{Address: "10.0.0.1:30080", OK: true, Answered: true}
	for _, tc := range []struct {
		name   string
		change func(*ProbeRound)
		want   ProbeVerdict
	}{
		{"all answer", func(*ProbeRound) {}, ProbeOK},
		{"nothing stands behind it", func(r *ProbeRound) { r.Listed, r.Endpoints = 0, nil; refused(r.VIP) }, ProbeNoEndpoints},
		{"only the VIP is silent", func(r *ProbeRound) { silent(r.VIP) }, ProbeDataplane},
		{"only the VIP refuses", func(r *ProbeRound) { refused(r.VIP) }, ProbeDataplane},
		{"only the VIP is silent, and the endpoints have just changed", func(r *ProbeRound) { silent(r.VIP); r.Changing = true }, ProbeUnknown},
		{"this node could not even try", func(r *ProbeRound) { silent(r.VIP); r.VIP.Local = true }, ProbeUnknown},
		{"an endpoint could not even be tried", func(r *ProbeRound) { silent(r.VIP); r.Endpoints[0] = ProbeAttempt{Local: true} }, ProbeUnknown},
		{"it is sent to nobody who stands behind it", func(r *ProbeRound) { sentTo(r, "10.1.9.9:80", false) }, ProbeDataplane},
		{"it is sent to an endpoint that answers", func(r *ProbeRound) { sentTo(r, "10.1.0.1:80", true) }, ProbeDataplane},
		{"it is sent to an endpoint that was not asked", func(r *ProbeRound) { sentTo(r, "10.1.2.1:80", true) }, ProbeUnknown},
		{"it is sent to an endpoint that refuses", func(r *ProbeRound) { sentTo(r, "10.1.0.1:80", true); refused(&r.Endpoints[0]) }, ProbeBackend},
		{"it is sent to a silent endpoint, and nobody can compare", func(r *ProbeRound) { sentTo(r, "10.1.0.1:80", true); silent(&r.Endpoints[0]) }, ProbeUnknown},
		{"it is sent to a silent endpoint, and another on its node answers", func(r *ProbeRound) {
			sentTo(r, "10.1.0.1:80", true)
			silent(&r.Endpoints[0])
			r.Endpoints[1].Node = "n2"
		}, ProbeBackend},
		{"it is sent to a silent pod, and its node itself answers", func(r *ProbeRound) {
			sentTo(r, "10.1.0.1:80", true)
			silent(&r.Endpoints[0])
			r.Endpoints[1].Node, r.Endpoints[1].Host = "n2", true
		}, ProbeUnknown},
		{"the endpoint that it was sent to answers wrongly, by the VIP alone", func(r *ProbeRound) {
			sentTo(r, "10.1.0.1:80", true)
			r.VIP.Answered, r.VIP.Connected = true, true
		}, ProbeBackend},
		{"somebody who is no endpoint answers wrongly", func(r *ProbeRound) {
			sentTo(r, "10.1.9.9:80", false)
			r.VIP.Answered, r.VIP.Connected = true, true
		}, ProbeDataplane},
		{"somebody answers wrongly, of whom nobody knows who he is", func(r *ProbeRound) {
			silent(r.VIP)
			r.VIP.Answered, r.VIP.Connected = true, true
		}, ProbeUnknown},
		{"all endpoints refuse", func(r *ProbeRound) { refused(r.VIP); refused(&r.Endpoints[0]); refused(&r.Endpoints[1]) }, ProbeBackend},
		{"all endpoints are silent, and no other Service is asked", func(r *ProbeRound) { silent(r.VIP); silent(&r.Endpoints[0]); silent(&r.Endpoints[1]) }, ProbeUnknown},
		{"the VIP is silent, and one endpoint refuses", func(r *ProbeRound) { silent(r.VIP); refused(&r.Endpoints[0]) }, ProbeBackend},
		{"the VIP is silent, one endpoint refuses and one is silent", func(r *ProbeRound) { silent(r.VIP); refused(&r.Endpoints[0]); silent(&r.Endpoints[1]) }, ProbeUnknown},
		{"the VIP is silent, and some endpoints were not asked", func(r *ProbeRound) { silent(r.VIP); r.Listed = 3 }, ProbeUnknown},
		{"the VIP is silent, and enough of many endpoints answer", func(r *ProbeRound) {
			silent(r.VIP)
			r.Listed = 100
			for len(r.Endpoints) < enoughAsked {
				r.Endpoints = append(r.Endpoints, r.Endpoints[0])
			}
		}, ProbeDataplane},
		{"the VIP is silent, and just not enough of many endpoints answer", func(r *ProbeRound) {
			silent(r.VIP)
			r.Listed = 100
			for len(r.Endpoints) < enoughAsked-1 {
				r.Endpoints = append(r.Endpoints, r.Endpoints[0])
			}
		}, ProbeUnknown},
		{"the node's port is sent to an endpoint that refuses", func(r *ProbeRound) {
			n := nodePort
			silent(&n)
			n.Backend, n.Listed = "10.1.0.1:80", true
			refused(&r.Endpoints[0])
			r.NodePort = &n
		}, ProbeBackend},
		{"the node's port fails, and an endpoint too", func(r *ProbeRound) { n := nodePort; silent(&n); r.NodePort = &n; refused(&r.Endpoints[1]) }, ProbeBackend},
		{"only an endpoint refuses", func(r *ProbeRound) { refused(&r.Endpoints[1]) }, ProbeBackend},
		{"only an endpoint is silent", func(r *ProbeRound) { silent(&r.Endpoints[1]) }, ProbeUnknown},
		{"an endpoint of nobody's node is silent", func(r *ProbeRound) { silent(&r.Endpoints[1]); r.Endpoints[1].Node = "" }, ProbeUnknown},
		{"only the node's port fails", func(r *ProbeRound) { n := nodePort; refused(&n); r.NodePort = &n }, ProbeDataplane},
		{"the node's port answers too", func(r *ProbeRound) { r.NodePort = &nodePort }, ProbeOK},
		{"nothing was asked", func(r *ProbeRound) { r.VIP = nil }, ProbeUnknown},
	} {
		p := probeOf(tc.change)
		got, evidence := JudgeProbe(&p, []Probe{p})
		if got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
		if len(evidence) == 0 && tc.name != "nothing was asked" {
			t.Errorf("%s: no evidence", tc.name)
		}
	}
}

// One failure says nothing; one success ends it.
func TestJudgeProbeTwice(t *testing.T) {
	sick := probeOf(func(r *ProbeRound) { r.VIP.OK, r.VIP.Reason = false, "timeout" })
	well := probeOf(func(*ProbeRound) {})
	for name, tc := range map[string]struct {
		rounds []ProbeRound
		want   ProbeVerdict
	}{
		"none": {nil, ProbeUnknown}, "the first fails": {sick.Rounds[:1], ProbeUnknown}, "the first is well": {well.Rounds[:1], ProbeOK},
		"well, then not": {[]ProbeRound{well.Rounds[0], sick.Rounds[1]}, ProbeUnknown}, "well again": {[]ProbeRound{sick.Rounds[0], well.Rounds[1]}, ProbeOK},
	} {
		p := Probe{Rounds: tc.rounds}
		if got, _ := JudgeProbe(&p, nil); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

// What another Service's endpoint on the same node says tells whose fault a
// silent one is.
func TestJudgeProbeByAnother(t *testing.T) {
	dead := probeOf(func(r *ProbeRound) {
		r.VIP = &ProbeAttempt{Address: "10.96.0.9:80", Reason: "timeout", Backend: "10.1.0.1:80", Listed: true}
		r.Endpoints = []ProbeAttempt{{Address: "10.1.0.1:80", Node: "n2", Reason: "timeout"}}
	})
	other := func(change func(*ProbeAttempt)) Probe {
		p := probeOf(func(r *ProbeRound) {
			r.Endpoints = []ProbeAttempt{{Address: "10.1.0.2:80", Node: "n2", OK: true, Answered: true}}
			change(&r.Endpoints[0])
		})
		p.Name = "default/other:80 tcp IPv4"
		return p
	}
	same := other(func(a *ProbeAttempt) { a.OK, a.Answered, a.Reason = false, false, "timeout" })
	same.Name = "default/web:81 tcp IPv4"
	old := other(func(*ProbeAttempt) {})
	for i := range old.Rounds {
		old.Rounds[i].At = old.Rounds[i].At.Add(-time.Minute)
	}
	before := other(func(*ProbeAttempt) {})
	before.Rounds[1].Endpoints[0] = ProbeAttempt{Address: "10.1.0.2:80", Node: "n2", Reason: "timeout"}
	dead.Failing = dead.Rounds[0].At.Add(time.Second)
	after := other(func(a *ProbeAttempt) { a.OK, a.Answered, a.Reason = false, false, "timeout" })
	after.Rounds[1] = other(func(*ProbeAttempt) {}).Rounds[1]
	after.Rounds[0].At = dead.Failing
	after.Rounds[1].At = now.Add(time.Second) // the way was mended meanwhile
	meanwhile := other(func(*ProbeAttempt) {})
	meanwhile.Rounds[0].At = meanwhile.Rounds[0].At.Add(time.Second - 1)
	meanwhile.Rounds[1].At = meanwhile.Rounds[1].At.Add(time.Second)
	for name, tc := range map[string]struct {
		other Probe
		want  ProbeVerdict
	}{
		"it answered while the first failed, or after": {meanwhile, ProbeUnknown},
		"it answered before":                           {before, ProbeNetwork},
		"it answered after":                            {after, ProbeNetwork},
		"it was asked long ago":                        {old, ProbeUnknown},
		"it is of the same Service":                    {same, ProbeUnknown},
		"it answers":                                   {other(func(*ProbeAttempt) {}), ProbeBackend},
		"it refuses":                                   {other(func(a *ProbeAttempt) { a.OK, a.Reason = false, "refused" }), ProbeBackend},
		"it is silent too":                             {other(func(a *ProbeAttempt) { a.OK, a.Answered, a.Reason = false, false, "timeout" }), ProbeNetwork},
		"it is on another":                             {other(func(a *ProbeAttempt) { a.Node = "n3" }), ProbeUnknown},
		"it cannot be asked":                           {other(func(a *ProbeAttempt) { *a = ProbeAttempt{Node: "n2", Local: true} }), ProbeUnknown},
	} {
		got, evidence := JudgeProbe(&dead, []Probe{dead, tc.other})
		if got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
		if want := "sent to 10.1.0.1:80"; !strings.Contains(strings.Join(evidence, " "), want) {
			t.Errorf("%s: the evidence does not say %q: %q", name, want, evidence)
		}
	}
}
