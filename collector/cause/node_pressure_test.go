package cause

import "testing"

func TestNodePressure(t *testing.T) {
	atBoundary(t, nodePressure, []boundary{
		{"a condition that nobody knows", func(s *Snapshot) { s.Node.Pressure[0].Status = "Unknown" }, Inactive, ""},
		{"a condition of another kind", func(s *Snapshot) {
			s.Node.Pressure = append(s.Node.Pressure, Condition{Type: "NetworkUnavailable", Status: "True"})
		}, Inactive, ""},
		{"a node that is not Ready and under pressure", func(s *Snapshot) {
			s.Node.Ready.Status, s.Node.Pressure[1].Status = "False", "True"
		}, Active, "disk"},
		{"no condition was ever reported", func(s *Snapshot) { s.Node.Pressure = nil }, Unknown, ""},
		{"the kubelet fell silent", func(s *Snapshot) { s.Node.Ready.Status, s.Node.Pressure[1].Status = "Unknown", "True" }, Unknown, ""},
		{"no Node object", func(s *Snapshot) { s.Node = nil }, Unknown, ""},
	})
	s := healthySnapshot()
	s.Node.Pressure[0].Status, s.Node.Pressure[2].Status = "True", "True"
	s.Node.Pressure[0].Since = now
	v := nodePressure.Eval(s)
	if len(v.Findings) != 2 || v.Findings[0].Detail != "memory" || v.Findings[1].Detail != "pid" || v.Since != s.Node.Pressure[2].Since {
		t.Errorf("two pressures give %+v", v)
	}
}
