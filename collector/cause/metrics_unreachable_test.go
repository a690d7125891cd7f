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

// TestReach judges closed ports by what their configuration lets be reached: a
// port that is bound to the loopback address proves nothing from outside.
func TestReach(t *testing.T) {
	refused := func(number uint16, reach Reach) Port {
		p := noAnswer(number, PortRefused)
		p.Reach = reach
		return p
	}
	silent := noAnswer(10256, PortSilent)
	silentOnLoopback := silent
	silentOnLoopback.Reach = ReachLoopback
	metrics := answers(10249, 200, 0)
	metrics.Reach = ReachLoopback
	log := func(class string) *Log { return &Log{Class: class, At: now} }
	tests := map[string]struct {
		metrics, healthz Port
		log              *Log
		healthy          State
		primary          string
		unwell           bool
	}{
		"both on loopback (RKE2)":                   {refused(10249, ReachLoopback), refused(10256, ReachLoopback), nil, Active, "metrics_unreachable", false},
		"kubeadm's defaults, healthz answers":       {refused(10249, ReachLoopback), answers(10256, 200, 0), nil, Active, "metrics_unreachable", false},
		"kubeadm's defaults, healthz closed":        {refused(10249, ReachLoopback), refused(10256, ReachAll), nil, Unknown, "", true},
		"the same, and the log shows no conflict":   {refused(10249, ReachLoopback), refused(10256, ReachAll), log(""), Inactive, "unexplained", true},
		"the same, and another program has healthz": {refused(10249, ReachLoopback), refused(10256, ReachAll), log("port_conflict/healthz"), Unknown, "port_conflict", true},
		"kubeadm's defaults, healthz silent":        {refused(10249, ReachLoopback), silent, nil, Unknown, "", true},
		"silent, and the log shows no conflict":     {refused(10249, ReachLoopback), silent, log(""), Inactive, "unexplained", true},
		"silent, and another program has healthz":   {refused(10249, ReachLoopback), silent, log("port_conflict/healthz"), Unknown, "port_conflict", true},
		"silent, and metrics answer":                {metrics, silent, log(""), Active, "", true},
		"silent on loopback: not kube-proxy":        {refused(10249, ReachLoopback), silentOnLoopback, log(""), Active, "metrics_unreachable", false},
		"metrics closed, healthz on loopback":       {refused(10249, ReachAll), refused(10256, ReachLoopback), nil, Unknown, "", true},
		"both unknown":                              {refused(10249, ReachUnknown), refused(10256, ReachUnknown), nil, Unknown, "", false},
		"metrics answer, healthz on loopback":       {answers(10249, 200, 0), refused(10256, ReachLoopback), nil, Active, "", false},
		"metrics filtered, healthz on loopback":     {noAnswer(10249, PortTimeout), refused(10256, ReachLoopback), nil, Active, "metrics_unreachable", false},
		"both closed":                               {refused(10249, ReachAll), refused(10256, ReachAll), nil, Inactive, "unexplained", true},
	}
	for name, tc := range tests {
		s := healthySnapshot()
		s.Ports.Metrics, s.Ports.Healthz, s.Pods.List[0].Current = tc.metrics, tc.healthz, tc.log
		j := Judge(s)
		primary := ""
		if j.Primary >= 0 {
			primary = All[j.Primary].Name
		}
		if j.Healthy != tc.healthy || primary != tc.primary {
			t.Errorf("%s: healthy is %v, primary %q; want %v, %q", name, j.Healthy, primary, tc.healthy, tc.primary)
		}
		if got := Unwell(now, &s.Pods.List[0], s.Ports); got != tc.unwell {
			t.Errorf("%s: its log is needed: %t, want %t", name, got, tc.unwell)
		}
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
