package cause

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

var now = time.Date(2026, 11, 1, 3, 0, 0, 0, time.UTC)

// healthySnapshot is a node on which all is well.
func healthySnapshot() *Snapshot {
	old := now.Add(-24 * time.Hour)
	return &Snapshot{
		Now: now, Name: "n1",
		Expected: &Expected{Yes: true, Reason: ReasonDaemonSet},
		Node: &Node{
			Created: old,
			Ready:   &Condition{Type: "Ready", Status: "True", Since: old},
			Pressure: []Condition{
				{Type: "MemoryPressure", Status: "False", Since: old},
				{Type: "DiskPressure", Status: "False", Since: old},
				{Type: "PIDPressure", Status: "False", Since: old},
			},
			PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")},
		},
		Placement: &Placement{DaemonSet: "kube-system/kube-proxy", Created: old, Selected: true},
		Pods: &Pods{List: []Pod{{
			Name: "kube-proxy-x", Created: old, Phase: "Running",
			Scheduled: &Condition{Type: "PodScheduled", Status: "True", Since: old},
			Ready:     &Condition{Type: "Ready", Status: "True", Since: old},
			Container: &Container{Ready: true, Started: old},
			Image:     "registry.example/kube-proxy:v1.37.2", HostnameFlag: true, ConfigFrom: "kube-system/kube-proxy", ArgsKnown: true,
		}}},
		Config: &Config{
			Name: "kube-system/kube-proxy", ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}, Since: old,
			Settings: Settings{"mode": "nftables", "clustercidr": "10.244.0.0/16"},
		},
		// As an older version shows it: without clusterCIDR in its place.
		Running: &Running{Mode: "nftables", Hostname: "n1", Settings: NewRunningSettings(Settings{"mode": "nftables"}, false)},
		Server:  &Version{1, 37}, EventsKnown: true,
		Ports: &Ports{Metrics: answers(10249, 200, 0), Healthz: answers(10256, 200, 0)},
	}
}

func answers(number uint16, status, livez int) Port {
	return Port{Number: number, Outcome: PortAnswered, Status: status, Livez: livez, Since: now.Add(-time.Hour), At: now, Times: 100}
}

func noAnswer(number uint16, outcome string) Port {
	return Port{Number: number, Outcome: outcome, Error: outcome, Since: now.Add(-time.Hour), At: now, Times: 100}
}

// crashing puts the pod into a crash loop whose log says class.
func crashing(s *Snapshot, class string, exit int32) *Pod {
	p := &s.Pods.List[0]
	p.Ready.Status = "False"
	p.Container = &Container{Restarts: 3, WaitingReason: "CrashLoopBackOff", Last: &Termination{
		ContainerID: "c", ExitCode: exit, Started: now.Add(-20 * time.Second), Finished: now.Add(-19 * time.Second),
	}}
	p.Log = &Log{ContainerID: "c", Class: class, Line: "line"}
	return p
}

func pulling(s *Snapshot, reason, message string) *Pod {
	p := &s.Pods.List[0]
	p.Ready.Status, p.Ready.Since = "False", now
	p.Container = &Container{WaitingReason: reason, WaitingMessage: message}
	return p
}

func gone(s *Snapshot, ago time.Duration) *Snapshot {
	s.Pods.List, s.Pods.GoneSince = nil, now.Add(-ago)
	return s
}

func evictedWith(message string) func(*Snapshot) {
	return func(s *Snapshot) {
		p := &s.Pods.List[0]
		p.Phase, p.Reason, p.Message, p.Container, p.Ready = "Failed", "Evicted", message, nil, nil
		s.Pods.GoneSince = now
	}
}

// refused is a node whose pod the API server does not let be made.
func refused(message string) func(*Snapshot) {
	return func(s *Snapshot) {
		gone(s, time.Second).Placement.Failure = &Event{Reason: "FailedCreate", Message: "Error creating: " + message, Time: now}
	}
}

// logs is one sick node for each detail that a log names.
func logs(cause string, details ...string) map[string]func(*Snapshot) {
	out := map[string]func(*Snapshot){}
	for _, d := range details {
		out[d] = logged(cause + "/" + d)
	}
	return out
}

// sick holds for every cause and detail the smallest change that makes a
// healthy node sick of exactly that.
var sick = map[string]map[string]func(*Snapshot){
	"node_not_ready": {
		"not_ready": func(s *Snapshot) { s.Node.Ready.Status = "False" },
		"unknown":   func(s *Snapshot) { s.Node.Ready = nil },
	},
	"container_runtime": {
		"down": func(s *Snapshot) {
			s.Node.Ready.Status, s.Node.Ready.Message = "False", "[container runtime is down, PLEG is not healthy: pleg was last seen active 3m ago]"
		},
		"sandbox_loop": func(s *Snapshot) {
			crashing(s, "", 2).Events = []Event{{Reason: "SandboxChanged", Message: "Pod sandbox changed, it will be killed and re-created.", Time: now, Count: 4}}
		},
		"create_container": func(s *Snapshot) { pulling(s, "RunContainerError", "OCI runtime create failed: runc: mount") },
	},
	"evicted": {
		"memory": evictedWith("The node was low on resource: memory. Threshold quantity: 100Mi, available: 90Mi."),
		"disk":   evictedWith("The node was low on resource: ephemeral-storage."),
		"pid":    evictedWith("The node was low on resource: pids."),
		"other":  evictedWith("Evicted."),
	},
	"security_policy": {
		"pod_security":   refused(`pods "kube-proxy-" is forbidden: violates PodSecurity "baseline:latest": privileged`),
		"admission":      refused(`admission webhook "policy.example" denied the request: no host network`),
		"not_privileged": logged("security_policy/not_privileged"),
		"lsm":            func(s *Snapshot) { pulling(s, "CreateContainerError", "apparmor profile x is not loaded") },
	},
	"prerequisite_missing": logs("prerequisite_missing", "iptables", "nft", "ip_vs", "nf_conntrack", "xt_match", "binary", "kernel_bug"),
	"config_mismatch": {
		"mode":    logged("config_mismatch/mode"),
		"node_ip": logged("config_mismatch/node_ip"),
		"cluster_cidr": func(s *Snapshot) {
			s.Config.ClusterCIDRs = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16")}
		},
		"ip_family": func(s *Snapshot) {
			s.Config.ClusterCIDRs = []netip.Prefix{netip.MustParsePrefix("fd00::/48")}
		},
		"hostname":    func(s *Snapshot) { s.Pods.List[0].Hostname, s.Running = "other", nil },
		"not_applied": func(s *Snapshot) { s.Config.Settings["mode"] = "iptables"; compare(s) },
	},
	"version_skew": {
		"too_new": func(s *Snapshot) { s.Server.Minor = 36 },
		"too_old": func(s *Snapshot) { s.Server.Minor = 41 },
	},
	"api_unreachable": logs("api_unreachable", "refused", "timeout", "dns", "tls", "cert_expired", "unauthorized", "forbidden", "wrong_endpoint"),
	"oom_killed": {
		"container": func(s *Snapshot) { crashing(s, "", 137).Container.Last.Reason = "OOMKilled" },
		"node": func(s *Snapshot) {
			crashing(s, "", 137)
			s.Node.Events = []Event{{Reason: "SystemOOM", Message: "System OOM encountered, victim process: kube-proxy, pid: 1", Time: now}}
		},
	},
	"resource_exhausted": logs("resource_exhausted", "inotify", "file_descriptors"),
	"port_conflict":      logs("port_conflict", "metrics", "healthz"),
	"conflicting_rules":  {"other_proxy": func(s *Snapshot) { s.Replaced = ReasonCilium }},
	"rules_stale": {
		"sync_failing": logged("rules_stale/sync_failing"),
		"flushed":      logged("rules_stale/flushed"),
		"sync_stuck":   func(s *Snapshot) { s.Ports.Healthz = answers(10256, 503, 503) },
	},
	"conntrack_full": {"full": func(s *Snapshot) {
		s.Node.Problems = []Condition{{Type: "KernelProblem", Status: "True", Message: "nf_conntrack: table full, dropping packet"}}
	}},
	"metrics_unreachable": {
		"localhost_bind": func(s *Snapshot) { s.Ports.Metrics = noAnswer(10249, PortRefused) },
		"firewall":       func(s *Snapshot) { s.Ports.Metrics = noAnswer(10249, PortTimeout) },
		"no_target":      func(s *Snapshot) { s.NoTarget = "kube-system/monitoring-kube-proxy" },
	},
	"unexplained": {"unhealthy": func(s *Snapshot) {
		s.Pods.List[0].Ready = &Condition{Type: "Ready", Status: "False", Since: now.Add(-unexplainedAfter)}
	}},
	"node_pressure": {
		"memory": func(s *Snapshot) { s.Node.Pressure[0].Status = "True" },
		"disk":   func(s *Snapshot) { s.Node.Pressure[1].Status = "True" },
		"pid":    func(s *Snapshot) { s.Node.Pressure[2].Status = "True" },
	},
	"missing_on_node": {
		"not_installed": func(s *Snapshot) { gone(s, missingGrace).Placement = &Placement{} },
		"taint":         func(s *Snapshot) { gone(s, time.Second).Placement.Untolerated = "a=b:NoExecute" },
		"selector":      func(s *Snapshot) { gone(s, time.Second).Placement.Selected = false },
		"not_created":   func(s *Snapshot) { gone(s, missingGrace) },
		"fit": func(s *Snapshot) {
			p := &s.Pods.List[0]
			p.Phase, p.Container, p.Ready = "Pending", nil, nil
			p.Scheduled.Status = "False"
		},
		"container_gone": func(s *Snapshot) {
			s.Pods.List[0].Container = &Container{Last: &Termination{Finished: now.Add(-forgottenAfter)}}
		},
	},
	"image_pull": {
		"not_found": func(s *Snapshot) { pulling(s, "ErrImagePull", "kproxy.example/kube-proxy:v0: not found") },
		"unreachable": func(s *Snapshot) {
			pulling(s, "ImagePullBackOff", "dial tcp 10.0.0.1:443: connect: connection refused")
		},
		"other": func(s *Snapshot) { pulling(s, "ErrImageNeverPull", "image is not present with pull policy of Never") },
		"sandbox_image": func(s *Snapshot) {
			p := pulling(s, "ContainerCreating", "")
			p.Events = []Event{{Reason: "FailedCreatePodSandBox", Message: `failed to get sandbox image "x/pause:1": failed to pull image`, Time: now}}
		},
	},
	"crash_loop": {
		"config_invalid": func(s *Snapshot) { crashing(s, "crash_loop/config_invalid", 1) },
		"config_parse":   func(s *Snapshot) { crashing(s, "crash_loop/config_parse", 1) },
		"bad_flag":       func(s *Snapshot) { crashing(s, "crash_loop/bad_flag", 1) },
		"kubeconfig":     func(s *Snapshot) { crashing(s, "crash_loop/kubeconfig", 1) },
		"sysctl_denied":  func(s *Snapshot) { crashing(s, "crash_loop/sysctl_denied", 1) },
		"panic":          func(s *Snapshot) { crashing(s, "crash_loop/panic", 2) },
		"killed":         func(s *Snapshot) { crashing(s, "", 137) },
		"wrong_arch":     func(s *Snapshot) { crashing(s, "", 255).Container.Last.Message = "exec format error" },
		"other":          func(s *Snapshot) { crashing(s, "", 1) },
		"liveness_killed": func(s *Snapshot) {
			crashing(s, "", 2).Events = []Event{{Reason: "Unhealthy", Message: "Liveness probe failed: HTTP probe failed with statuscode: 503", Time: now.Add(-30 * time.Second)}}
		},
	},
}

// logged makes a log of a running pod say class.
func logged(class string) func(*Snapshot) {
	return func(s *Snapshot) {
		p := &s.Pods.List[0]
		p.Ready.Status = "False" // the log of one that is well says nothing
		p.Current = &Log{Class: class, Line: "line", At: now.Add(-said)}
	}
}

// unseen are the causes of which the API alone cannot tell that they are not.
var unseen = []string{
	"prerequisite_missing", "api_unreachable", "resource_exhausted", "port_conflict", "conflicting_rules", "rules_stale", "conntrack_full", "vip_unreachable",
}

// beside are the causes that stand beside another by their nature: the node of
// a dead runtime is not Ready, and a pod that may not be made is missing.
var beside = map[string]string{
	"container_runtime/down": "node_not_ready", "container_runtime/sandbox_loop": "crash_loop",
	"security_policy/pod_security": "missing_on_node", "security_policy/admission": "missing_on_node",
	"oom_killed/container": "crash_loop", "oom_killed/node": "crash_loop",
}

func TestSickMatrix(t *testing.T) {
	if j := Judge(healthySnapshot()); j.Primary != -1 || j.Healthy != Active {
		t.Fatalf("a healthy node is judged %+v", j)
	}
	for _, c := range All {
		var details []string
		for _, d := range c.Details {
			details = append(details, d.Name)
			change := sick[c.Name][d.Name]
			if change == nil && sickNode[c.Name][d.Name] != nil {
				continue // only the node shows it: TestSickNode
			}
			if change == nil {
				t.Errorf("%s/%s has no sick node", c.Name, d.Name)
				continue
			}
			if d.Action == "" {
				t.Errorf("%s/%s does not say what to do", c.Name, d.Name)
			}
			s := healthySnapshot()
			change(s)
			j := Judge(s)
			for i, v := range j.Verdicts {
				name := All[i].Name
				want := v.State == Inactive || v.State == Unknown && (slices.Contains(unseen, name) || s.Node.Ready == nil)
				if name == c.Name || name == beside[c.Name+"/"+d.Name] {
					want = v.State == Active
				}
				if !want {
					t.Errorf("%s/%s: cause %s is %+v", c.Name, d.Name, name, v)
				}
			}
			if j.Primary < 0 || All[j.Primary].Name != c.Name {
				t.Errorf("%s/%s: primary is %d", c.Name, d.Name, j.Primary)
				continue
			}
			f := j.Verdicts[j.Primary].Findings
			if len(f) != 1 || f[0].Detail != d.Name || len(f[0].Evidence) == 0 || f[0].Evidence[0] == "" {
				t.Errorf("%s/%s: findings %+v", c.Name, d.Name, f)
			}
		}
		for d := range merged(sick[c.Name], sickNode[c.Name]) {
			if !slices.Contains(details, d) {
				t.Errorf("%s finds a detail %s that it does not list", c.Name, d)
			}
		}
	}
}

func merged(maps ...map[string]func(*Snapshot)) map[string]func(*Snapshot) {
	out := map[string]func(*Snapshot){}
	for _, m := range maps {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}

// boundary is a node at the edge of a cause.
type boundary struct {
	name   string
	change func(*Snapshot)
	want   State
	detail string
}

// check wants a verdict as the table has it.
func (tc boundary) check(t *testing.T, v Verdict) {
	t.Helper()
	if v.State != tc.want {
		t.Fatalf("%+v, want state %v", v, tc.want)
	}
	if tc.detail != "" && (len(v.Findings) != 1 || v.Findings[0].Detail != tc.detail) {
		t.Errorf("%+v, want detail %s", v.Findings, tc.detail)
	}
	if v.State == Unknown && v.Lacks == "" {
		t.Error("it does not say what it lacks")
	}
}

// compare does what the collector does once for all nodes.
func compare(s *Snapshot) {
	if s.Running != nil && s.Running.Settings != nil && s.Config != nil {
		s.Running.Differs = s.Config.Settings.Differs(s.Running.Settings)
	}
}

// atBoundary judges a healthy node after each change by one cause alone.
func atBoundary(t *testing.T, c Cause, table []boundary) {
	t.Helper()
	for _, tc := range table {
		t.Run(tc.name, func(t *testing.T) {
			s := healthySnapshot()
			tc.change(s)
			compare(s)
			tc.check(t, c.Eval(s))
		})
	}
}

// onlyLogsTell holds the boundaries of a cause that is read from logs alone.
func onlyLogsTell(t *testing.T, c Cause, detail string) {
	t.Helper()
	class := c.Name + "/" + detail
	atBoundary(t, c, []boundary{
		{"its running container says so", logged(class), Active, detail},
		{"its ended container says so, and it loops", func(s *Snapshot) { crashing(s, class, 1) }, Active, detail},
		{"its ended container said so, and it runs again", func(s *Snapshot) { s.Pods.List[0].Log = &Log{Class: class, Line: "line"} }, Unknown, ""},
		{"its ended container said so, in a dump", func(s *Snapshot) {
			s.Pods.List[0].Log, s.Dump = &Log{Class: class, Line: "line"}, true
			s.Pods.List[0].Container.Started, s.Pods.List[0].Container.Last = now.Add(-said), &Termination{}
		}, Active, detail},
		{"its ended container said so, in a dump that does not tell when", func(s *Snapshot) {
			s.Pods.List[0].Log, s.Dump = &Log{Class: class, Line: "line"}, true
		}, Active, detail},
		{"its ended container said so, in a dump, and it has been well for long", func(s *Snapshot) {
			s.Pods.List[0].Log, s.Dump = &Log{Class: class, Line: "line"}, true
			s.Pods.List[0].Container.Started, s.Pods.List[0].Container.Last = now.Add(-said-1), &Termination{}
		}, Unknown, ""},
		{"its running container said so long ago", func(s *Snapshot) {
			logged(class)(s)
			s.Pods.List[0].Current.At = now.Add(-said - 1)
		}, Unknown, ""},
		{"its running container said so at a time that nobody knows", func(s *Snapshot) {
			logged(class)(s)
			s.Pods.List[0].Current.At = time.Time{}
		}, Active, detail},
		{"its running container says so, and it is well by every account", func(s *Snapshot) {
			logged(class)(s)
			s.Pods.List[0].Ready.Status = "True"
		}, map[bool]State{true: Active, false: Unknown}[c.Name == "port_conflict"], ""},
		{"it says something else", logged("another/cause"), Unknown, ""},
		{"a pod on its way out", func(s *Snapshot) {
			logged(class)(s)
			s.Pods.List[0].Deleting = true
		}, Unknown, ""},
		{"no log", func(*Snapshot) {}, Unknown, ""},
		{"no pods were read", func(s *Snapshot) { s.Pods = nil }, Unknown, ""},
	})
}

func TestNothingObservedIsUnknown(t *testing.T) {
	j := Judge(&Snapshot{Now: now, Name: "n1"})
	for i, v := range j.Verdicts {
		if v.State != Unknown || v.Lacks == "" {
			t.Errorf("%s is %+v of a node about which nothing is known", All[i].Name, v)
		}
	}
	if j.Healthy != Unknown {
		t.Errorf("healthy is %v", j.Healthy)
	}
}

func TestNotExpectedIsSilent(t *testing.T) {
	for name, details := range sick {
		for detail, change := range details {
			s := healthySnapshot()
			change(s)
			s.Expected = &Expected{Reason: ReasonCilium}
			j := Judge(s)
			if j.Primary != -1 || j.Healthy != Unknown {
				t.Errorf("%s/%s is judged %+v where kube-proxy is not expected", name, detail, j)
			}
		}
	}
}

// healthyVariations must stay silent.
var healthyVariations = map[string]func(*Snapshot){
	"a node that has just joined": func(s *Snapshot) {
		s.Node.Created = now.Add(-time.Minute)
		s.Node.Ready.Status, s.Node.Ready.Since = "False", s.Node.Created
	},
	"a node without conditions yet": func(s *Snapshot) {
		s.Node.Created, s.Node.Ready = now.Add(-time.Second), nil
	},
	"a rollout between two pods": func(s *Snapshot) { gone(s, missingGrace-time.Second) },
	"a pod on its way out":       func(s *Snapshot) { s.Pods.List[0].Deleting = true; s.Pods.GoneSince = now.Add(-time.Hour) },
	"a pod that is being scheduled": func(s *Snapshot) {
		s.Pods.List[0].Container = nil
		s.Pods.List[0].Scheduled = &Condition{Type: "PodScheduled", Status: "False", Since: now.Add(-time.Second)}
	},
	"one intended restart": func(s *Snapshot) {
		s.Pods.List[0].Container = &Container{Ready: true, Restarts: 1, Started: now.Add(-time.Second),
			Last: &Termination{ExitCode: 1, Started: now.Add(-time.Minute), Finished: now.Add(-2 * time.Second)}}
	},
	"one restart after a long run, and many long ago": func(s *Snapshot) {
		s.Pods.List[0].Container = &Container{Ready: true, Restarts: 50, Started: now.Add(-time.Second),
			Last: &Termination{ExitCode: 2, Started: now.Add(-time.Hour), Finished: now.Add(-2 * time.Second)}}
	},
	"a loop that is over": func(s *Snapshot) {
		s.Pods.List[0].Container = &Container{Ready: true, Restarts: 5, Started: now.Add(-stableRun),
			Last: &Termination{ExitCode: 1, Started: now.Add(-stableRun - 2*time.Second), Finished: now.Add(-stableRun - time.Second)}}
	},
	"an image that is being pulled": func(s *Snapshot) { pulling(s, "ContainerCreating", "") },
	"an old FailedCreate event": func(s *Snapshot) {
		gone(s, time.Second).Placement.Failure = &Event{Reason: "FailedCreate", Time: now.Add(-time.Hour)}
	},
	"an old sandbox event of a pod that runs": func(s *Snapshot) {
		s.Pods.List[0].Events = []Event{{Reason: "FailedCreatePodSandBox", Message: "failed to get sandbox image", Time: now}}
	},
}

func TestHealthyVariationsAreSilent(t *testing.T) {
	for name, change := range healthyVariations {
		s := healthySnapshot()
		change(s)
		if j := Judge(s); j.Primary != -1 {
			t.Errorf("%s: %s is active: %+v", name, All[j.Primary].Name, j.Verdicts[j.Primary])
		}
	}
}

// Of several active causes the one of the highest rank is primary, unless it
// says that another explains it.
func TestRank(t *testing.T) {
	primary := func(changes ...func(*Snapshot)) string {
		s := healthySnapshot()
		for _, c := range changes {
			c(s)
		}
		if j := Judge(s); j.Primary >= 0 {
			return All[j.Primary].Name
		}
		return "none"
	}
	for _, tc := range []struct {
		want    string
		changes []func(*Snapshot)
	}{
		{"node_not_ready", []func(*Snapshot){sick["crash_loop"]["bad_flag"], sick["node_pressure"]["disk"], sick["node_not_ready"]["not_ready"]}},
		{"node_pressure", []func(*Snapshot){sick["crash_loop"]["bad_flag"], sick["node_pressure"]["disk"]}},
		{"container_runtime", []func(*Snapshot){sick["container_runtime"]["down"], sick["node_pressure"]["disk"]}},
		{"rules_stale", []func(*Snapshot){func(s *Snapshot) { crashing(s, "rules_stale/sync_failing", 2) }}},
		{"image_pull", []func(*Snapshot){sick["unexplained"]["unhealthy"], sick["image_pull"]["other"]}},
	} {
		if got := primary(tc.changes...); got != tc.want {
			t.Errorf("primary is %s, want %s", got, tc.want)
		}
	}
}

// What the kubelet said last is not known any more when it is silent.
func TestSilentKubelet(t *testing.T) {
	for _, name := range []string{"image_pull", "crash_loop", "oom_killed"} {
		for detail, change := range sick[name] {
			s := healthySnapshot()
			change(s)
			s.Node.Ready = &Condition{Type: "Ready", Status: "Unknown", Since: now}
			j := Judge(s)
			for i, v := range j.Verdicts {
				if All[i].Name == name && v.State != Unknown {
					t.Errorf("%s/%s of a silent kubelet is %+v", name, detail, v)
				}
			}
		}
	}
}

func TestEventsNotRead(t *testing.T) {
	s := healthySnapshot()
	sick["image_pull"]["sandbox_image"](s)
	s.EventsKnown, s.Pods.List[0].Events = false, nil
	if v := imagePull.Eval(s); v.State != Unknown {
		t.Errorf("without events image_pull is %+v", v)
	}
	if v := containerRuntime.Eval(s); v.State != Unknown {
		t.Errorf("without events container_runtime is %+v", v)
	}
	s = healthySnapshot()
	s.EventsKnown = false
	if v := imagePull.Eval(s); v.State != Inactive {
		t.Errorf("of a pod that runs image_pull is %+v", v)
	}
}

func TestPartlyObserved(t *testing.T) {
	s := healthySnapshot()
	crashing(s, "", 1).Log = nil
	if v := crashLoop.Eval(s); v.State != Unknown || !Judge(s).Pending {
		t.Errorf("a crash loop whose log is still being read is %+v", v)
	}
	s = healthySnapshot()
	s.Node.Ready.Status = "Unknown"
	s.Node.Pressure[0].Status = "True"
	j := Judge(s)
	if j.Healthy != Unknown || nodePressure.Eval(s).State != Unknown {
		t.Errorf("what a silent kubelet said last is believed: %+v", j)
	}
	if f := j.Verdicts[0].Findings; len(f) != 1 || f[0].Detail != "unknown" {
		t.Errorf("a silent kubelet gives %+v", f)
	}
	s = gone(healthySnapshot(), time.Second)
	s.Placement.Failure = &Event{Reason: "FailedCreate", Message: "exceeded quota", Time: now}
	if v := missingOnNode.Eval(s); v.State != Active || v.Findings[0].Detail != "not_created" {
		t.Errorf("a pod that could not be created is %+v", v)
	}
}
