package collector

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/go-kit/log"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kproxy-exporter/kproxy-exporter/collector/audit"
)

// TestAuditHeard is that what the API wants changed when that counts, not when word of it
// came: a look that began between the two has not seen it.
func TestAuditHeard(t *testing.T) {
	cfg := NodeConfig{Name: "n1", Audit: AuditAll}
	d := newDesired(&cfg)
	from := &contact{reader: "services", logger: log.NewNopLogger()}
	from.markSynced()
	is, _ := d.convertService(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "b"}, Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.1", Ports: []corev1.ServicePort{{Protocol: corev1.ProtocolTCP, Port: 80}}}})
	look := time.Now()
	d.changed(from, false, nil, &is, look.Add(-time.Millisecond))
	if heard := d.auditChanged("a/b").Heard; heard.Before(look) {
		t.Errorf("a look that began %s after it cannot have missed it", look.Sub(heard))
	}
	gone := time.Now()
	d.changed(from, false, &is, nil, gone) // while what a look found of it is judged
	if heard := d.auditChanged("a/b").Heard; heard.Before(gone) {
		t.Errorf("it went %s, and seems to have changed %s", gone, heard)
	}
}

// TestAuditNeighbours is that what changes of a Service changes others at its addresses
// and ports, and no other.
func TestAuditNeighbours(t *testing.T) {
	ip := netip.MustParseAddr
	service := func(name string, port int32, cluster string, external ...string) *wish {
		s := &audit.Service{Name: name, ClusterIPs: []netip.Addr{ip(cluster)}, Ports: []audit.Port{{Protocol: audit.TCP, Port: uint16(port)}}}
		for _, e := range external {
			s.ExternalIPs = append(s.ExternalIPs, ip(e))
		}
		return &wish{auditService: s}
	}
	slice := func(to string) *wish {
		return &wish{auditSlice: &audit.Slice{Service: "a/two", Ports: []audit.Port{{Protocol: audit.TCP, Port: 8080}}, Endpoints: []audit.Endpoint{{Address: ip(to), Ready: true}}}}
	}
	two, first := service("a/two", 80, "10.96.0.2", "198.51.100.7"), slice("10.244.1.1")
	a := newAuditWants("n1")
	for _, w := range []*wish{service("a/one", 80, "10.96.0.1", "198.51.100.7"), two, service("a/port", 81, "10.96.0.3", "198.51.100.7"), service("a/inner", 80, "10.96.0.4"), first} {
		a.keep(nil, w, true, time.Now())
	}
	want := func(what string, names ...string) {
		t.Helper()
		if got := slices.Sorted(maps.Keys(a.changed)); !slices.Equal(got, names) {
			t.Errorf("%s: %q changed, want %q", what, got, names)
		}
		clear(a.changed)
	}
	want("nothing changed")
	second := slice("10.244.1.2")
	a.keep(first, second, false, time.Now())
	want("its endpoint", "a/one", "a/two")
	a.keep(second, nil, false, time.Now())
	want("its endpoint went", "a/one", "a/two")
	moved := service("a/two", 80, "10.96.0.2", "198.51.100.8")
	a.keep(two, moved, false, time.Now())
	want("it went elsewhere", "a/one", "a/two")
	a.keep(nil, second, false, time.Now())
	want("its endpoint, elsewhere", "a/two")
	a.keep(moved, two, false, time.Now())
	want("it came back", "a/one", "a/two")
	a.keep(two, nil, false, time.Now())
	want("it went", "a/one", "a/two")
	for _, names := range a.at {
		if slices.Contains(names, "a/two") {
			t.Error("it went and is remembered")
		}
	}
}

// TestAuditWants is what is kept of what the API wants, by version.
func TestAuditWants(t *testing.T) {
	a := newAuditWants("n1")
	now := time.Now()
	service := func(name, external string) *wish {
		s := &audit.Service{Name: name, ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, 0, name[2]})}, Ports: []audit.Port{{Protocol: audit.TCP, Port: 80}}}
		if external != "" {
			s.ExternalIPs = []netip.Addr{netip.MustParseAddr(external)}
		}
		return &wish{auditService: s}
	}
	slice := func(name string) *wish { return &wish{auditSlice: &audit.Slice{Service: name}} }
	one, two, three := service("a/one", "198.51.100.7"), service("a/two", "198.51.100.7"), service("a/3rd", "")
	var moved *wish
	before := 0
	for _, step := range []struct {
		what              string
		previous, current *wish
		names             []string
		gone              int
	}{
		{"one comes", nil, one, []string{"a/one"}, 0}, {"another, at its address", nil, two, []string{"a/one", "a/two"}, 0}, {"a third", nil, three, []string{"a/3rd"}, 0},
		{"an EndpointSlice of one", nil, slice("a/one"), []string{"a/one", "a/two"}, 0},
		{"it is listed again", one, service("a/one", "198.51.100.7"), nil, 0},
		{"something that nobody proxies", nil, &wish{}, nil, 0},
		{"one goes, and another is at its address", one, nil, []string{"a/one", "a/two"}, 1},
		{"the third changes", three, service("a/3rd", "203.0.113.9"), []string{"a/3rd"}, 1},
	} {
		a.keep(step.previous, step.current, false, now)
		names, gone, ok := a.since(before)
		if got := slices.Sorted(maps.Keys(names)); !ok || !slices.Equal(got, step.names) || len(gone) != step.gone {
			t.Errorf("%s: %v %v %t, want %v", step.what, got, gone, ok, step.names)
		}
		before = a.version
	}
	moved = slice("a/two")
	a.keep(nil, moved, true, now)
	a.keep(moved, slice("a/3rd"), false, now)
	if names, _, _ := a.since(before); !names["a/two"] || !names["a/3rd"] {
		t.Errorf("an EndpointSlice went from one Service to another: %v", names)
	}
	if a.changed["a/one"].IsZero() || a.slices["a/two"] != nil {
		t.Errorf("%v %v", a.changed, a.slices)
	}
	before = a.version
	for i := range auditLog + 1 {
		a.keep(nil, slice(fmt.Sprint("b/", i)), false, now)
	}
	if _, _, ok := a.since(before); ok {
		t.Error("it remembers what it let go of")
	}
	if names, _, ok := a.since(a.version - 10); !ok || len(names) != 10 {
		t.Errorf("the newest ten are %v", names)
	}
}
