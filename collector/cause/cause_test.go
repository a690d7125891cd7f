package cause

import (
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
		},
		Placement: &Placement{DaemonSet: "kube-system/kube-proxy", Created: old, Selected: true},
		Pods: &Pods{List: []Pod{{
			Name: "kube-proxy-x", Created: old, Phase: "Running",
			Scheduled: &Condition{Type: "PodScheduled", Status: "True", Since: old},
			Ready:     &Condition{Type: "Ready", Status: "True", Since: old},
			Container: &Container{Ready: true, Started: old},
		}}},
	}
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
	p.Ready.Status = "False"
	p.Container = &Container{WaitingReason: reason, WaitingMessage: message}
	return p
}

func gone(s *Snapshot, ago time.Duration) *Snapshot {
	s.Pods.List, s.Pods.GoneSince = nil, now.Add(-ago)
	return s
}

// sick holds for every cause and detail the smallest change that makes a
// healthy node sick of exactly that.
var sick = map[string]map[string]func(*Snapshot){
	"node_not_ready": {
		"not_ready": func(s *Snapshot) { s.Node.Ready.Status = "False" },
		"unknown":   func(s *Snapshot) { s.Node.Ready = nil },
	},
	"node_pressure": {
		"memory": func(s *Snapshot) { s.Node.Pressure[0].Status = "True" },
		"disk":   func(s *Snapshot) { s.Node.Pressure[1].Status = "True" },
		"pid":    func(s *Snapshot) { s.Node.Pressure[2].Status = "True" },
	},
	"missing_on_node": {
		"not_installed": func(s *Snapshot) { gone(s, time.Second).Placement = &Placement{} },
		"taint":         func(s *Snapshot) { gone(s, time.Second).Placement.Untolerated = "a=b:NoExecute" },
		"selector":      func(s *Snapshot) { gone(s, time.Second).Placement.Selected = false },
		"not_created":   func(s *Snapshot) { gone(s, missingGrace) },
		"fit": func(s *Snapshot) {
			p := &s.Pods.List[0]
			p.Container = nil
			p.Ready = nil
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

func TestSickMatrix(t *testing.T) {
	if j := Judge(healthySnapshot()); j.Primary != -1 || j.Healthy != Active {
		t.Fatalf("a healthy node is judged %+v", j)
	}
	for _, c := range All {
		var details []string
		for _, d := range c.Details {
			details = append(details, d.Name)
			change := sick[c.Name][d.Name]
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
				want := Inactive
				if All[i].Name == c.Name {
					want = Active
				}
				if v.State != want {
					t.Errorf("%s/%s: cause %s is %v, want %v (%+v)", c.Name, d.Name, All[i].Name, v.State, want, v)
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
		for d := range sick[c.Name] {
			if !slices.Contains(details, d) {
				t.Errorf("%s finds a detail %s that it does not list", c.Name, d)
			}
		}
	}
}

// boundary is a node at the edge of a cause.
type boundary struct {
	name   string
	change func(*Snapshot)
	want   State
	detail string
}

// atBoundary judges a healthy node after each change by one cause alone.
func atBoundary(t *testing.T, c Cause, table []boundary) {
	t.Helper()
	for _, tc := range table {
		t.Run(tc.name, func(t *testing.T) {
			s := healthySnapshot()
			tc.change(s)
			v := c.Eval(s)
			if v.State != tc.want {
				t.Fatalf("%+v, want state %v", v, tc.want)
			}
			if tc.detail != "" && (len(v.Findings) != 1 || v.Findings[0].Detail != tc.detail) {
				t.Errorf("%+v, want detail %s", v.Findings, tc.detail)
			}
			if v.State == Unknown && v.Lacks == "" {
				t.Error("it does not say what it lacks")
			}
		})
	}
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

func TestPartlyObserved(t *testing.T) {
	s := healthySnapshot()
	crashing(s, "", 1).Log = nil
	if v := crashLoop.Eval(s); v.State != Unknown {
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
