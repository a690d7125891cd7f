package collector

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/kproxy-exporter/kproxy-exporter/collector/kubeapi"
)

// MoverConfig says which Service is moved, and how often. It is the only thing
// that the exporter writes.
type MoverConfig struct {
	// Interval is how often it is moved; never if it is 0.
	Interval time.Duration
	// Service is that which is moved, Responders that between whose endpoints;
	// both are namespace/name.
	Service, Responders string
	// Identity names this process among all that might move it.
	Identity string
}

// Writer writes single objects.
type Writer interface {
	Get(ctx context.Context, r kubeapi.Resource, namespace, name string) (runtime.Object, error)
	Create(ctx context.Context, r kubeapi.Resource, namespace string, object runtime.Object) error
	Update(ctx context.Context, r kubeapi.Resource, namespace, name string, object runtime.Object) error
}

// mover moves the canary Service, a Service without a selector, from responder
// to responder: the nodes see how soon it leads to the new one.
type mover struct {
	cfg     MoverConfig
	api     API
	contact *contact
	moves   atomic.Int64

	// Of its own goroutine: the Lease as it was seen last, and since when.
	lease coordinationv1.LeaseSpec
	since time.Time
}

// spare is how much longer than an interval the Lease lasts.
const spare = time.Minute

// run moves it until the context ends.
func (m *mover) run(ctx context.Context) {
	for {
		began := time.Now()
		wait, err := m.step(ctx, began)
		if err != nil {
			wait = m.cfg.Interval
			m.contact.failedUnlessStopped(ctx, err)
		} else {
			m.contact.succeeded(time.Since(began))
		}
		select {
		case <-ctx.Done():
			m.release(context.WithoutCancel(ctx))
			return
		case <-time.After(wait):
		}
	}
}

func split(name string) (namespace, rest string) {
	namespace, rest, _ = strings.Cut(name, "/")
	return namespace, rest
}

// step moves it if it is time and ours to do, and returns when to look again.
func (m *mover) step(ctx context.Context, now time.Time) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	namespace, name := split(m.cfg.Service)
	object, err := m.api.Get(ctx, kubeapi.Services, namespace, name)
	if err != nil {
		return 0, fmt.Errorf("the canary Service %s: %w", m.cfg.Service, err)
	}
	service, ok := object.(*corev1.Service)
	if !ok || len(service.Spec.Selector) > 0 || len(service.Spec.Ports) == 0 {
		return 0, fmt.Errorf("the canary Service %s: it must have a port and no selector", m.cfg.Service)
	}
	vip, err := netip.ParseAddr(service.Spec.ClusterIP)
	if err != nil {
		return 0, fmt.Errorf("the canary Service %s has no address: %w", m.cfg.Service, err)
	}
	// What belongs to the Service goes with it.
	owner := []metav1.OwnerReference{{APIVersion: "v1", Kind: "Service", Name: service.Name, UID: service.UID}}
	slice, exists, err := m.slice(ctx, namespace, name, vip, owner)
	if err != nil {
		return 0, err
	}
	before := canaryOf(slice).number
	if before > now.Add(ahead).Unix() {
		before = 0 // it is no time
	}
	if due := time.Unix(before, 0).Add(m.cfg.Interval).Sub(now); due > 0 && due <= m.cfg.Interval {
		return due, nil // whoever moved it last
	}
	if wait, err := m.lead(ctx, namespace, name, owner, now); err != nil || wait > 0 {
		return wait, err
	}
	responders, err := m.responders(ctx, vip)
	if err != nil {
		return 0, err
	}
	if len(responders) < 2 {
		return 0, fmt.Errorf("%d nodes have a responder that is ready behind the Service %s; it takes two to move between", len(responders), m.cfg.Responders)
	}
	next := responders[0]
	for _, r := range responders {
		if len(slice.Endpoints) == 1 && slice.Endpoints[0].NodeName != nil && r.node > *slice.Endpoints[0].NodeName {
			next = r
			break
		}
	}
	ready, port := true, service.Spec.Ports[0]
	protocol := cmp.Or(port.Protocol, corev1.ProtocolTCP)
	slice.Annotations = map[string]string{
		canaryTurn: strconv.FormatInt(max(before+1, now.Unix()), 10), canaryResponders: strconv.Itoa(len(responders)), canaryInterval: m.cfg.Interval.String(),
		// kube-proxy's own histogram of how long programming takes counts from here.
		corev1.EndpointsLastChangeTriggerTime: now.UTC().Format(time.RFC3339Nano),
	}
	slice.Ports = []discoveryv1.EndpointPort{{Name: &port.Name, Protocol: &protocol, Port: &next.port}}
	slice.Endpoints = []discoveryv1.Endpoint{{
		Addresses: []string{next.address.String()}, NodeName: &next.node,
		Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &ready},
	}}
	if exists {
		err = m.api.Update(ctx, kubeapi.EndpointSlices, namespace, slice.Name, slice)
	} else {
		err = m.api.Create(ctx, kubeapi.EndpointSlices, namespace, slice)
	}
	if err != nil {
		return 0, fmt.Errorf("move the canary Service %s: %w", m.cfg.Service, err)
	}
	m.moves.Add(1)
	return m.cfg.Interval, nil
}

// slice is the canary's only EndpointSlice, as it is or as it will be.
func (m *mover) slice(ctx context.Context, namespace, service string, vip netip.Addr, owner []metav1.OwnerReference) (slice *discoveryv1.EndpointSlice, exists bool, err error) {
	kind := discoveryv1.AddressTypeIPv4
	if vip.Is6() {
		kind = discoveryv1.AddressTypeIPv6
	}
	name := service + "-" + strings.ToLower(string(kind))
	object, err := m.api.Get(ctx, kubeapi.EndpointSlices, namespace, name)
	switch {
	case apierrors.IsNotFound(err):
		return &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, OwnerReferences: owner, Labels: map[string]string{
				discoveryv1.LabelServiceName: service, discoveryv1.LabelManagedBy: "kproxy-exporter",
			}},
			AddressType: kind,
		}, false, nil
	case err != nil:
		return nil, false, fmt.Errorf("the canary's EndpointSlice %s/%s: %w", namespace, name, err)
	}
	slice, ok := object.(*discoveryv1.EndpointSlice)
	if !ok {
		return nil, false, fmt.Errorf("the canary's EndpointSlice %s/%s is a %T", namespace, name, object)
	}
	return slice, true, nil
}

// responder is one that can stand behind the canary.
type responder struct {
	node    string
	address netip.Addr
	port    int32
}

// responders are those that are ready, one a node, in the order of the nodes.
func (m *mover) responders(ctx context.Context, vip netip.Addr) ([]responder, error) {
	namespace, name := split(m.cfg.Responders)
	// From the API server's memory: what is a moment old is new enough.
	object, err := m.api.List(ctx, kubeapi.EndpointSlices, namespace, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + name, ResourceVersion: "0"})
	if err != nil {
		return nil, fmt.Errorf("the endpoints of the responders' Service %s: %w", m.cfg.Responders, err)
	}
	list, ok := object.(*discoveryv1.EndpointSliceList)
	if !ok {
		return nil, fmt.Errorf("the endpoints of the responders' Service %s are a %T", m.cfg.Responders, object)
	}
	var out []responder
	for i := range list.Items {
		s := &list.Items[i]
		port := slices.IndexFunc(s.Ports, func(p discoveryv1.EndpointPort) bool {
			return p.Port != nil && (p.Protocol == nil || *p.Protocol == corev1.ProtocolTCP)
		})
		if port < 0 {
			continue
		}
		for _, e := range s.Endpoints {
			if e.NodeName == nil || len(e.Addresses) == 0 || e.Conditions.Ready != nil && !*e.Conditions.Ready {
				continue
			}
			if a, err := netip.ParseAddr(e.Addresses[0]); err == nil && a.Is6() == vip.Is6() && dialable(a) {
				out = append(out, responder{*e.NodeName, a, *s.Ports[port].Port})
			}
		}
	}
	slices.SortFunc(out, func(a, b responder) int { return cmp.Or(cmp.Compare(a.node, b.node), a.address.Compare(b.address)) })
	return slices.CompactFunc(out, func(a, b responder) bool { return a.node == b.node }), nil
}

// lead is how long this process must not write, 0 if it may, by a Lease of the
// Service's name. One that is held by another is taken when it has not been
// renewed, since we look, for as long as it lasts: no clocks are compared.
func (m *mover) lead(ctx context.Context, namespace, name string, owner []metav1.OwnerReference, now time.Time) (time.Duration, error) {
	lasts := int32((m.cfg.Interval + spare) / time.Second)
	ours := coordinationv1.LeaseSpec{HolderIdentity: &m.cfg.Identity, LeaseDurationSeconds: &lasts, RenewTime: &metav1.MicroTime{Time: now}}
	object, err := m.api.Get(ctx, kubeapi.Leases, namespace, name)
	if apierrors.IsNotFound(err) {
		err := m.api.Create(ctx, kubeapi.Leases, namespace, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, OwnerReferences: owner}, Spec: ours})
		return m.won(err)
	}
	if err != nil {
		return 0, fmt.Errorf("the Lease %s/%s: %w", namespace, name, err)
	}
	lease, ok := object.(*coordinationv1.Lease)
	if !ok {
		return 0, fmt.Errorf("the Lease %s/%s is a %T", namespace, name, object)
	}
	holder := lease.Spec.HolderIdentity
	if holder != nil && *holder != "" && *holder != m.cfg.Identity {
		if m.lease.HolderIdentity == nil || *m.lease.HolderIdentity != *holder || !m.lease.RenewTime.Equal(lease.Spec.RenewTime) {
			m.lease, m.since = lease.Spec, now
		}
		held := m.cfg.Interval + spare
		if s := lease.Spec.LeaseDurationSeconds; s != nil && *s > 0 {
			held = time.Duration(*s) * time.Second
		}
		if left := held - now.Sub(m.since); left > 0 {
			return left, nil
		}
	}
	lease.Spec = ours
	return m.won(m.api.Update(ctx, kubeapi.Leases, namespace, name, lease))
}

// won is how long to wait if we were not the first to write.
func (m *mover) won(err error) (time.Duration, error) {
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		return m.cfg.Interval, nil
	}
	if err != nil {
		return 0, fmt.Errorf("take the Lease: %w", err)
	}
	return 0, nil
}

// release lets the next one move at once, if it was ours to do.
func (m *mover) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	namespace, name := split(m.cfg.Service)
	object, err := m.api.Get(ctx, kubeapi.Leases, namespace, name)
	lease, ok := object.(*coordinationv1.Lease)
	if err != nil || !ok || lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity != m.cfg.Identity {
		return
	}
	none := ""
	lease.Spec.HolderIdentity = &none
	if err := m.api.Update(ctx, kubeapi.Leases, namespace, name, lease); err != nil && !apierrors.IsConflict(err) {
		m.contact.failed(fmt.Errorf("release the Lease: %w", err))
	}
}

var canaryMoves = family{"kproxy_canary_moves_total", "How often this process has moved the canary Service.", nil}

// writeMoves counts what was moved.
func (m *mover) write(e *exposition) {
	e.beginCounter(&canaryMoves)
	e.sample(float64(m.moves.Load()))
}

// errServiceName is for what is not namespace/name.
var errServiceName = errors.New("it is written namespace/name")

func newMover(cfg MoverConfig, api API, c *contact) (*mover, error) {
	for _, name := range []string{cfg.Service, cfg.Responders} {
		if namespace, rest := split(name); namespace == "" || rest == "" || strings.Contains(rest, "/") {
			return nil, fmt.Errorf("canary: Service %q: %w", name, errServiceName)
		}
	}
	return &mover{cfg: cfg, api: api, contact: c}, nil
}
