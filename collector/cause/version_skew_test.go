package cause

import "testing"

func TestVersionSkew(t *testing.T) {
	image := func(image string, server int) func(*Snapshot) {
		return func(s *Snapshot) { s.Pods.List[0].Image, s.Server.Minor = image, server }
	}
	atBoundary(t, versionSkew, []boundary{
		{"as old as may be", image("x/kube-proxy:v1.34.0", 37), Inactive, ""},
		{"too old", image("x/kube-proxy:v1.33.9", 37), Active, "too_old"},
		{"too new", image("x/kube-proxy:v1.38.0", 37), Active, "too_new"},
		{"a provider's tag", image("x.example:5000/eks/kube-proxy:v1.33.10-minimal-eksbuild.2", 37), Active, "too_old"},
		{"a tag and a digest", image("x/kube-proxy:v1.38.0@sha256:0123", 37), Active, "too_new"},
		{"a digest alone", image("x/kube-proxy@sha256:0123", 37), Inactive, ""},
		{"a tag that is no version", image("x/kube-proxy:latest", 37), Inactive, ""},
		{"a port that looks like one", image("x:1.2/kube-proxy", 37), Inactive, ""},
		{"a kubelet that asks for what the API server does not know", func(s *Snapshot) {
			pulling(s, "CreateContainerConfigError", kubeletTooNew)
		}, Active, "too_new"},
		{"the API server's version is not known", func(s *Snapshot) { s.Server = nil }, Unknown, ""},
		{"no pods were read", func(s *Snapshot) { s.Pods = nil }, Unknown, ""},
	})
}
