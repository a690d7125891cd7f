package audit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
)

// Random makes Services and EndpointSlices of all that the API knows of them.
type Random struct {
	*rand.Rand
	Client    kubernetes.Interface
	Namespace string
	// Nodes are names that endpoints may be on, Zones those of hints, NodeIP the
	// address of the node that is looked at.
	Nodes, Zones []string
	NodeIP       string
	round        int
}

func (r *Random) one(of ...string) string { return of[r.IntN(len(of))] }
func (r *Random) chance(p float64) bool   { return r.Float64() < p }

// maybe is one of three.
func (r *Random) maybe() *bool {
	return []*bool{nil, new(true), new(false)}[r.IntN(3)]
}

// protocols of a kernel that may lack SCTP's connections are all the same rules.
var protocols = []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP}

// Cluster replaces all that it made before by that many other Services.
func (r *Random) Cluster(ctx context.Context, services int) error {
	r.round++
	if err := r.clear(ctx); err != nil {
		return err
	}
	for i := range services {
		s := r.service(i)
		made, err := r.Client.CoreV1().Services(r.Namespace).Create(ctx, s, metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("make Service %s: %w", s.Name, err)
		}
		if made.Spec.Type == corev1.ServiceTypeLoadBalancer {
			made.Status.LoadBalancer.Ingress = r.ingress()
			if _, err := r.Client.CoreV1().Services(r.Namespace).UpdateStatus(ctx, made, metav1.UpdateOptions{}); err != nil {
				return fmt.Errorf("give Service %s addresses: %w", s.Name, err)
			}
		}
		for j := range r.IntN(4) {
			e := r.slice(made, j)
			if _, err := r.Client.DiscoveryV1().EndpointSlices(r.Namespace).Create(ctx, e, metav1.CreateOptions{}); err != nil {
				return fmt.Errorf("make EndpointSlice %s: %w", e.Name, err)
			}
		}
	}
	return nil
}

func (r *Random) clear(ctx context.Context) error {
	if err := r.Client.DiscoveryV1().EndpointSlices(r.Namespace).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		return err
	}
	list, err := r.Client.CoreV1().Services(r.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, s := range list.Items {
		if err := r.Client.CoreV1().Services(r.Namespace).Delete(ctx, s.Name, metav1.DeleteOptions{}); err != nil {
			return err
		}
	}
	return nil
}

func (r *Random) service(i int) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("s%d-%d", r.round, i), Labels: map[string]string{}}}
	s.Spec.Type = corev1.ServiceType(r.one("ClusterIP", "ClusterIP", "NodePort", "LoadBalancer", "LoadBalancer"))
	switch r.IntN(20) {
	case 0:
		s.Labels["service.kubernetes.io/service-proxy-name"] = "another"
	case 1:
		s.Labels[corev1.IsHeadlessService] = ""
	case 2:
		s.Spec.Type, s.Spec.ClusterIP = corev1.ServiceTypeClusterIP, corev1.ClusterIPNone
	case 3:
		s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeExternalName, "elsewhere.invalid"
		return s
	}
	policy := corev1.IPFamilyPolicy(r.one("SingleStack", "SingleStack", "PreferDualStack", "RequireDualStack"))
	s.Spec.IPFamilyPolicy = &policy
	switch r.IntN(3) {
	case 0:
		s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol}
	case 1:
		s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	}
	for n := range 1 + r.IntN(3) {
		p := corev1.ServicePort{Name: fmt.Sprintf("p%d", n), Protocol: protocols[r.IntN(len(protocols))], Port: int32(80 + n + 10*r.IntN(3)), TargetPort: intstr.FromInt32(8080)}
		s.Spec.Ports = append(s.Spec.Ports, p)
	}
	if len(s.Spec.Ports) == 1 && r.chance(0.5) {
		s.Spec.Ports[0].Name = ""
	}
	local := corev1.ServiceInternalTrafficPolicyLocal
	if s.Spec.ClusterIP != corev1.ClusterIPNone && r.chance(0.3) {
		s.Spec.InternalTrafficPolicy = &local
	}
	if s.Spec.Type != corev1.ServiceTypeClusterIP && r.chance(0.5) {
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}
	if r.chance(0.3) {
		s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
		seconds := int32(10 + r.IntN(20000))
		s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &seconds}}
	}
	if s.Spec.ClusterIP != corev1.ClusterIPNone && r.chance(0.3) {
		s.Spec.ExternalIPs = []string{fmt.Sprintf("198.51.100.%d", 1+r.IntN(20))}
		if r.chance(0.5) {
			s.Spec.ExternalIPs = append(s.Spec.ExternalIPs, fmt.Sprintf("2001:db8:1::%d", 1+r.IntN(20)))
		}
	}
	if s.Spec.Type == corev1.ServiceTypeLoadBalancer && r.chance(0.5) {
		s.Spec.LoadBalancerSourceRanges = [][]string{{"203.0.113.0/24"}, {" 203.0.113.0/25", "10.99.0.0/24"}, {"2001:db8:5::/64"}, {"0.0.0.0/0"}, {"10.244.0.0/16", "203.0.113.9/32", "2001:db8:5::/64"}}[r.IntN(5)]
	}
	return s
}

func (r *Random) ingress() (out []corev1.LoadBalancerIngress) {
	for range r.IntN(3) {
		i := corev1.LoadBalancerIngress{IP: fmt.Sprintf("198.51.100.%d", 100+r.IntN(60))}
		if r.chance(0.3) {
			i.IP = fmt.Sprintf("2001:db8:2::%d", 1+r.IntN(60))
		}
		vip, proxy := corev1.LoadBalancerIPModeVIP, corev1.LoadBalancerIPModeProxy
		i.IPMode = []*corev1.LoadBalancerIPMode{&vip, &vip, &vip, &proxy}[r.IntN(4)]
		out = append(out, i)
	}
	if r.chance(0.1) {
		out = append(out, corev1.LoadBalancerIngress{Hostname: "lb.invalid"})
	}
	return out
}

// nodeOf is where an address is: it is on one node, or on none that is known.
func (r *Random) nodeOf(address string) string {
	for i, n := range r.Nodes {
		if strings.HasPrefix(address, fmt.Sprintf("10.244.%d.", i+1)) || strings.HasPrefix(address, fmt.Sprintf("fd00:10:244:%d:", i+1)) || i == 0 && address == r.NodeIP {
			return n
		}
	}
	return ""
}

func (r *Random) slice(s *corev1.Service, j int) *discoveryv1.EndpointSlice {
	e := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d", s.Name, j), Labels: map[string]string{discoveryv1.LabelServiceName: s.Name}}, AddressType: discoveryv1.AddressTypeIPv4}
	switch {
	case len(s.Spec.IPFamilies) > 1 && r.chance(0.5), len(s.Spec.IPFamilies) == 1 && s.Spec.IPFamilies[0] == corev1.IPv6Protocol, r.chance(0.1):
		e.AddressType = discoveryv1.AddressTypeIPv6
	case r.chance(0.05):
		e.AddressType = discoveryv1.AddressTypeFQDN
	}
	if r.chance(0.05) {
		e.Labels[[]string{"service.kubernetes.io/service-proxy-name", corev1.IsHeadlessService}[r.IntN(2)]] = ""
	}
	for i := range s.Spec.Ports {
		if r.chance(0.1) {
			continue // this slice does not have it
		}
		p := &s.Spec.Ports[i]
		number := int32(8080 + r.IntN(3))
		e.Ports = append(e.Ports, discoveryv1.EndpointPort{Name: &p.Name, Protocol: &p.Protocol, Port: &number})
	}
	hints := r.IntN(5)
	for range r.IntN(5) {
		one := discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.244.%d.%d", 1+r.IntN(3), 10+r.IntN(12))}}
		switch e.AddressType {
		case discoveryv1.AddressTypeIPv6:
			one.Addresses = []string{fmt.Sprintf("fd00:10:244:%d::%d", 1+r.IntN(3), 10+r.IntN(12))}
		case discoveryv1.AddressTypeFQDN:
			one.Addresses = []string{"somebody.invalid"}
		default:
			if r.NodeIP != "" && r.chance(0.05) {
				one.Addresses = []string{r.NodeIP}
			}
		}
		if n := r.nodeOf(one.Addresses[0]); n != "" {
			one.NodeName = &n
		}
		one.Conditions = discoveryv1.EndpointConditions{Ready: new(true)}
		if r.chance(0.3) {
			one.Conditions = discoveryv1.EndpointConditions{Ready: r.maybe(), Serving: r.maybe(), Terminating: r.maybe()}
		}
		if hints < 2 && r.chance(0.9) {
			one.Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: r.one(r.Zones...)}}}
			if hints == 1 {
				one.Hints.ForNodes = []discoveryv1.ForNode{{Name: r.one(r.Nodes...)}}
			}
		}
		e.Endpoints = append(e.Endpoints, one)
	}
	return e
}
