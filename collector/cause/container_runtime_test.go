package cause

import (
	"testing"
	"time"
)

func TestContainerRuntime(t *testing.T) {
	loop := func(count int32, ago time.Duration, more ...Event) func(*Snapshot) {
		return func(s *Snapshot) {
			crashing(s, "", 2).Events = append([]Event{{Reason: "SandboxChanged", Time: now.Add(-ago), Count: count}}, more...)
		}
	}
	atBoundary(t, containerRuntime, []boundary{
		{"a network plugin that is not ready", func(s *Snapshot) {
			s.Node.Ready.Status, s.Node.Ready.Message = "False", "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: cni plugin not initialized"
		}, Inactive, ""},
		{"a kubelet that has just begun", func(s *Snapshot) {
			*s.Node.Ready = Condition{Type: "Ready", Status: "False", Message: "container runtime status check may not have completed yet", Since: now.Add(-settling + 1)}
		}, Inactive, ""},
		{"a kubelet that has just begun, and has listed no container", func(s *Snapshot) {
			*s.Node.Ready = Condition{Type: "Ready", Status: "False", Message: "PLEG is not healthy: pleg has yet to be successful", Since: now.Add(-settling + 1)}
		}, Inactive, ""},
		{"a kubelet whose runtime has not answered yet", func(s *Snapshot) {
			*s.Node.Ready = Condition{Type: "Ready", Status: "False", Message: "container runtime status check may not have completed yet", Since: now.Add(-settling)}
		}, Active, "down"},
		{"a word of a time when the node was not Ready", func(s *Snapshot) { s.Node.Ready.Message = "container runtime is down" }, Inactive, ""},
		{"a reboot", loop(1, 0), Inactive, ""},
		{"twice", loop(sandboxChanges, 0), Active, "sandbox_loop"},
		{"once, and it is held back", loop(1, 0, Event{Reason: "BackOff", Message: "Back-off restarting failed container", Time: now}), Active, "sandbox_loop"},
		{"long ago", loop(9, sandboxEventAge), Inactive, ""},
		{"its log has the better word", func(s *Snapshot) {
			loop(9, 0)(s)
			s.Pods.List[0].Log.Class = "crash_loop/config_invalid"
		}, Inactive, ""},
		{"a probe ended it", loop(9, 0, Event{Reason: "Unhealthy", Message: "Liveness probe failed", Time: now}), Inactive, ""},
		{"a sandbox that cannot be made", func(s *Snapshot) {
			pulling(s, "ContainerCreating", "").Events = []Event{{Reason: "FailedCreatePodSandBox", Message: "failed to create shim task", Time: now}}
		}, Active, "sandbox_loop"},
		{"the same, of a pod that runs", func(s *Snapshot) {
			s.Pods.List[0].Events = []Event{{Reason: "FailedCreatePodSandBox", Message: "failed to create shim task", Time: now}}
		}, Inactive, ""},
		{"a start error between two tries", func(s *Snapshot) {
			c := crashing(s, "", 128).Container
			c.Last.Reason, c.Last.Message = "StartError", `exec: "/nope": no such file or directory`
		}, Active, "create_container"},
		{"a program for another CPU", func(s *Snapshot) { pulling(s, "RunContainerError", "exec format error") }, Inactive, ""},
		{"no pods were read", func(s *Snapshot) { s.Pods = nil }, Unknown, ""},
	})
}
