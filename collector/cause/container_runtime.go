package cause

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// The kubelet's words for a runtime that does not answer (pkg/kubelet/runtime.go,
// pkg/kubelet/pleg). A network plugin that is not ready is not the runtime.
var runtimeDown = regexp.MustCompile(`container runtime is down|PLEG is not healthy|[Cc]ontainer runtime (is )?(not responding|unreachable|status check)|containerd\.sock|crio\.sock`)

// runtimeUnasked is what a kubelet reports that has just begun, and has not asked
// the runtime or listed its containers yet (pkg/kubelet/runtime.go, pkg/kubelet/pleg).
var runtimeUnasked = regexp.MustCompile(`status check may not have completed yet|pleg has yet to be successful`)

// saysRuntimeDown is whether a node that is not Ready says so of its runtime.
func saysRuntimeDown(ready *Condition, now time.Time) bool {
	return ready != nil && ready.Status == "False" && runtimeDown.MatchString(ready.Message) &&
		(now.Sub(ready.Since) >= settling || !runtimeUnasked.MatchString(ready.Message))
}

// The kubelet's waiting reasons for a container that the runtime cannot make.
var createReasons = map[string]bool{"CreateContainerError": true, "RunContainerError": true, "CreateContainerConfigError": true, "PostStartHookError": true}

// A sandbox that is made anew once was rebooted; one that is made anew again
// and again is fought over.
const sandboxChanges = 2

var containerRuntime = Cause{
	Name:    "container_runtime",
	Meaning: "The node's container runtime does not run kube-proxy's container.",
	Details: []Detail{
		{"down", "On the node: 'systemctl status containerd' (or crio) and its journal; restart it, then the kubelet."},
		{"sandbox_loop", "The runtime and the kubelet fight over the pod's sandbox: compare their cgroup drivers (SystemdCgroup = true with systemd), see the runtime's journal."},
		{"create_container", "The runtime cannot create the container: see the message, and 'crictl ps -a' and its journal on the node."},
	},
	Eval: func(s *Snapshot) Verdict {
		if s.Node == nil && s.Pods == nil {
			return unknown("the Node object and the kube-proxy pods")
		}
		if s.Node != nil && saysRuntimeDown(s.Node.Ready, s.Now) {
			return active(s.Node.Ready.Since, Finding{"down", []string{describeCondition(s.Node.Ready)}})
		}
		if s.Pods == nil {
			return unknown("the kube-proxy pods")
		}
		for i := range s.Pods.List {
			p := &s.Pods.List[i]
			if p.Deleting {
				continue
			}
			if v := cannotCreate(s, p); v.State == Active {
				return v
			}
			if v := sandboxLoop(s, p); v.State == Active {
				return v
			}
		}
		return eventsOf(s)
	},
	Node: func(s *Snapshot) Verdict {
		r := s.Local.Runtime
		switch {
		case r == nil:
			return unknown("the container runtime's socket")
		case r.Error == "":
			return inactive()
		case r.Times < confirmed:
			return unknown("a second try at the container runtime's socket")
		}
		return active(r.Since, Finding{"down", []string{fmt.Sprintf("nobody listens on %s, %d times in a row: %s", r.Path, r.Times, quote(r.Error))}})
	},
}

// cannotCreate is for a container that the runtime refuses to make.
func cannotCreate(s *Snapshot, p *Pod) Verdict {
	c := p.Container
	if c == nil || c.Running() {
		return inactive()
	}
	message := c.WaitingMessage
	refused := createReasons[c.WaitingReason]
	if l := c.Last; l != nil && (l.Reason == "StartError" || l.Reason == "ContainerCannotRun") && looping(s.Now, c) {
		refused, message = true, l.Message
	}
	// A program for another CPU, a security module and a kubelet that is too new
	// have their own names.
	if !refused || strings.Contains(message, "exec format error") || lsm.MatchString(message) || tooNew(p) {
		return inactive()
	}
	return active(time.Time{}, Finding{"create_container", []string{fmt.Sprintf("pod %s: container waits with %s: %s", p.Name, c.WaitingReason, quote(message))}})
}

// sandboxLoop is for a sandbox that is made again and again, or cannot be.
func sandboxLoop(s *Snapshot, p *Pod) Verdict {
	c := p.Container
	if c != nil && c.Running() && !looping(s.Now, c) {
		return inactive()
	}
	// A log that says why it ended, or a probe that ended it, is the better word.
	if p.says(s) != nil || c != nil && c.Last != nil && livenessFailed(p, c.Last) {
		return inactive()
	}
	changes, backoff := int32(0), false
	for i := range p.Events {
		e := &p.Events[i]
		if s.Now.Sub(e.Time) >= sandboxEventAge {
			continue
		}
		switch {
		case e.Reason == "FailedCreatePodSandBox" && !sandboxImage.MatchString(e.Message):
			return active(p.Created, Finding{"sandbox_loop", []string{describeEvent(p.Name, e)}})
		case e.Reason == "SandboxChanged":
			changes += e.Count
		case e.Reason == "BackOff" && strings.Contains(e.Message, "restarting failed container"):
			backoff = true
		}
	}
	if changes >= sandboxChanges || changes > 0 && backoff {
		return active(time.Time{}, Finding{"sandbox_loop", []string{fmt.Sprintf("pod %s: its sandbox changed %d times in the last minutes, and its log names no reason", p.Name, changes)}})
	}
	return inactive()
}
