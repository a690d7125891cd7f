package cause

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// imageReasons are the kubelet's waiting reasons for an image that it does not
// have (pkg/kubelet/images/types.go).
var imageReasons = map[string]bool{
	"ErrImagePull": true, "ImagePullBackOff": true, "InvalidImageName": true, "ErrImageNeverPull": true,
	"RegistryUnavailable": true, "ImageInspectError": true, "SignatureValidationFailed": true,
}

// Words of container runtimes and registries. An answer of the registry is
// looked for first: a message may also carry the address that was dialled.
var (
	imageNotFound    = regexp.MustCompile(`(?i)\bnot found\b|manifest unknown|name unknown|does not exist|no such manifest|no match for platform`)
	imageUnreachable = regexp.MustCompile(`(?i)i/o timeout|connection refused|connection reset|no such host|no route to host|network is unreachable|TLS handshake|x509|context deadline exceeded|server misbehaving|HTTP response to HTTPS client|\bEOF\b|50[0234] |toomanyrequests|429`)
	sandboxImage     = regexp.MustCompile(`(?i)failed to (get|pull) sandbox image|failed pulling image.*pause|sandbox image`)
)

// A sandbox event repeats every few seconds to minutes while it lasts.
const sandboxEventAge = 6 * time.Minute

var imagePull = Cause{
	Name:    "image_pull",
	Kubelet: true,
	Meaning: "The node cannot get the image that kube-proxy needs.",
	Details: []Detail{
		{"not_found", "The registry does not have this image: correct the tag in the DaemonSet, or push it."},
		{"unreachable", "The node does not reach the registry: check its DNS, proxy, firewall and the registry's certificate from the node."},
		{"sandbox_image", "The pause image is missing: correct sandbox_image in the runtime's configuration, or make that image available."},
		{"other", "See the message; 'kubectl describe pod' has the events, 'crictl pull' on the node the full error."},
	},
	Eval: func(s *Snapshot) Verdict {
		if s.Pods == nil {
			return unknown("the kube-proxy pods")
		}
		for _, p := range s.Pods.List {
			if p.Deleting {
				continue
			}
			if v := sandboxPull(s, &p); v.State == Active {
				return v
			}
			c := p.Container
			if c == nil || !imageReasons[c.WaitingReason] {
				continue
			}
			return active(pullSince(&p), Finding{pullDetail(&p), pullEvidence(&p)})
		}
		return eventsOf(s)
	},
}

// sandboxPull is for a pod whose sandbox cannot be made for want of its image:
// the container still says ContainerCreating, only events tell.
func sandboxPull(s *Snapshot, p *Pod) Verdict {
	if p.Container != nil && p.Container.Running() {
		return inactive()
	}
	for _, e := range p.Events {
		if e.Reason == "FailedCreatePodSandBox" && sandboxImage.MatchString(e.Message) && s.Now.Sub(e.Time) < sandboxEventAge {
			return active(p.Created, Finding{"sandbox_image", []string{describeEvent(p.Name, &e)}})
		}
	}
	return inactive()
}

func pullDetail(p *Pod) string {
	texts := []string{p.Container.WaitingMessage}
	// In back-off the status only says "Back-off pulling image"; the reason is
	// in the newest event.
	for _, e := range p.Events {
		if e.Reason == "Failed" && strings.Contains(e.Message, "ull image") {
			texts = append(texts, e.Message)
		}
	}
	for _, t := range texts {
		switch {
		case imageNotFound.MatchString(t):
			return "not_found"
		case imageUnreachable.MatchString(t):
			return "unreachable"
		}
	}
	return "other"
}

func pullEvidence(p *Pod) []string {
	c := p.Container
	out := []string{fmt.Sprintf("pod %s: container waits with %s: %s", p.Name, c.WaitingReason, quote(c.WaitingMessage)), "image " + c.Image}
	for _, e := range p.Events {
		if e.Reason == "Failed" {
			return append(out, describeEvent(p.Name, &e))
		}
	}
	return out
}

func pullSince(p *Pod) time.Time {
	if p.Container.Last != nil {
		return p.Container.Last.Finished
	}
	return p.Created
}

func describeEvent(pod string, e *Event) string {
	return fmt.Sprintf("pod %s: event %s %s (%d times): %s", pod, e.Reason, stamp(e.Time), e.Count, quote(e.Message))
}
