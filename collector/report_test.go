package collector

import (
	"reflect"
	"testing"
)

// TestReportAdd is of what both roles say of a node.
func TestReportAdd(t *testing.T) {
	yes, no := true, false
	cause := func(name, detail string) CauseReport { return CauseReport{Cause: name, Detail: detail} }
	n := NodeReport{Node: "n1", Healthy: &yes, Causes: []CauseReport{cause("rules_stale", "x")}, Unknown: []string{"api_unreachable", "conntrack_full", "vip_unreachable"}}
	n.Primary = &n.Causes[0]
	n.Add(NodeReport{Node: "n1", Healthy: &no, Causes: []CauseReport{cause("a_newer_one", "y"), cause("rules_stale", "x"), cause("crash_loop", "other")}, Unknown: []string{"crash_loop", "conntrack_full"}, Probes: []ProbeReport{{Service: "a/b"}}})
	var names []string
	for _, c := range n.Causes {
		names = append(names, c.Cause)
	}
	if want := []string{"crash_loop", "rules_stale", "a_newer_one"}; !reflect.DeepEqual(names, want) || n.Primary.Cause != want[0] {
		t.Errorf("causes %v, primary %v", names, n.Primary)
	}
	if want := []string{"conntrack_full"}; !reflect.DeepEqual(n.Unknown, want) || *n.Healthy || len(n.Probes) != 1 {
		t.Errorf("%+v", n)
	}
	n.Add(NodeReport{Node: "n1", Unknown: []string{"conntrack_full"}})
	if *n.Healthy || len(n.Causes) != 3 {
		t.Errorf("one that knows nothing changed it: %+v", n)
	}
}
