package cause

import (
	"fmt"
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
	// A FailedCreate event that is older says nothing about now.
	failureAge = 20 * time.Minute
)

var missingOnNode = Cause{
	Name:    "missing_on_node",
	Meaning: "No kube-proxy pod runs on the node although one should.",
	Details: []Detail{
		{"not_installed", "Install kube-proxy again ('kubeadm init phase addon kube-proxy', or your distribution's addon), or tell the exporter that it is replaced."},
		{"taint", "Give the DaemonSet the toleration {operator: Exists}, or remove the taint from the node."},
		{"selector", "Put the label back on the node, or correct the DaemonSet's nodeSelector or affinity."},
		{"fit", "Make room: see the scheduler's message; kube-proxy should have priorityClassName system-node-critical."},
		{"not_created", "See the DaemonSet's events (kubectl -n kube-system describe ds kube-proxy): quota, admission, or a controller manager that does not run."},
		{"container_gone", "The kubelet does not run the container of a pod that it has: restart the kubelet, or remove the sandbox (crictl rmp)."},
	},
	Eval: func(s *Snapshot) Verdict {
		if s.Expected == nil || s.Pods == nil || s.Placement == nil {
			return unknown("the kube-proxy DaemonSet and pods")
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
		return missingPod(s)
	},
}

// missingContainer is for a pod that exists and has no container.
func missingContainer(s *Snapshot, p *Pod) Verdict {
	if p.Deleting {
		return inactive()
	}
	if c := p.Scheduled; c != nil && c.Status == "False" && s.Now.Sub(c.Since) >= unschedulableGrace {
		return active(c.Since, Finding{"fit", []string{fmt.Sprintf("pod %s: %s", p.Name, describeCondition(c))}})
	}
	c := p.Container
	if c == nil || c.Running() || c.WaitingReason != "" || c.Last == nil || p.Phase == "Failed" || p.Phase == "Succeeded" {
		return inactive()
	}
	if !nodeReports(s) || s.Now.Sub(c.Last.Finished) < forgottenAfter {
		return inactive()
	}
	return active(c.Last.Finished, Finding{"container_gone", []string{
		fmt.Sprintf("pod %s: its container ended %s and was not started again", p.Name, stamp(c.Last.Finished)),
	}})
}

func nodeReports(s *Snapshot) bool {
	return s.Node != nil && s.Node.Ready != nil && s.Node.Ready.Status != "Unknown"
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
	case pl.DaemonSet == "":
		return finding("not_installed", "there is no kube-proxy DaemonSet and nothing that replaces it")
	case !pl.Selected:
		return finding("selector", fmt.Sprintf("DaemonSet %s does not select the node: %s", pl.DaemonSet, pl.Unselected))
	case pl.Untolerated != "":
		return finding("taint", fmt.Sprintf("DaemonSet %s does not tolerate the node's taint %s", pl.DaemonSet, pl.Untolerated))
	}
	if f := pl.Failure; f != nil && !f.Time.Before(since.Add(-missingGrace)) && s.Now.Sub(f.Time) < failureAge {
		return finding("not_created", fmt.Sprintf("DaemonSet %s: event %s %s: %s", pl.DaemonSet, f.Reason, stamp(f.Time), quote(f.Message)))
	}
	if s.Now.Sub(since) < missingGrace || s.Now.Sub(pl.Created) < missingGrace {
		return inactive()
	}
	return finding("not_created", fmt.Sprintf("DaemonSet %s wants a pod here and none was created", pl.DaemonSet))
}
