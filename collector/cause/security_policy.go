package cause

import (
	"fmt"
	"regexp"
	"strings"
)

// The words of who may refuse a pod: PodSecurity and its predecessor, webhooks
// and admission policies, the kernel's security modules.
var (
	podSecurity = regexp.MustCompile(`violates PodSecurity|pod security policy|PodSecurityPolicy`)
	admission   = regexp.MustCompile(`admission webhook|failed calling webhook|ValidatingAdmissionPolicy|denied the request|admission plugin`)
	lsm         = regexp.MustCompile(`(?i)apparmor|selinux|seccomp|avc:`)
)

var securityPolicy = Cause{
	Name:    "security_policy",
	Meaning: "A security policy keeps kube-proxy from running or from what it must do.",
	Details: []Detail{
		{"pod_security", "Exempt the namespace: kubectl label ns kube-system pod-security.kubernetes.io/enforce=privileged --overwrite."},
		{"admission", "Exempt kube-proxy from the policy or webhook that the message names."},
		{"not_privileged", "Give kube-proxy's container securityContext.privileged: true again."},
		{"lsm", "Load the profile that the message names on the node, or remove it from the pod."},
	},
	Eval: func(s *Snapshot) Verdict {
		if s.Pods == nil {
			return unknown("the kube-proxy pods")
		}
		if s.Placement != nil && !s.Pods.live() {
			if v := refusedPod(s, s.Placement.Failure); v.State == Active {
				return v
			}
		}
		for i := range s.Pods.List {
			p := &s.Pods.List[i]
			c := p.Container
			if p.Deleting || c == nil || !createReasons[c.WaitingReason] || !lsm.MatchString(c.WaitingMessage) {
				continue
			}
			return active(p.Created, Finding{"lsm", []string{fmt.Sprintf("pod %s: container waits with %s: %s", p.Name, c.WaitingReason, quote(c.WaitingMessage))}})
		}
		if v := fromLogs(s, "security_policy"); v.State == Active {
			return v
		}
		return inactive()
	},
}

// refusedPod is for a pod that the API server did not let the DaemonSet make.
func refusedPod(s *Snapshot, e *Event) Verdict {
	if !currentFailure(s, e) {
		return inactive()
	}
	var detail string
	switch {
	case podSecurity.MatchString(e.Message):
		detail = "pod_security"
	case admission.MatchString(e.Message):
		detail = "admission"
	default:
		return inactive()
	}
	return active(s.Pods.GoneSince, Finding{detail, []string{fmt.Sprintf("DaemonSet %s: event %s %s: %s",
		strings.TrimSpace(s.Placement.DaemonSet), e.Reason, stamp(e.Time), quote(e.Message))}})
}
