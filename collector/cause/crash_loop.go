package cause

import (
	"fmt"
	"strings"
	"time"
)

const (
	// The kubelet forgets its back-off after a container ran this long
	// (twice the largest back-off); a longer run ended once, it did not loop.
	crashRun = 10 * time.Minute
	// A container that outlived its predecessor by this factor, and this time
	// at least, has left the loop.
	stableFactor = 2
	stableRun    = time.Minute
)

var crashLoop = Cause{
	Name:    "crash_loop",
	Meaning: "kube-proxy starts and ends again and again.",
	Details: []Detail{
		{"config_invalid", "Correct the field that the log line names in the kube-proxy ConfigMap, then restart its pods."},
		{"config_parse", "The kube-proxy ConfigMap is not a KubeProxyConfiguration that this version reads: correct it, then restart its pods."},
		{"bad_flag", "Correct the arguments in the DaemonSet: this version does not take them."},
		{"kubeconfig", "Repair the kubeconfig that clientConnection.kubeconfig names, or the service account token mount."},
		{"sysctl_denied", "kube-proxy may not write the conntrack limits here (the node is a container): set conntrack.maxPerCore: 0, or set the limits on the host."},
		{"panic", "A bug in kube-proxy: move to another patch version and report the stack in its log."},
		{"liveness_killed", "The kubelet kills it because /healthz fails: look for the failing sync behind it (events, /healthz body), do not loosen the probe."},
		{"killed", "Something ends it from outside: see the exit code, the node's memory and the events of the pod's sandbox."},
		{"wrong_arch", "The image is for another CPU architecture: use a multi-arch tag or an architecture selector."},
		{"other", "See the quoted line; the whole log: kubectl -n kube-system logs --previous."},
	},
	Eval: func(s *Snapshot) Verdict {
		if s.Pods == nil {
			return unknown("the kube-proxy pods")
		}
		for _, p := range s.Pods.List {
			if p.Deleting || p.Container == nil || !looping(s.Now, p.Container) {
				continue
			}
			detail, ok := crashDetail(&p)
			if !ok {
				return unknown("the log of the container that ended")
			}
			return active(time.Time{}, Finding{detail, crashEvidence(&p)})
		}
		return inactive()
	},
}

// looping is whether a container is in a crash loop. One restart is none:
// kube-proxy ends on purpose when its configuration or the node's address changes.
func looping(now time.Time, c *Container) bool {
	if c.WaitingReason == "CrashLoopBackOff" {
		return true
	}
	// An image pull or a runtime that cannot create the container is another
	// cause, even if the container ran before.
	if c.Last == nil || c.WaitingReason != "" && c.WaitingReason != "ContainerCreating" {
		return false
	}
	ran := c.Last.Finished.Sub(c.Last.Started)
	if c.ends() < 2 || ran >= crashRun {
		return false
	}
	if !c.Running() {
		return now.Sub(c.Last.Finished) < forgottenAfter
	}
	return now.Sub(c.Started) < min(crashRun, max(stableRun, stableFactor*ran))
}

// crashDetail names why; false while the log that may decide is being read.
func crashDetail(p *Pod) (string, bool) {
	last := p.Container.Last
	if last == nil {
		return "other", true
	}
	if strings.Contains(last.Message, "exec format error") || strings.Contains(p.Container.WaitingMessage, "exec format error") {
		return "wrong_arch", true
	}
	if p.Log == nil {
		return "", false
	}
	if detail, ok := strings.CutPrefix(p.Log.Class, "crash_loop/"); ok {
		return detail, true
	}
	if p.Log.Class != "" {
		return "other", true // the log names another cause
	}
	// kube-proxy handles no signal: as a container's first process SIGTERM
	// ends it with 2, the code of a panic, but without a panic in the log.
	switch last.ExitCode {
	case 2, 137, 143:
		if livenessFailed(p, last) {
			return "liveness_killed", true
		}
		return "killed", true
	}
	return "other", true
}

func livenessFailed(p *Pod, last *Termination) bool {
	for _, e := range p.Events {
		if e.Reason == "Unhealthy" && strings.HasPrefix(e.Message, "Liveness probe") && e.Time.After(last.Started.Add(-time.Minute)) {
			return true
		}
	}
	return false
}

func crashEvidence(p *Pod) []string {
	c := p.Container
	out := []string{fmt.Sprintf("pod %s: %d restarts", p.Name, c.Restarts)}
	if c.WaitingReason != "" {
		out[0] += ", now waiting: " + c.WaitingReason
	}
	if l := c.Last; l != nil {
		out = append(out, fmt.Sprintf("last container ended %s after %s with exit code %d (%s)", stamp(l.Finished), l.Finished.Sub(l.Started), l.ExitCode, l.Reason))
		if l.Message != "" {
			out = append(out, "termination message: "+quote(l.Message))
		}
	}
	if l := p.Log; l != nil {
		switch {
		case l.Error != "":
			out = append(out, "its log could not be read: "+quote(l.Error))
		case l.Line != "":
			out = append(out, "log: "+quote(l.Line))
		default:
			out = append(out, "its log has no line that decides")
		}
	}
	return out
}
