package cause

import (
	"testing"
	"time"
)

func TestMetricsUnreachable(t *testing.T) {
	refusedSince := func(started, since time.Duration, times int) func(*Snapshot) {
		return func(s *Snapshot) {
			s.Pods.List[0].Container.Started = now.Add(-started)
			s.Ports.Metrics = Port{Number: 10249, Outcome: PortRefused, Since: now.Add(-since), At: now, Times: times}
		}
	}
	both := func(outcome string) func(*Snapshot) {
		return func(s *Snapshot) {
			s.Ports.Metrics, s.Ports.Healthz = noAnswer(10249, outcome), noAnswer(10256, outcome)
		}
	}
	atBoundary(t, metricsUnreachable, []boundary{
		{"refused by a container that has just begun", refusedSince(startup-time.Second, startup-time.Second, 5), Inactive, ""},
		{"refused by one that had its time", refusedSince(startup, startup, confirmed), Active, "localhost_bind"},
		{"refused once", refusedSince(time.Hour, time.Minute, confirmed-1), Inactive, ""},
		// Its predecessor's port was closed before it began.
		{"refused since before it began", refusedSince(startup, time.Hour, 9), Active, "localhost_bind"},
		{"both refused: it does not listen yet", both(PortRefused), Inactive, ""},
		{"nobody answers at either", both(PortTimeout), Active, "firewall"},
		{"connected, and no answer", both(PortSilent), Inactive, ""},
		{"unwell, and it answers", func(s *Snapshot) { s.Ports.Metrics = answers(10249, 500, 0) }, Inactive, ""},
		{"no container runs", func(s *Snapshot) {
			both(PortRefused)(s)
			s.Pods.List[0].Container.Started = time.Time{}
		}, Inactive, ""},
		{"no attempt has ended", func(s *Snapshot) { s.Ports = &Ports{} }, Unknown, ""},
		{"the ports are not asked", func(s *Snapshot) { s.Ports = nil }, Unknown, ""},
		{"no pods were read", func(s *Snapshot) { s.Pods = nil }, Unknown, ""},
	})
}

// A process that lives and does not listen is not well, whatever its pod says.
func TestDeafPorts(t *testing.T) {
	for outcome, want := range map[string]State{PortRefused: Inactive, PortSilent: Inactive, PortTimeout: Active} {
		s := healthySnapshot()
		s.Ports.Metrics, s.Ports.Healthz = noAnswer(10249, outcome), noAnswer(10256, outcome)
		j := Judge(s)
		if j.Healthy != want {
			t.Errorf("%s: healthy is %v", outcome, j.Healthy)
		}
		name := "unexplained"
		if outcome == PortTimeout {
			name = "metrics_unreachable"
		}
		if j.Primary < 0 || All[j.Primary].Name != name {
			t.Errorf("%s: primary is %d", outcome, j.Primary)
		}
		if outcome != PortTimeout && !Unwell(now, &s.Pods.List[0], s.Ports) {
			t.Errorf("%s: its log is not wanted", outcome)
		}
	}
	s := healthySnapshot()
	if Unwell(now, &s.Pods.List[0], s.Ports) || Unwell(now, &s.Pods.List[0], nil) {
		t.Error("the log of a pod that is well is wanted")
	}
}

// 503 at /healthz alone is a node that is drained, or a name that is wrong.
func TestNotEligible(t *testing.T) {
	for _, tc := range []struct {
		livez    int
		draining bool
		want     string
	}{{200, false, "config_mismatch"}, {200, true, "none"}, {503, false, "rules_stale"}, {503, true, "rules_stale"}, {404, false, "none"}} {
		s := healthySnapshot()
		s.Ports.Healthz, s.Node.Draining = answers(10256, 503, tc.livez), tc.draining
		got := "none"
		if j := Judge(s); j.Primary >= 0 {
			got = All[j.Primary].Name
		}
		if got != tc.want {
			t.Errorf("livez %d, draining %v: %s, want %s", tc.livez, tc.draining, got, tc.want)
		}
	}
}
