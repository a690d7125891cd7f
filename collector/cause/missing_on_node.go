package cause

import (
	"fmt"
	"regexp"
	"slices"
	"time"
)

const (
	// The DaemonSet controller replaces a pod within a second or two; between
	// the old pod and the new one there is none, in every rollout.
	missingGrace = 30 * time.Second
	// The scheduler needs a moment for a new pod, and tries again when another
	// pod has made room.
	unschedulableGrace = 5 * time.Second
	// A container that ended is started again within the kubelet's largest
	// back-off, five minutes; one that is not was forgotten.
	forgottenAfter = 6 * time.Minute
	// An event's time has a grain of a second.
	eventGrain = time.Second
	// A FailedCreate event that is older says nothing about now.
	failureAge = 20 * time.Minute
)

var missingOnNode = Cause{
	Name:    "missing_on_node",
	Meaning: "No kube-proxy pod runs on the node although one should.",
	Details: []Detail{
		{"not_installed", "Install kube-proxy again ('kubeadm init phase addon kube-proxy', or your distribution's addon)."},
		{"taint", "Give the DaemonSet the toleration {operator: Exists}, or remove the taint from the node."},
		{"selector", "Put the label back on the node, or correct the DaemonSet's nodeSelector or affinity."},
		{"fit", "Make room: see the scheduler's message; kube-proxy should have priorityClassName system-node-critical."},
		{"not_created", "See the DaemonSet's events (kubectl -n kube-system describe ds kube-proxy): quota, admission, or a controller manager that does not run."},
		{"container_gone", "The kubelet does not run the container of a pod that it has: restart the kubelet, or remove the sandbox (crictl rmp)."},
	},
	Eval: func(s *Snapshot) Verdict {
		if s.Pods == nil {
			return unknown("the kube-proxy pods")
		}
		for _, p := range s.Pods.List {
			if v := missingContainer(s, &p); v.State == Active {
				return v
			}
			// One that is on its way out is still there: its successor comes after it.
			if p.Deleting || p.Phase != "Failed" && p.Phase != "Succeeded" {
				return inactive()
			}
		}
		if s.NotFound != "" {
			return unknown("kube-proxy in " + s.NotFound)
		}
		if s.Expected == nil || s.Placement == nil {
			return unknown("the kube-proxy DaemonSet")
		}
		return missingPod(s)
	},
}

// missingContainer is for a pod that exists and has no container.
func missingContainer(s *Snapshot, p *Pod) Verdict {
	if p.Deleting {
		return inactive()
	}
	if c := p.Scheduled; c != nil && c.Status == "False" && s.Now.Sub(c.Since) >= unschedulableGrace {
		return active(c.Since, Finding{unscheduledBy(c.Message), []string{fmt.Sprintf("pod %s: %s", p.Name, describeCondition(c))}})
	}
	if e := unscheduledEvent(p); e != nil {
		return active(p.Created, Finding{unscheduledBy(e.Message), []string{describeEvent(p.Name, e)}})
	}
	c := p.Container
	if c == nil || c.Running() || c.WaitingReason != "" || c.Last == nil || c.Last.Finished.IsZero() || p.Phase == "Failed" || p.Phase == "Succeeded" {
		return inactive()
	}
	if !nodeReports(s) || s.Now.Sub(c.Last.Finished) < forgottenAfter {
		return inactive()
	}
	return active(c.Last.Finished, Finding{"container_gone", []string{
		fmt.Sprintf("pod %s: its container ended %s and was not started again", p.Name, stamp(c.Last.Finished)),
	}})
}

// The scheduler's words for a node that is full, and for one that a pod may not
// go to. It counts the other nodes of the cluster too, as not matching: so what
// is full is looked for first.
var (
	fullWords     = regexp.MustCompile(`Insufficient |Too many pods|free ports`)
	taintWords    = regexp.MustCompile(`taint`)
	selectorWords = regexp.MustCompile(`didn't match (node selector|Pod's node affinity)|node affinity/selector`)
)

// unscheduledEvent is the scheduler's word on a pod of which no condition tells.
func unscheduledEvent(p *Pod) *Event {
	c := p.Container
	told := c != nil && (c.Running() || c.WaitingReason != "" || c.Last != nil)
	if p.Scheduled != nil || told || p.Phase != "Pending" {
		return nil
	}
	for i := range p.Events {
		if p.Events[i].Reason == "FailedScheduling" {
			return &p.Events[i]
		}
	}
	return nil
}

// unscheduledBy is the detail that the scheduler's message gives.
func unscheduledBy(message string) string {
	switch {
	case fullWords.MatchString(message):
		return "fit"
	case taintWords.MatchString(message):
		return "taint"
	case selectorWords.MatchString(message):
		return "selector"
	}
	return "fit"
}

func nodeReports(s *Snapshot) bool {
	return s.Node != nil && s.Node.Ready != nil && s.Node.Ready.Status != "Unknown"
}

// currentFailure is whether a FailedCreate event is about the pod that lacks now.
func currentFailure(s *Snapshot, f *Event) bool {
	if f == nil || s.Now.Sub(f.Time) >= failureAge {
		return false
	}
	if s.Node != nil && f.Time.Before(s.Node.Created.Add(-eventGrain)) {
		return false // it was about another node
	}
	return !s.Pods.SeenGoing || f.Time.After(s.Pods.GoneSince.Add(-eventGrain))
}

// live is whether there is a pod that runs or will, or is still on its way out.
func (p *Pods) live() bool {
	return slices.ContainsFunc(p.List, func(p Pod) bool { return p.Phase != "Failed" && p.Phase != "Succeeded" })
}

// joining is whether a node is so new that who registers it may still label it
// and take its first taints off.
func joining(s *Snapshot) bool {
	ready := s.Node.Ready
	settled := ready != nil && ready.Status == "True" && s.Now.Sub(ready.Since) >= missingGrace
	return !settled && s.Now.Sub(s.Node.Created) < nodeStartup
}

// missingPod is for a node that has no kube-proxy pod.
func missingPod(s *Snapshot) Verdict {
	since := s.Pods.GoneSince
	none := "no kube-proxy pod on the node, seen first " + stamp(since)
	finding := func(detail, why string) Verdict {
		return active(since, Finding{detail, []string{why, none}})
	}
	pl := s.Placement
	switch {
	case pl.DaemonSet == "" && s.Expected.Reason == ReasonStaticPod:
		if s.Now.Sub(since) < missingGrace {
			return inactive()
		}
		return finding("container_gone", "other nodes run kube-proxy as a static pod, this one has no mirror pod")
	case s.Node != nil && joining(s):
		return inactive()
	case pl.DaemonSet == "" && s.Now.Sub(since) < missingGrace:
		return inactive() // it may be installed anew
	case pl.DaemonSet == "":
		return finding("not_installed", "there is no kube-proxy DaemonSet, and no program that replaces it was found")
	case !pl.Selected:
		return finding("selector", fmt.Sprintf("DaemonSet %s does not select the node: %s", pl.DaemonSet, pl.Unselected))
	case pl.Untolerated != "":
		return finding("taint", fmt.Sprintf("DaemonSet %s does not tolerate the node's taint %s", pl.DaemonSet, pl.Untolerated))
	}
	if f := pl.Failure; currentFailure(s, f) {
		return finding("not_created", fmt.Sprintf("DaemonSet %s: event %s %s: %s", pl.DaemonSet, f.Reason, stamp(f.Time), quote(f.Message)))
	}
	if s.Now.Sub(since) < missingGrace || s.Now.Sub(pl.Created) < missingGrace || s.Now.Sub(pl.WantedSince) < missingGrace {
		return inactive()
	}
	return finding("not_created", fmt.Sprintf("DaemonSet %s wants a pod here and none was created", pl.DaemonSet))
}
