package cause

import (
	"testing"
	"time"
)

func TestImagePull(t *testing.T) {
	sandbox := func(ago time.Duration) func(*Snapshot) {
		return func(s *Snapshot) {
			p := pulling(s, "ContainerCreating", "")
			p.Events = []Event{{Reason: "FailedCreatePodSandBox", Message: "failed to get sandbox image", Time: now.Add(-ago)}}
		}
	}
	says := func(message string) func(*Snapshot) {
		return func(s *Snapshot) { pulling(s, "ErrImagePull", message) }
	}
	atBoundary(t, imagePull, []boundary{
		{"a sandbox event that is just new enough", sandbox(sandboxEventAge - time.Second), Active, "sandbox_image"},
		{"a sandbox event that is too old", sandbox(sandboxEventAge), Inactive, ""},
		{"a sandbox that fails for another reason", func(s *Snapshot) {
			sandbox(0)(s)
			s.Pods.List[0].Events[0].Message = "failed to setup network for sandbox"
		}, Inactive, ""},
		{"a pod on its way out", func(s *Snapshot) {
			says("not found")(s)
			s.Pods.List[0].Deleting = true
		}, Inactive, ""},
		// An answer of the registry beats the address in the same message.
		{"not found, with an address", says(`Head "https://10.0.0.1:443/v2": manifest unknown: connection refused earlier`), Active, "not_found"},
		{"the event says what the back-off does not", func(s *Snapshot) {
			pulling(s, "ImagePullBackOff", `Back-off pulling image "x"`).Events = []Event{
				{Reason: "Failed", Message: `Failed to pull image "x": dial tcp: lookup registry.example: no such host`, Time: now},
			}
		}, Active, "unreachable"},
		{"no words that decide", says("unexpected"), Active, "other"},
		{"no pods were read", func(s *Snapshot) { s.Pods = nil }, Unknown, ""},
	})
}
