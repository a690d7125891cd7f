package cause

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// kube-proxy may be up to three minor versions older than the API server, and
// not newer (kubernetes.io/releases/version-skew-policy).
const skewAllowed = 3

var versionSkew = Cause{
	Name:    "version_skew",
	Meaning: "kube-proxy's version does not fit the API server's.",
	Details: []Detail{
		{"too_old", "Upgrade kube-proxy: it may be at most three minor versions older than the API server."},
		{"too_new", "Upgrade the API server first, or set the old image tag again: nothing on a node may be newer."},
	},
	Eval: func(s *Snapshot) Verdict {
		if s.Pods == nil {
			return unknown("the kube-proxy pods")
		}
		for i := range s.Pods.List {
			if p := &s.Pods.List[i]; !p.Deleting && tooNew(p) {
				return active(p.Created, Finding{"too_new", []string{fmt.Sprintf("pod %s: %s: %s", p.Name, p.Container.WaitingReason, kubeletTooNew)}})
			}
		}
		if v := fromLogs(s, "version_skew"); v.State == Active {
			return v
		}
		if s.Server == nil {
			return unknown("the API server's version")
		}
		for i := range s.Pods.List {
			p := &s.Pods.List[i]
			have, ok := imageVersion(p.Image)
			if p.Deleting || !ok || have.Major != s.Server.Major {
				continue
			}
			says := fmt.Sprintf("pod %s: image %s, API server %s", p.Name, p.Image, s.Server)
			switch {
			case have.Minor > s.Server.Minor:
				return active(time.Time{}, Finding{"too_new", []string{says}})
			case have.Minor < s.Server.Minor-skewAllowed:
				return active(time.Time{}, Finding{"too_old", []string{says}})
			}
		}
		return inactive()
	},
}

// kubeletTooNew is what a kubelet says that asks an older API server for what
// that does not know.
const kubeletTooNew = "services have not yet been read at least once, cannot construct envvars"

func tooNew(p *Pod) bool {
	c := p.Container
	if c == nil || c.WaitingReason != "CreateContainerConfigError" {
		return false
	}
	if strings.Contains(c.WaitingMessage, kubeletTooNew) {
		return true
	}
	for i := range p.Events {
		if strings.Contains(p.Events[i].Message, kubeletTooNew) {
			return true
		}
	}
	return false
}

var versionTag = regexp.MustCompile(`:v?(1)\.(\d{1,3})\.\d+[^/:]*$`)

// imageVersion is the version in an image's tag, if it has one.
func imageVersion(image string) (Version, bool) {
	image, _, _ = strings.Cut(image, "@")
	m := versionTag.FindStringSubmatch(image)
	if m == nil {
		return Version{}, false
	}
	minor, err := strconv.Atoi(m[2])
	return Version{1, minor}, err == nil
}
