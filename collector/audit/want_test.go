package audit

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestWritten is when objects were written, which does not make them other ones.
func TestWritten(t *testing.T) {
	first, last := metav1.NewTime(time.Unix(1000, 0)), metav1.NewTime(time.Unix(2000, 0))
	for name, tc := range map[string]struct {
		fields []metav1.ManagedFieldsEntry
		want   int64
	}{
		"by two":            {[]metav1.ManagedFieldsEntry{{Manager: "a", Time: &last}, {Manager: "b", Time: &first}}, 2000},
		"by one at no time": {[]metav1.ManagedFieldsEntry{{Manager: "a"}, {Manager: "b", Time: &first}}, 1000},
		"by nobody":         {nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			meta := metav1.ObjectMeta{Namespace: "a", Name: "b", Labels: map[string]string{discoveryv1.LabelServiceName: "b"}}
			service := func(port int32) *Service {
				return ServiceOf(&corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{ClusterIP: "10.0.0.1", Ports: []corev1.ServicePort{{Port: port}}}})
			}
			slice := func(address string) *Slice {
				w, _ := (&Keeper{}).SliceOf(&discoveryv1.EndpointSlice{ObjectMeta: meta, AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{address}}}})
				return w
			}
			s, e := service(80), slice("10.1.0.1")
			meta.ManagedFields = tc.fields
			if got := service(80); got.Written != tc.want || !got.Same(s) || got.Same(service(81)) || got.Same(nil) {
				t.Errorf("%+v", got)
			}
			if got := slice("10.1.0.1"); got.Written != tc.want || !got.Same(e) || got.Same(slice("10.1.0.2")) || got.Same(nil) {
				t.Errorf("%+v", got)
			}
		})
	}
}
