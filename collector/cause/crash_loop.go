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
	stableFactor = 1.25
	stableRun    = time.Minute
)

var crashLoop = Cause{
	Name:    "crash_loop",
	Kubelet: true,
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
		for i := range s.Pods.List {
			p := &s.Pods.List[i]
			if p.Deleting {
				continue
			}
			l := p.says(s)
			named := l != nil && strings.HasPrefix(l.Class, "crash_loop/")
			if !named && (p.Container == nil || !looping(s.Now, p.Container)) {
				continue
			}
			detail, because, ok := crashDetail(s, p)
			if !ok {
				return unknown(lacksLog)
			}
			v := active(time.Time{}, Finding{detail, crashEvidence(p, l)})
			v.Because = because
			return v
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
	return now.Sub(c.Started) < min(crashRun, max(stableRun, time.Duration(stableFactor*float64(ran))))
}

// crashDetail names why, and the other cause that a log blames, if one does;
// false while the log that may decide is being read.
func crashDetail(s *Snapshot, p *Pod) (detail, because string, ok bool) {
	var last Termination
	waiting := ""
	if c := p.Container; c != nil {
		waiting = c.WaitingMessage
		if c.Last != nil {
			last = *c.Last
		}
	}
	if strings.Contains(last.Message, "exec format error") || strings.Contains(waiting, "exec format error") {
		return "wrong_arch", "", true
	}
	if p.Log == nil && !s.Dump && last != (Termination{}) {
		return "", "", false
	}
	if l := p.says(s); l != nil {
		if detail, own := strings.CutPrefix(l.Class, "crash_loop/"); own {
			return detail, "", true
		}
		because, _, _ = strings.Cut(l.Class, "/")
		return "other", because, true
	}
	if last.Reason == "OOMKilled" {
		return "killed", "oom_killed", true
	}
	// kube-proxy handles no signal: as a container's first process SIGTERM
	// ends it with 2, the code of a panic, but without a panic in the log.
	switch last.ExitCode {
	case 2, 137, 143:
		if p.Log != nil && p.Log.Error != "" && last.ExitCode == 2 {
			return "other", "", true // a panic is as likely
		}
		if livenessFailed(p, &last) {
			return "liveness_killed", "", true
		}
		return "killed", "", true
	}
	return "other", "", true
}

func livenessFailed(p *Pod, last *Termination) bool {
	for _, e := range p.Events {
		if e.Reason == "Unhealthy" && strings.HasPrefix(e.Message, "Liveness probe") && e.Time.After(last.Started.Add(-time.Minute)) {
			return true
		}
	}
	return false
}

func crashEvidence(p *Pod, l *Log) []string {
	var out []string
	if c := p.Container; c != nil {
		out = append(out, fmt.Sprintf("pod %s: %d restarts", p.Name, c.Restarts))
		if c.WaitingReason != "" {
			out[0] += ", now waiting: " + c.WaitingReason
		}
		if l := c.Last; l != nil {
			out = append(out, fmt.Sprintf("last container ended %s after %s with exit code %d (%s)", stamp(l.Finished), l.Finished.Sub(l.Started), l.ExitCode, l.Reason))
			if l.Message != "" {
				out = append(out, "termination message: "+quote(l.Message))
			}
		}
	}
	if l == nil {
		l = p.Log
	}
	switch {
	case l == nil:
		return append(out, "pod "+p.Name+": no log of it was read")
	case l.Error != "":
		return append(out, "its log could not be read: "+quote(l.Error))
	case l.Line != "":
		return append(out, "log: "+quote(l.Line))
	}
	return append(out, "its log has no line that decides")
}
