package cause

import (
	"strings"
	"testing"
	"time"
)

// healthyLocal is a node as it shows itself to a process on it, with a
// kube-proxy that is well.
func healthyLocal() *Snapshot {
	began := now.Add(-time.Hour)
	streak := func(kind, address string) APIAddress {
		return APIAddress{Kind: kind, Address: address, Class: APIClassOK, Since: began, At: now, Times: 100}
	}
	synced := now.Add(-10 * time.Minute)
	eligible := true
	return &Snapshot{
		Now: now, Name: "n1", Expected: &Expected{Yes: true, Reason: ReasonProcess},
		Running: &Running{Mode: "nftables", Hostname: "n1", Settings: NewRunningSettings(Settings{"mode": "nftables", "metricsbindaddress": "0.0.0.0:10249"}, true)},
		Local: &Local{
			API: []APIAddress{streak(KindKubeProxy, "10.0.0.1:6443"), streak(KindVIP, "10.96.0.1:443"), streak(KindEndpoint, "10.0.0.1:6443")},
			Proxy: &Proxy{
				Seen: true, Process: &Process{PID: 7, State: "S", Since: began, Times: 100, Started: began}, Started: began,
				Ports:    Ports{Metrics: answers(10249, 200, 0), Healthz: answers(10256, 200, 0)},
				Families: []Family{{Name: "IPv4", Queued: synced.Add(-time.Second), Synced: synced}, {Name: "IPv6", Queued: synced.Add(-time.Second), Synced: synced}},
				Eligible: &eligible, FilesOpen: 12, FilesMax: 20000,
			},
			Conntrack: &Conntrack{Entries: 100, Max: 10000},
			Inotify:   &Limit{Left: true, Since: began},
			Runtime:   &Socket{Path: "/run/containerd/containerd.sock", Since: began, Times: 100},
			Rules:     &RuleWorlds{NFTables: true, Since: began},
			Audit:     &Audit{At: now, Services: 3, Drift: map[string]int{}},
			Probes:    []Probe{probeOf(func(*ProbeRound) {})},
			Needs:     &Needs{Mode: "nftables", Forwarding: "net/ipv4/ip_forward", NoIPTables: true, NoIPVS: true},
		},
	}
}

// api makes kube-proxy's address go a way.
func apiGoes(class, phase string) func(*Snapshot) {
	return func(s *Snapshot) {
		s.Local.API[0].Class, s.Local.API[0].Phase, s.Local.API[0].Error, s.Local.API[0].Times = class, phase, "error", confirmed
	}
}

// sickNode makes a node, as it shows itself, sick with the smallest change.
var sickNode = map[string]map[string]func(*Snapshot){
	"unexplained": {"probe_failing": func(s *Snapshot) {
		s.Local.Probes[0] = probeOf(func(r *ProbeRound) {
			r.VIP = &ProbeAttempt{Address: "10.96.0.9:80", Reason: "timeout"}
			r.Endpoints[0] = ProbeAttempt{Address: "10.1.0.1:80", Node: "n2", Reason: "timeout"}
		})
	}},
	"prerequisite_missing": {
		"binary": func(s *Snapshot) { s.Local.Needs.Programs = []string{"mode nftables needs nft"} },
		"sysctl": func(s *Snapshot) { s.Local.Needs.NoForwarding = now.Add(-forwardingLate) },
	},
	"vip_unreachable": {"dataplane": func(s *Snapshot) {
		s.Local.API[1].Class, s.Local.API[1].Phase, s.Local.API[1].Error, s.Local.API[1].Times = "timeout", "connect", "error", confirmed
	}},
	"container_runtime": {"down": func(s *Snapshot) { s.Local.Runtime.Error = "connection refused" }},
	"config_mismatch": {
		"hostname": func(s *Snapshot) { s.Running.Hostname = "other" },
		"not_applied": func(s *Snapshot) {
			s.Local.Proxy.FileDiffers, s.Local.Proxy.FileSince, s.Local.Proxy.File = []string{"mode"}, now.Add(-editing), "/x"
		},
	},
	"api_unreachable": {
		"refused": apiGoes("refused", "connect"), "timeout": apiGoes("timeout", "connect"), "dns": apiGoes("dns", "dns"), "tls": apiGoes("tls", "tls"),
		"cert_expired": apiGoes("cert_expired", "tls"), "unauthorized": apiGoes("unauthorized", "answer"), "forbidden": apiGoes("forbidden", "answer"),
		"wrong_endpoint": apiGoes("wrong_endpoint", "answer"),
	},
	"resource_exhausted": {
		"inotify":          func(s *Snapshot) { s.Local.Inotify.Left, s.Local.Inotify.Error = false, "too many open files" },
		"file_descriptors": func(s *Snapshot) { s.Local.Proxy.FilesOpen = 18000 },
	},
	"port_conflict": {"metrics": func(s *Snapshot) { s.Running.Foreign = true }, "healthz": func(s *Snapshot) { s.Local.Proxy.HealthzForeign = true }},
	"conflicting_rules": {
		"legacy_and_nft": func(s *Snapshot) { s.Local.Rules.Legacy = true },
		"other_mode":     func(s *Snapshot) { s.Local.Rules.IPTables = true },
	},
	"rules_stale": {
		"flushed": func(s *Snapshot) { s.Local.Audit.Flushed, s.Local.Audit.Since = []string{"IPv4"}, now },
		"drift": func(s *Snapshot) {
			s.Local.Audit.Since, s.Local.Audit.Drift, s.Local.Audit.Examples = now, map[string]int{"missing": 1}, []string{"default/a missing: x"}
		},
		"watch_stale": func(s *Snapshot) {
			s.Local.Proxy.Families[1].Unheard, s.Local.Proxy.Families[1].UnheardSince = "Service default/x", now.Add(-hearing)
		},
		"never_synced": func(s *Snapshot) { s.Local.Proxy.Families[1].Synced = time.Time{} },
		"sync_failing": func(s *Snapshot) { s.Local.Proxy.Families[0].Failing = now.Add(-waiting / 2) },
		"sync_stuck": func(s *Snapshot) {
			s.Local.Proxy.Families[0].Synced = now.Add(-waiting - time.Second)
			s.Local.Proxy.Families[0].Queued = now.Add(-waiting)
		},
	},
	"conntrack_full": {
		"near": func(s *Snapshot) { s.Local.Conntrack.Entries = 9000 },
		"full": func(s *Snapshot) { s.Local.Conntrack.Entries = 9900 },
	},
	"metrics_unreachable": {"localhost_bind": func(s *Snapshot) { s.Running.Settings.Settings["metricsbindaddress"] = "127.0.0.1:10249" }},
}

// TestSickNode is the sick matrix of the node's own view.
func TestSickNode(t *testing.T) {
	judge := func(name, detail string, s *Snapshot) {
		j := Judge(s)
		for i, v := range j.Verdicts {
			want := Unknown
			switch c := &All[i]; {
			case c.Name == name:
				want = Active
			case c.Node != nil:
				want = Inactive
			}
			if v.State != want {
				t.Errorf("%s/%s: cause %s is %+v", name, detail, All[i].Name, v)
			}
			if v.State == Unknown && v.Lacks == "" {
				t.Errorf("%s/%s: cause %s does not say what it lacks", name, detail, All[i].Name)
			}
		}
		if name == "" {
			if j.Primary != -1 || j.Healthy != Active || j.Pending {
				t.Errorf("a healthy node: %+v", j)
			}
			return
		}
		if j.Primary < 0 || All[j.Primary].Name != name {
			t.Errorf("%s/%s: primary is %d", name, detail, j.Primary)
			return
		}
		f := j.Verdicts[j.Primary].Findings
		if len(f) != 1 || f[0].Detail != detail || len(f[0].Evidence) == 0 || f[0].Evidence[0] == "" {
			t.Errorf("%s/%s: findings %+v", name, detail, f)
		}
	}
	judge("", "", healthyLocal())
	for _, c := range All {
		if (c.Node != nil) != (sickNode[c.Name] != nil) {
			t.Errorf("%s has a view of the node, or a sick node, and not both", c.Name)
		}
		for detail, change := range sickNode[c.Name] {
			s := healthyLocal()
			change(s)
			judge(c.Name, detail, s)
		}
	}
}

// atNodeBoundary judges a healthy node's own view after each change by one cause.
func atNodeBoundary(t *testing.T, c Cause, table []boundary) {
	t.Helper()
	for _, tc := range table {
		t.Run("node: "+tc.name, func(t *testing.T) {
			s := healthyLocal()
			tc.change(s)
			tc.check(t, c.Node(s))
		})
	}
}

func TestNodeBoundaries(t *testing.T) {
	noProxy := func(s *Snapshot) { s.Local.Proxy = nil }
	neverSeen := func(s *Snapshot) { s.Local.Proxy = &Proxy{} }
	onlyEndpoints := func(change func(a, b *APIAddress)) func(*Snapshot) {
		return func(s *Snapshot) {
			s.Local.API = []APIAddress{s.Local.API[2], s.Local.API[2], s.Local.API[1]}
			change(&s.Local.API[0], &s.Local.API[1])
		}
	}
	dead := func(a *APIAddress) { a.Class, a.Times = "timeout", confirmed }
	atNodeBoundary(t, apiUnreachable, []boundary{
		{"one failure", func(s *Snapshot) { apiGoes("refused", "connect")(s); s.Local.API[0].Times = confirmed - 1 }, Unknown, ""},
		{"it restarts, for just not too long", func(s *Snapshot) {
			apiGoes("refused", "connect")(s)
			s.Local.API[0].Since = now.Add(-apiRestart + 1)
		}, Inactive, ""},
		{"it does not come back", func(s *Snapshot) {
			apiGoes("timeout", "connect")(s)
			s.Local.API[0].Since = now.Add(-apiRestart)
		}, Active, "timeout"},
		{"it says at once that it is forbidden", func(s *Snapshot) {
			apiGoes("forbidden", "answer")(s)
			s.Local.API[0].Since = now
		}, Active, "forbidden"},
		{"kube-proxy's address is not known, and all restart", func(s *Snapshot) {
			onlyEndpoints(func(a, b *APIAddress) {
				dead(a)
				dead(b)
				b.Since = now.Add(-apiRestart + 1)
			})(s)
			dead(&s.Local.API[2])
		}, Inactive, ""},
		{"it answers that it is not well", apiGoes("failed", "answer"), Unknown, ""},
		{"not asked yet", func(s *Snapshot) { s.Local.API[0].Class = "" }, Unknown, ""},
		{"only the VIP is dead", func(s *Snapshot) { dead(&s.Local.API[1]) }, Inactive, ""},
		{"only an endpoint is dead", func(s *Snapshot) { dead(&s.Local.API[2]) }, Inactive, ""},
		{"nobody was asked", func(s *Snapshot) { s.Local.API = nil }, Unknown, ""},
		{"kube-proxy's address is not known, and all are dead", func(s *Snapshot) {
			onlyEndpoints(func(a, b *APIAddress) { dead(a); dead(b) })(s)
			dead(&s.Local.API[2])
		}, Active, "timeout"},
		{"kube-proxy's address is not known, and the Service answers", onlyEndpoints(func(a, b *APIAddress) { dead(a); dead(b) }), Unknown, ""},
		{"kube-proxy's address is not known, and one answers", onlyEndpoints(func(a, _ *APIAddress) { dead(a) }), Unknown, ""},
		{"kube-proxy's address is not known, and all answer", onlyEndpoints(func(_, _ *APIAddress) {}), Unknown, ""},
	})
	family := func(change func(*Family)) func(*Snapshot) {
		return func(s *Snapshot) { change(&s.Local.Proxy.Families[0]) }
	}
	atNodeBoundary(t, rulesStale, []boundary{
		{"nothing has changed for a day", family(func(f *Family) { f.Queued, f.Synced = now.Add(-24*time.Hour-time.Second), now.Add(-24*time.Hour) }), Inactive, ""},
		{"a change waits for just not long enough", family(func(f *Family) { f.Queued = now.Add(-waiting + 1) }), Inactive, ""},
		{"a change waits for long enough", family(func(f *Family) { f.Queued = now.Add(-waiting) }), Active, "sync_stuck"},
		{"tries fail for just not long enough", family(func(f *Family) { f.Failing = now.Add(-waiting/2 + 1) }), Inactive, ""},
		{"tries failed, and one did not since", family(func(f *Family) { f.Failing = now.Add(-time.Hour) }), Inactive, ""},
		{"never synced, and it has just begun", func(s *Snapshot) {
			s.Local.Proxy.Started = now.Add(-firstSync + 1)
			s.Local.Proxy.Families[0].Synced = time.Time{}
		}, Inactive, ""},
		{"never synced, and it has just heard of the first", family(func(f *Family) { f.Synced, f.Queued = time.Time{}, now.Add(-firstSync+1) }), Inactive, ""},
		{"never synced, and nobody knows when it began", func(s *Snapshot) {
			s.Local.Proxy.Started, s.Local.Proxy.Process = time.Time{}, nil
			s.Local.Proxy.Families[0].Synced = time.Time{}
		}, Inactive, ""},
		{"a family that it does not serve", family(func(f *Family) { f.Queued, f.Synced = time.Time{}, time.Time{} }), Inactive, ""},
		{"it has not heard since before the API server was away", func(s *Snapshot) {
			family(func(f *Family) { f.Unheard, f.UnheardSince = "Service x/y", now.Add(-time.Hour) })(s)
			s.Local.HeardSince = now.Add(-hearing + 1)
		}, Inactive, ""},
		{"it has not heard since, and the API server is long back", func(s *Snapshot) {
			family(func(f *Family) { f.Unheard, f.UnheardSince = "Service x/y", now.Add(-2*hearing) })(s)
			s.Local.HeardSince = now.Add(-hearing)
		}, Active, "watch_stale"},
		{"it has not heard for just not long enough", family(func(f *Family) { f.Unheard, f.UnheardSince = "Service x/y", now.Add(-hearing+1) }), Inactive, ""},
		{"it has not heard, and never heard of anything", family(func(f *Family) {
			f.Queued, f.Unheard, f.UnheardSince = time.Time{}, "Service x/y", now.Add(-hearing)
		}), Active, "watch_stale"},
		{"it was just starting then", func(s *Snapshot) {
			s.Local.Proxy.Started = now.Add(-hearing - startup + 1)
			s.Local.Proxy.Families[0].Unheard, s.Local.Proxy.Families[0].UnheardSince = "Service x/y", now.Add(-hearing)
		}, Inactive, ""},
		{"stopped by a signal", func(s *Snapshot) { s.Local.Proxy.Process.State = "T" }, Active, "sync_stuck"},
		{"accepts and never answers", func(s *Snapshot) {
			s.Local.Proxy.Ports = Ports{Metrics: noAnswer(10249, PortSilent), Healthz: noAnswer(10256, PortSilent)}
		}, Active, "sync_stuck"},
		{"/livez fails", func(s *Snapshot) { s.Local.Proxy.Ports.Healthz = answers(10256, 503, 503) }, Active, "sync_stuck"},
		{"/healthz fails alone: a drain", func(s *Snapshot) { s.Local.Proxy.Ports.Healthz = answers(10256, 503, 200) }, Inactive, ""},
		{"its metrics cannot be read", func(s *Snapshot) { s.Local.Proxy.Families, s.Local.Audit = nil, nil }, Unknown, ""},
		{"nor its rules", func(s *Snapshot) { s.Local.Proxy.Families, s.Local.Audit = nil, &Audit{Lacks: "x"} }, Unknown, ""},
		{"but its rules are right", func(s *Snapshot) { s.Local.Proxy.Families = nil }, Inactive, ""},
		{"some rules differ", func(s *Snapshot) {
			s.Local.Audit.Since, s.Local.Audit.Drift = now, map[string]int{"stale": 1}
		}, Active, "drift"},
		{"some differed, and now nobody knows", func(s *Snapshot) { s.Local.Audit = &Audit{Lacks: "x", Found: true} }, Unknown, ""},
		{"none did, and now nobody knows", func(s *Snapshot) { s.Local.Audit = &Audit{Lacks: "x"} }, Inactive, ""},
		{"and syncs fail", func(s *Snapshot) {
			s.Local.Audit.Since, s.Local.Audit.Drift = now, map[string]int{"stale": 1}
			s.Local.Proxy.Families[0].Failing = now.Add(-waiting / 2)
		}, Active, "sync_failing"},
		{"there is none", neverSeen, Unknown, ""},
		{"nobody looked", noProxy, Unknown, ""},
	})
	atNodeBoundary(t, conntrackFull, []boundary{
		{"just not near", func(s *Snapshot) { s.Local.Conntrack.Entries = 8999 }, Inactive, ""},
		{"just not full", func(s *Snapshot) { s.Local.Conntrack.Entries = 9899 }, Active, "near"},
		{"near, and connections were dropped", func(s *Snapshot) {
			s.Local.Conntrack.Entries, s.Local.Conntrack.DropsSince = 9000, now.Add(-time.Minute)
		}, Active, "full"},
		{"connections were dropped, and there is room again", func(s *Snapshot) { s.Local.Conntrack.DropsSince = now.Add(-time.Minute) }, Inactive, ""},
		{"no limit", func(s *Snapshot) { s.Local.Conntrack.Max = 0 }, Unknown, ""},
		{"no table", func(s *Snapshot) { s.Local.Conntrack = nil }, Unknown, ""},
	})
	atNodeBoundary(t, conflictingRules, []boundary{
		{"two worlds for a moment", func(s *Snapshot) { s.Local.Rules.IPTables, s.Local.Rules.Since = true, now.Add(-settling+1) }, Inactive, ""},
		{"no rules at all", func(s *Snapshot) { s.Local.Rules.NFTables = false }, Inactive, ""},
		{"mode iptables by the legacy tables", func(s *Snapshot) { s.Running.Mode, *s.Local.Rules = "iptables", RuleWorlds{Legacy: true} }, Inactive, ""},
		{"mode ipvs by iptables", func(s *Snapshot) { s.Running.Mode, *s.Local.Rules = "ipvs", RuleWorlds{IPTables: true} }, Inactive, ""},
		{"kube-proxy was moved to another mode a moment ago", func(s *Snapshot) {
			s.Local.Rules.IPTables, s.Local.Proxy.Started = true, now.Add(-settling+1)
		}, Inactive, ""},
		{"it was, and has not cleaned up", func(s *Snapshot) {
			s.Local.Rules.IPTables, s.Local.Proxy.Started = true, now.Add(-settling)
		}, Active, "other_mode"},
		{"mode iptables, and the table of the other", func(s *Snapshot) { s.Running.Mode = "iptables" }, Active, "other_mode"},
		{"nobody knows the mode", func(s *Snapshot) { s.Running = nil }, Unknown, ""},
		{"nobody looked", func(s *Snapshot) { s.Local.Rules = nil }, Unknown, ""},
	})
	atNodeBoundary(t, containerRuntime, []boundary{
		{"one failure", func(s *Snapshot) { s.Local.Runtime.Error, s.Local.Runtime.Times = "refused", confirmed-1 }, Unknown, ""},
		{"no socket", func(s *Snapshot) { s.Local.Runtime = nil }, Unknown, ""},
	})
	atNodeBoundary(t, resourceExhausted, []boundary{
		{"just not near", func(s *Snapshot) { s.Local.Proxy.FilesOpen = 17999 }, Inactive, ""},
		{"no limit is told", func(s *Snapshot) { s.Local.Proxy.FilesMax = 0 }, Unknown, ""},
		{"inotify was not tried", func(s *Snapshot) { s.Local.Inotify = nil }, Unknown, ""},
	})
	atNodeBoundary(t, configMismatch, []boundary{
		{"just not long enough", func(s *Snapshot) {
			s.Local.Proxy.FileDiffers, s.Local.Proxy.FileSince = []string{"mode"}, now.Add(-editing+1)
		}, Inactive, ""},
		{"nobody asked it", func(s *Snapshot) { s.Running = nil }, Unknown, ""},
	})
	atNodeBoundary(t, metricsUnreachable, []boundary{
		{"on the loopback address of IPv6", func(s *Snapshot) { s.Running.Settings.Settings["metricsbindaddress"] = "[::1]:10249" }, Active, "localhost_bind"},
		{"on an address of the node", func(s *Snapshot) { s.Running.Settings.Settings["metricsbindaddress"] = "10.0.0.1:10249" }, Inactive, ""},
		{"it does not tell", func(s *Snapshot) { delete(s.Running.Settings.Settings, "metricsbindaddress") }, Unknown, ""},
	})
	unwell := func(change func(*Needs)) func(*Snapshot) {
		return func(s *Snapshot) {
			s.Local.Proxy.Process, s.Local.Proxy.Ended = nil, true
			change(s.Local.Needs)
		}
	}
	atNodeBoundary(t, prerequisiteMissing, []boundary{
		{"forwarding is off for just not long enough", func(s *Snapshot) { s.Local.Needs.NoForwarding = now.Add(-forwardingLate + 1) }, Inactive, ""},
		{"it is well without what it does not need", func(s *Snapshot) { s.Local.Needs.NoConntrack, s.Local.Needs.NoNFTables = true, true }, Inactive, ""},
		{"it ended for another reason", unwell(func(*Needs) {}), Inactive, ""},
		{"no conntrack", unwell(func(n *Needs) { n.NoConntrack = true }), Active, "nf_conntrack"},
		{"no nf_tables", unwell(func(n *Needs) { n.NoNFTables = true }), Active, "nft"},
		{"no nf_tables, but it needs none", unwell(func(n *Needs) { n.NoNFTables, n.NoIPTables, n.Mode = true, false, "iptables" }), Inactive, ""},
		{"no nf_tables and no ip_tables", unwell(func(n *Needs) { n.NoNFTables, n.Mode = true, "iptables" }), Active, "iptables"},
		{"no ip_vs", unwell(func(n *Needs) { n.Mode = "ipvs" }), Active, "ip_vs"},
		{"nobody looked", func(s *Snapshot) { s.Local.Needs = nil }, Unknown, ""},
		{"there is no kube-proxy", neverSeen, Unknown, ""},
	})
	vip := func(change func(vip, endpoint *APIAddress)) func(*Snapshot) {
		return func(s *Snapshot) {
			sickNode["vip_unreachable"]["dataplane"](s)
			change(&s.Local.API[1], &s.Local.API[2])
		}
	}
	atNodeBoundary(t, vipUnreachable, []boundary{
		{"once", vip(func(v, _ *APIAddress) { v.Times = confirmed - 1 }), Unknown, ""},
		{"for just not long enough", vip(func(v, _ *APIAddress) { v.Since = now.Add(-apiRestart + 1) }), Unknown, ""},
		{"it connects", vip(func(v, _ *APIAddress) { v.Phase = "tls" }), Unknown, ""},
		{"not asked yet", vip(func(v, _ *APIAddress) { v.Class = "" }), Unknown, ""},
		{"an API server fails too", vip(func(_, e *APIAddress) { e.Class = "timeout" }), Unknown, ""},
		{"the API server has just come back", vip(func(_, e *APIAddress) { e.Times = confirmed - 1 }), Unknown, ""},
		{"no API server is known", func(s *Snapshot) { sickNode["vip_unreachable"]["dataplane"](s); s.Local.API = s.Local.API[:2] }, Unknown, ""},
		{"an API server fails alone", func(s *Snapshot) { dead(&s.Local.API[2]) }, Inactive, ""},
		{"nobody was asked", func(s *Snapshot) { s.Local.API = nil }, Unknown, ""},
		{"there is no kube-proxy", neverSeen, Unknown, ""},
		{"a Service that is probed fails alone", func(s *Snapshot) {
			s.Local.Probes = []Probe{probeOf(func(r *ProbeRound) { r.VIP.OK, r.VIP.Reason = false, "timeout" })}
		}, Active, "dataplane"},
		{"a Service that is probed fails with its endpoints", func(s *Snapshot) {
			s.Local.Probes = []Probe{probeOf(func(r *ProbeRound) {
				r.VIP.OK, r.Endpoints[0].OK, r.Endpoints[1].OK = false, false, false
			})}
		}, Inactive, ""},
	})
	atNodeBoundary(t, unexplained, []boundary{
		{"it is clear whose fault it is", func(s *Snapshot) {
			s.Local.Probes = []Probe{probeOf(func(r *ProbeRound) {
				r.VIP.OK, r.Endpoints[0].OK, r.Endpoints[1].OK = false, false, false
			})}
		}, Inactive, ""},
		{"nothing behind it answers, and nobody can tell why", func(s *Snapshot) {
			s.Local.Probes = []Probe{probeOf(func(r *ProbeRound) {
				r.VIP = &ProbeAttempt{Reason: "timeout"}
				r.Endpoints = []ProbeAttempt{{Address: "10.1.0.1:80", Reason: "timeout"}}
			})}
		}, Inactive, ""},
		{"once only", func(s *Snapshot) {
			sickNode["unexplained"]["probe_failing"](s)
			s.Local.Probes[0].Rounds = s.Local.Probes[0].Rounds[1:]
		}, Inactive, ""},
		{"twice only: others are still to be asked", func(s *Snapshot) {
			sickNode["unexplained"]["probe_failing"](s)
			s.Local.Probes[0].Failing = s.Local.Probes[0].Rounds[0].At.Add(time.Second)
		}, Inactive, ""},
		{"three times", func(s *Snapshot) {
			sickNode["unexplained"]["probe_failing"](s)
			s.Local.Probes[0].Failing = s.Local.Probes[0].Rounds[0].At
		}, Active, "probe_failing"},
		{"only an endpoint is silent", func(s *Snapshot) {
			s.Local.Probes = []Probe{probeOf(func(r *ProbeRound) { r.Endpoints[0].OK, r.Endpoints[0].Answered = false, false })}
		}, Inactive, ""},
		{"nothing is asked", func(s *Snapshot) { s.Local.Probes = nil }, Unknown, ""},
		{"there is no kube-proxy", neverSeen, Unknown, ""},
	})
	atNodeBoundary(t, portConflict, []boundary{
		{"once only", func(s *Snapshot) { s.Running.Foreign = true; s.Local.Proxy.Ports.Metrics.Times = confirmed - 1 }, Inactive, ""},
		{"nobody asked it", func(s *Snapshot) { s.Running = nil }, Unknown, ""},
	})
}

func TestLocalHealth(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Proxy)
		want   State
	}{
		"well":                   {func(*Proxy) {}, Active},
		"being drained":          {func(p *Proxy) { p.Ports.Healthz = answers(10256, 503, 200) }, Active},
		"its rules wait":         {func(p *Proxy) { p.Ports.Healthz = answers(10256, 503, 503) }, Inactive},
		"its process ended":      {func(p *Proxy) { p.Process, p.Ended = nil, true }, Inactive},
		"it is in another":       {func(p *Proxy) { p.Process = nil }, Active},
		"stopped just now":       {func(p *Proxy) { p.Process.State, p.Process.Times = "T", confirmed-1 }, Active},
		"another answers":        {func(p *Proxy) { p.HealthzForeign = true }, Unknown},
		"stopped":                {func(p *Proxy) { p.Process.State = "T" }, Inactive},
		"its port is closed":     {func(p *Proxy) { p.Ports.Healthz = noAnswer(10256, PortRefused) }, Inactive},
		"it has just begun":      {func(p *Proxy) { p.Ports.Healthz = noAnswer(10256, PortRefused); p.Started = now.Add(-startup + 1) }, Unknown},
		"its port was not tried": {func(p *Proxy) { p.Ports.Healthz = Port{} }, Unknown},
		"never seen":             {func(p *Proxy) { p.Seen = false }, Unknown},
	} {
		s := healthyLocal()
		tc.change(s.Local.Proxy)
		if got := Judge(s).Healthy; got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

// Whatever kube-proxy says, and whether there is one: the canary shows that the
// rules do not follow.
func TestCanaryStale(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Snapshot)
		want   State
	}{
		"nobody moves anything":                {func(s *Snapshot) { s.Local.Canary = nil }, Inactive},
		"it follows":                           {func(s *Snapshot) { s.Local.Canary.Behind = time.Time{} }, Inactive},
		"it does not follow":                   {func(*Snapshot) {}, Active},
		"not yet":                              {func(s *Snapshot) { s.Local.Canary.Behind = now.Add(-hearing + 1) }, Inactive},
		"the API server came back too late":    {func(s *Snapshot) { s.Local.HeardSince = now.Add(-hearing + 1) }, Inactive},
		"the API server came back in time":     {func(s *Snapshot) { s.Local.HeardSince = now.Add(-hearing) }, Active},
		"seen once":                            {func(s *Snapshot) { s.Local.Canary.Times = 1 }, Inactive},
		"no kube-proxy":                        {func(s *Snapshot) { s.Local.Proxy = nil }, Active},
		"none, and it follows":                 {func(s *Snapshot) { s.Local.Proxy = nil; s.Local.Canary.Behind = time.Time{} }, Unknown},
		"kube-proxy says nothing of its syncs": {func(s *Snapshot) { s.Local.Proxy.Families = nil }, Active},
	} {
		s := healthyLocal()
		s.Local.Canary = &Canary{At: now, Times: confirmed, Behind: now.Add(-hearing), Answers: "10.99.0.12", Node: "n2", Missed: "10.99.0.13"}
		tc.change(s)
		v := rulesStale.Node(s)
		if v.State != tc.want {
			t.Errorf("%s: %v, want %v", name, v, tc.want)
		}
		if v.State == Active && (v.Findings[0].Detail != "watch_stale" || !strings.Contains(v.Findings[0].Evidence[0], "moved to 10.99.0.13")) {
			t.Errorf("%s: %+v", name, v.Findings)
		}
	}
}

// What kube-proxy's log on the node says counts while it is not well, and only
// if it was said lately.
func TestLocalLog(t *testing.T) {
	said := func(class string, ago time.Duration) *Log { return &Log{Class: class, Line: "line", At: now.Add(-ago)} }
	ended := func(s *Snapshot) {
		s.Local.Proxy.Alive = now.Add(-startup)
		s.Local.Proxy.Process, s.Local.Proxy.Ended, s.Local.Proxy.Started, s.Local.Proxy.Families, s.Running = nil, true, time.Time{}, nil, nil
		s.Local.Proxy.Ports = Ports{Metrics: noAnswer(10249, PortRefused), Healthz: noAnswer(10256, PortRefused)}
	}
	for name, tc := range map[string]struct {
		change func(*Snapshot)
		want   string
	}{
		"it is well": {func(s *Snapshot) { s.Local.Log = said("crash_loop/config_invalid", 0) }, ""},
		"it ended":   {func(s *Snapshot) { ended(s); s.Local.Log = said("crash_loop/config_invalid", startup) }, "crash_loop/config_invalid"},
		"it ended, and the node could see that cause by itself": {func(s *Snapshot) {
			ended(s)
			s.Local.Log = said("resource_exhausted/inotify", time.Second)
		}, "resource_exhausted/inotify"},
		"it ended, and said so long ago": {func(s *Snapshot) { ended(s); s.Local.Log = said("crash_loop/config_invalid", 11*time.Minute) }, ""},
		"it ended, and nobody knows when it said so": {func(s *Snapshot) {
			ended(s)
			s.Local.Log = &Log{Class: "crash_loop/config_invalid"}
		}, ""},
		"it ended long after it said so: it is rolled out anew": {func(s *Snapshot) {
			ended(s)
			s.Local.Log = said("api_unreachable/refused", lastWords+startup+time.Second)
		}, ""},
		"it ended just now, and said so": {func(s *Snapshot) {
			ended(s)
			s.Local.Proxy.Alive = now.Add(-startup + 1)
			s.Local.Log = said("api_unreachable/forbidden", startup+5*time.Second)
		}, ""},
		"it has closed its ports just now, and is about to end": {func(s *Snapshot) {
			s.Local.Proxy.Ports.Healthz = noAnswer(10256, PortRefused)
			s.Local.Proxy.Ports.Healthz.Since = now.Add(-ending + 1)
			s.Local.Log = said("api_unreachable/forbidden", 3*time.Second)
		}, ""},
		"it runs, and its ports are closed for good": {func(s *Snapshot) {
			s.Local.Proxy.Ports.Healthz = noAnswer(10256, PortRefused)
			s.Local.Proxy.Ports.Healthz.Since = now.Add(-ending)
			s.Local.Log = said("api_unreachable/forbidden", 3*time.Second)
		}, "api_unreachable/forbidden"},
		"it ended just now, in a loop": {func(s *Snapshot) {
			ended(s)
			s.Local.Proxy.Alive = now
			s.Local.Log, s.Local.Before = said("crash_loop/config_invalid", 0), said("crash_loop/config_invalid", time.Second)
		}, "crash_loop/config_invalid"},
		"it waits in a loop, and its last try said nothing": {func(s *Snapshot) {
			ended(s)
			s.Local.Proxy.Alive = now.Add(-4 * time.Minute)
			s.Local.Log, s.Local.Before = said("", 0), said("prerequisite_missing/ip_vs", 9*time.Minute)
		}, "prerequisite_missing/ip_vs"},
		"it begins, and says something": {func(s *Snapshot) {
			ended(s)
			s.Local.Proxy.Ended, s.Local.Proxy.Process = false, &Process{PID: 8, State: "S", Started: now.Add(1 - startup/2)}
			s.Local.Log = said("api_unreachable/timeout", 0)
		}, ""},
		"it began a while ago, says something, and is not well yet": {func(s *Snapshot) {
			ended(s)
			s.Local.Proxy.Ended, s.Local.Proxy.Process = false, &Process{PID: 8, State: "S", Started: now.Add(-startup / 2)}
			s.Local.Log = said("api_unreachable/timeout", 0)
		}, "api_unreachable/timeout"},
		"it begins again, as the one before": {func(s *Snapshot) {
			ended(s)
			s.Local.Proxy.Ended, s.Local.Proxy.Process = false, &Process{PID: 8, State: "S", Started: now.Add(-startup + 1)}
			s.Local.Log, s.Local.Before = said("", 0), said("prerequisite_missing/ip_vs", time.Minute)
		}, "prerequisite_missing/ip_vs"},
		"it has run for a while": {func(s *Snapshot) {
			ended(s)
			s.Local.Proxy.Ended, s.Local.Proxy.Process = false, &Process{PID: 8, State: "S", Started: now.Add(-startup)}
			s.Local.Proxy.Ports = Ports{}
			s.Local.Log, s.Local.Before = said("", 0), said("prerequisite_missing/ip_vs", time.Minute)
		}, ""},
		"it begins, and waits for the API server as every start does": {func(s *Snapshot) {
			ended(s)
			s.Local.Proxy.Ended, s.Local.Proxy.Process = false, &Process{PID: 8, State: "S", Started: now.Add(-time.Second)}
			s.Local.Log = &Log{Class: "api_unreachable/refused", Line: `"Waiting for caches to sync"`, At: now}
		}, ""},
		"its logs cannot be read": {ended, ""},
	} {
		s := healthyLocal()
		tc.change(s)
		j := Judge(s)
		got := ""
		if j.Primary >= 0 {
			got = All[j.Primary].Name + "/" + j.Verdicts[j.Primary].Findings[0].Detail
		}
		if got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}
