package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kproxy-exporter/kproxy-exporter/collector/audit"
)

// isIn gives the node a zone; none if it is empty.
func (l *look) isIn(ctx context.Context, zone string) error {
	var value *string
	if l.zone = zone; zone != "" {
		value = &zone
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": map[string]any{corev1.LabelTopologyZone: value}}})
	if err != nil {
		return err
	}
	_, err = l.client.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

// zoneless is whether all that differs would be right if the node had no zone.
func zoneless(r *audit.Result) bool {
	return len(r.Drifts) > 0 && !slices.ContainsFunc(r.Drifts, func(d audit.Drift) bool { return !strings.HasSuffix(d.What, audit.Zoneless) })
}

// withoutZone takes the node's zone away and wants that the audit says so of what
// kube-proxy makes of it where it is not told.
func (l *look) withoutZone(ctx context.Context, r *Random) error {
	if err := r.clear(ctx); err != nil {
		return err
	}
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "zones"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
	if _, err := l.client.CoreV1().Services(r.Namespace).Create(ctx, s, metav1.CreateOptions{}); err != nil {
		return err
	}
	e := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: s.Name, Labels: map[string]string{discoveryv1.LabelServiceName: s.Name}}, AddressType: discoveryv1.AddressTypeIPv4,
		Ports: []discoveryv1.EndpointPort{{Name: new(""), Protocol: new(corev1.ProtocolTCP), Port: new(int32(8080))}}}
	for i, zone := range []string{"a", "b"} {
		e.Endpoints = append(e.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.244.3.%d", 10+i)}, Hints: &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: zone}}}})
	}
	if _, err := l.client.DiscoveryV1().EndpointSlices(r.Namespace).Create(ctx, e, metav1.CreateOptions{}); err != nil {
		return err
	}
	if err := l.isIn(ctx, ""); err != nil {
		return err
	}
	state, err := l.state(ctx)
	if err != nil {
		return err
	}
	if _, err := l.settled(ctx, state); err != nil {
		return err
	}
	l.zone = "a"
	res, err := l.audit(l.ns, state)
	if err != nil || len(res.Drifts) != 1 || res.Drifts[0].Kind != audit.Stale || !strings.Contains(res.Drifts[0].What, "it may be sent to 10.244.3.11:8080") || !zoneless(&res) {
		return fmt.Errorf("it differs by %+v, %w", res.Drifts, err)
	}
	return l.isIn(ctx, "a")
}
