package cause

import (
	"strings"
	"testing"
	"time"
)

func TestUnexplained(t *testing.T) {
	unwell := func(ago time.Duration) func(*Snapshot) {
		return func(s *Snapshot) {
			s.Pods.List[0].Ready = &Condition{Type: "Ready", Status: "False", Since: now.Add(-ago)}
		}
	}
	atBoundary(t, unexplained, []boundary{
		{"not Ready for a while", unwell(unexplainedAfter - time.Second), Inactive, ""},
		{"not Ready for too long", unwell(unexplainedAfter), Active, "unhealthy"},
		{"Ready", func(*Snapshot) {}, Inactive, ""},
		{"on its way out", func(s *Snapshot) {
			unwell(time.Hour)(s)
			s.Pods.List[0].Deleting = true
		}, Inactive, ""},
		{"nobody says whether it is Ready", func(s *Snapshot) { s.Pods.List[0].Ready = nil }, Unknown, ""},
		{"a silent kubelet", func(s *Snapshot) {
			unwell(time.Hour)(s)
			s.Node.Ready.Status = "Unknown"
		}, Unknown, ""},
	})
	s := healthySnapshot()
	unwell(time.Hour)(s)
	s.Pods.List[0].Events = []Event{{Reason: "FailedMount", Message: `configmap "kube-proxy" not found`, Time: now, Count: 30}}
	if v := unexplained.Eval(s); v.State != Active || !strings.Contains(strings.Join(v.Findings[0].Evidence, "\n"), `30 times: configmap "kube-proxy" not found`) {
		t.Errorf("the newest event is not quoted: %+v", v)
	}
	s = healthySnapshot()
	unwell(time.Hour)(s)
	s.Node.Pressure[0].Status = "True"
	for i, v := range Judge(s).Verdicts {
		if All[i].Residual && v.State != Inactive {
			t.Errorf("beside another cause it is %+v", v)
		}
	}
}
