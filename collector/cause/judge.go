package cause

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Judgement is what is known about a node.
type Judgement struct {
	// Verdicts are those of All, in its order.
	Verdicts []Verdict
	// Primary is the index in All of the highest-ranked active cause, -1 if none is.
	Primary int
	// Pending says that a log is being read that will decide.
	Pending bool
	// Healthy is whether kube-proxy does its job; Unknown if nobody can tell,
	// Active if it does.
	Healthy State
}

// Judge asks every cause about a node. Where kube-proxy is not expected none
// can be active.
func Judge(s *Snapshot) Judgement {
	var j Judgement
	j.Judge(s)
	return j
}

// Judge is Judge that uses the room of an earlier judgement again.
func (j *Judgement) Judge(s *Snapshot) {
	if len(j.Verdicts) != len(All) {
		j.Verdicts = make([]Verdict, len(All))
	}
	j.Primary, j.Pending, j.Healthy = -1, false, healthy(s)
	for i := range All {
		v := Verdict{State: Inactive}
		if s.Expected == nil || s.Expected.Yes {
			v = All[i].judge(s)
		}
		if All[i].Kubelet && kubeletSilent(s) && v.State != Unknown {
			v = unknown("a kubelet that reports")
		}
		if All[i].Residual && j.Primary >= 0 && v.State == Active {
			v = inactive()
		}
		j.Verdicts[i] = v
		j.Pending = j.Pending || v.State == Unknown && v.Lacks == lacksLog
		if v.State == Active && j.Primary < 0 {
			j.Primary = i
		}
	}
	j.Primary = explained(j.Verdicts, j.Primary)
}

// judge asks the view that the Snapshot is of.
func (c *Cause) judge(s *Snapshot) Verdict {
	switch {
	case s.Local == nil:
		return c.Eval(s)
	case c.Node == nil:
		return fromLocalLog(s, c.Name, unknown("what only the API shows"))
	}
	return fromLocalLog(s, c.Name, c.Node(s))
}

// fromLocalLog is the verdict of a log on the node, where the node shows no more.
func fromLocalLog(s *Snapshot, name string, otherwise Verdict) Verdict {
	l := s.Local.says(s)
	if l == nil || otherwise.State == Active {
		return otherwise
	}
	if detail, ok := strings.CutPrefix(l.Class, name+"/"); ok {
		return active(time.Time{}, Finding{detail, []string{fmt.Sprintf("log %s: %s", stamp(l.At), quote(l.Line))}})
	}
	return otherwise
}

func kubeletSilent(s *Snapshot) bool {
	return s.Node != nil && s.Node.Ready != nil && s.Node.Ready.Status == "Unknown"
}

// eventsOf is inactive, or unknown where an event that was not read may say more.
func eventsOf(s *Snapshot) Verdict {
	running := func(p Pod) bool { return p.Deleting || p.Container != nil && p.Container.Running() }
	if !s.EventsKnown && !slices.ContainsFunc(s.Pods.List, running) {
		return unknown("the events")
	}
	return inactive()
}

// explained follows Because from an active cause to the one that explains it.
func explained(verdicts []Verdict, primary int) int {
	if primary < 0 || verdicts[primary].Because == "" {
		return primary
	}
	i := slices.IndexFunc(All, func(c Cause) bool { return c.Name == verdicts[primary].Because })
	if i < 0 || verdicts[i].State != Active {
		return primary
	}
	return i
}

// healthy is whether the pod that should do the job can do it. A pod's status
// is the kubelet's word: when the kubelet is gone it says nothing.
func healthy(s *Snapshot) State {
	if s.Local != nil {
		return localHealth(s)
	}
	if s.Expected == nil || !s.Expected.Yes || s.Node == nil || s.Pods == nil {
		return Unknown
	}
	if s.Node.Ready == nil || s.Node.Ready.Status == "Unknown" {
		return Unknown
	}
	verdict := Inactive
	for _, p := range s.Pods.List {
		deaf := s.Ports.deaf(&p)
		switch {
		case deaf == Active:
		case p.Deleting:
		case p.Ready != nil && p.Ready.Status == "True":
			if deaf == Inactive {
				return Active
			}
			verdict = Unknown
		case p.Ready == nil && (p.Phase == "Running" || p.Phase == ""):
			verdict = Unknown // nobody says
		}
	}
	return verdict
}
