package collector

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/kproxy-exporter/kproxy-exporter/collector/kubeapi"
)

// countingAPI counts writes, and refuses those in refuse, by resource.
type countingAPI struct {
	fakeAPI
	writes map[string]int
	refuse map[string]error
}

func (c *countingAPI) Create(ctx context.Context, r kubeapi.Resource, namespace string, o runtime.Object) error {
	c.writes[r.Name]++
	if err := c.refuse[r.Name]; err != nil {
		return err
	}
	return c.fakeAPI.Create(ctx, r, namespace, o)
}

func (c *countingAPI) Update(ctx context.Context, r kubeapi.Resource, namespace, name string, o runtime.Object) error {
	c.writes[r.Name]++
	if err := c.refuse[r.Name]; err != nil {
		return err
	}
	return c.fakeAPI.Update(ctx, r, namespace, name, o)
}

// moverObjects are the canary Service and responders on nodes.
func moverObjects(nodes ...string) []runtime.Object {
	port, other, udp, name := int32(19250), int32(19251), corev1.ProtocolUDP, "udp"
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "nodes", Name: "responder-abc", Labels: map[string]string{discoveryv1.LabelServiceName: "responder"}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &other, Protocol: &udp}, {Port: &port}},
	}
	for i, n := range nodes {
		ready := !strings.HasPrefix(n, "-")
		node := strings.TrimPrefix(n, "-")
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.99.0.%d", 11+i)}, NodeName: &node, Conditions: discoveryv1.EndpointConditions{Ready: &ready}})
	}
	return []runtime.Object{s, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "exporter", Name: "canary"},
		Spec:       corev1.ServiceSpec{ClusterIP: "10.96.0.9", Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}}
}

func newTestMover(t *testing.T, api *countingAPI, identity string) *mover {
	t.Helper()
	m, err := newMover(MoverConfig{Interval: 5 * time.Minute, Service: "exporter/canary", Responders: "nodes/responder", Identity: identity}, api, &contact{reader: "canary", logger: log.NewNopLogger()})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (c *countingAPI) slice(t *testing.T) *discoveryv1.EndpointSlice {
	t.Helper()
	o, err := c.Get(t.Context(), kubeapi.EndpointSlices, "exporter", "canary-ipv4")
	if err != nil {
		t.Fatal(err)
	}
	return o.(*discoveryv1.EndpointSlice)
}

func newCountingAPI(objects ...runtime.Object) *countingAPI {
	return &countingAPI{fakeAPI: fakeAPI{fake.NewClientset(objects...)}, writes: map[string]int{}, refuse: map[string]error{}}
}

func TestMover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newCountingAPI(moverObjects("n3", "n1", "-n2")...)
		m := newTestMover(t, api, "a")
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { m.run(ctx); close(done) }()
		var nodes []string
		turns := map[int64]bool{}
		for range 4 {
			synctest.Wait()
			s := api.slice(t)
			nodes = append(nodes, *s.Endpoints[0].NodeName)
			word := canaryOf(s)
			turn := word.number
			if turn <= 0 || turns[turn] || word.responders != 2 || word.interval != 5*time.Minute {
				t.Errorf("%+v, after %v", word, turns)
			}
			turns[turn] = true
			at, err := time.Parse(time.RFC3339Nano, s.Annotations[corev1.EndpointsLastChangeTriggerTime])
			if err != nil || time.Since(at) > 5*time.Second {
				t.Errorf("kube-proxy is told that it changed at %q", s.Annotations[corev1.EndpointsLastChangeTriggerTime])
			}
			if p := s.Ports[0]; *p.Name != "http" || *p.Port != 19250 || *p.Protocol != corev1.ProtocolTCP || len(s.Endpoints) != 1 || s.Labels[discoveryv1.LabelServiceName] != "canary" {
				t.Errorf("%+v", s)
			}
			time.Sleep(5*time.Minute + time.Second)
		}
		if want := []string{"n1", "n3", "n1", "n3"}; !slices.Equal(nodes, want) {
			t.Errorf("it went to %v, want %v", nodes, want)
		}
		synctest.Wait()
		if n := api.writes["endpointslices"]; n != 5 || api.writes["leases"] != n || m.moves.Load() != int64(n) {
			t.Errorf("%v written, %d counted", api.writes, m.moves.Load())
		}
		stop()
		<-done
		o, err := api.Get(t.Context(), kubeapi.Leases, "exporter", "canary")
		if err != nil || *o.(*coordinationv1.Lease).Spec.HolderIdentity != "" {
			t.Errorf("it ended and keeps the Lease: %+v, %v", o, err)
		}
		before := api.writes["endpointslices"]
		again := newTestMover(t, api, "b") // it ended within an interval of the last move
		if wait, err := again.step(t.Context(), time.Now()); err != nil || wait <= 0 || wait > 5*time.Minute || api.writes["endpointslices"] != before {
			t.Errorf("a new process waits %s, %v, and wrote %d", wait, err, api.writes["endpointslices"]-before)
		}
	})
}

// A clock that was set back, and responders where none may be.
func TestMoverOdd(t *testing.T) {
	objects := moverObjects("n1", "n2", "n3")
	objects[0].(*discoveryv1.EndpointSlice).Endpoints[1].Addresses[0] = "127.0.0.1"
	api := newCountingAPI(objects...)
	m := newTestMover(t, api, "a")
	now := time.Now()
	for i, tc := range []struct {
		at   time.Time
		turn int64
		node string
	}{{now, now.Unix(), "n1"}, {now.Add(-time.Hour), now.Unix() + 1, "n3"}, {now.Add(-48 * time.Hour), now.Add(-48 * time.Hour).Unix(), "n1"}} {
		if _, err := m.step(t.Context(), tc.at); err != nil {
			t.Fatal(err)
		}
		s := api.slice(t)
		if turn := canaryOf(s).number; turn != tc.turn || *s.Endpoints[0].NodeName != tc.node {
			t.Errorf("move %d: turn %d to %s, want %d to %s", i, turn, *s.Endpoints[0].NodeName, tc.turn, tc.node)
		}
	}
}

// Of two only one moves, until it is gone for as long as its Lease lasts.
func TestMoverLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newCountingAPI(moverObjects("n1", "n2")...)
		a, b := newTestMover(t, api, "a"), newTestMover(t, api, "b")
		step := func(m *mover) {
			t.Helper()
			if _, err := m.step(t.Context(), time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		step(a)
		for range 3 {
			time.Sleep(5*time.Minute + time.Second)
			step(b)
			step(a)
		}
		if a.moves.Load() != 4 || b.moves.Load() != 0 {
			t.Fatalf("a moved it %d times, b %d", a.moves.Load(), b.moves.Load())
		}
		time.Sleep(5*time.Minute + time.Second) // a is gone, of which b has not heard
		wait, err := b.step(t.Context(), time.Now())
		if want := 6 * time.Minute; err != nil || wait != want || b.moves.Load() != 0 {
			t.Errorf("b waits %s, %v, and moved %d times; want %s for a's Lease to end", wait, err, b.moves.Load(), want)
		}
		time.Sleep(wait)
		step(b)
		if b.moves.Load() != 1 {
			t.Error("b does not move although a is gone")
		}
		time.Sleep(5*time.Minute + time.Second)
		step(a)
		if a.moves.Load() != 4 {
			t.Error("a takes the Lease back from b")
		}
		api.refuse["leases"] = apierrors.NewConflict(corev1.Resource("leases"), "canary", nil)
		step(b)
		if b.moves.Load() != 1 {
			t.Error("b moves although another was faster")
		}
	})
}

func TestMoverErrors(t *testing.T) {
	denied := apierrors.NewForbidden(corev1.Resource("x"), "canary", nil)
	change := func(edit func(*corev1.Service)) []runtime.Object {
		objects := moverObjects("n1", "n2")
		edit(objects[1].(*corev1.Service))
		return objects
	}
	for name, tc := range map[string]struct {
		objects []runtime.Object
		refuse  string
		want    string
	}{
		"no Service":       {moverObjects("n1", "n2")[:1], "", "the canary Service exporter/canary"},
		"with a selector":  {change(func(s *corev1.Service) { s.Spec.Selector = map[string]string{"a": "b"} }), "", "no selector"},
		"without a port":   {change(func(s *corev1.Service) { s.Spec.Ports = nil }), "", "must have a port"},
		"headless":         {change(func(s *corev1.Service) { s.Spec.ClusterIP = "None" }), "", "has no address"},
		"one node":         {moverObjects("n1", "-n2"), "", "it takes two"},
		"two on one node":  {moverObjects("n1", "n1"), "", "it takes two"},
		"no right":         {moverObjects("n1", "n2"), "endpointslices", "move the canary Service"},
		"no right to lead": {moverObjects("n1", "n2"), "leases", "take the Lease"},
		"another family":   {change(func(s *corev1.Service) { s.Spec.ClusterIP = "fd00::9" }), "", "0 nodes"},
	} {
		api := newCountingAPI(tc.objects...)
		if tc.refuse != "" {
			api.refuse[tc.refuse] = denied
		}
		m := newTestMover(t, api, "a")
		if _, err := m.step(t.Context(), time.Now()); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
		if m.moves.Load() != 0 {
			t.Errorf("%s: it is counted as moved", name)
		}
	}
	for _, name := range []string{"", "canary", "/canary", "exporter/", "a/b/c"} {
		if _, err := newMover(MoverConfig{Interval: time.Minute, Service: name, Responders: "a/b"}, nil, nil); err == nil {
			t.Errorf("Service %q is accepted", name)
		}
	}
}
