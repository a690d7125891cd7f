package collector

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// serviceRow is what is kept of a Service that makes kube-proxy a target of
// monitoring, as kube-prometheus and its chart do.
type serviceRow struct {
	name     string
	selector map[string]string
}

func convertService(object any) (serviceRow, bool) {
	s, ok := object.(*corev1.Service)
	if !ok || len(s.Spec.Selector) == 0 || !meansKubeProxy(s) {
		return serviceRow{}, false
	}
	return serviceRow{s.Namespace + "/" + s.Name, s.Spec.Selector}, true
}

// meansKubeProxy is whether a Service has kube-proxy's metrics port, or its name
// and a port for metrics.
func meansKubeProxy(s *corev1.Service) bool {
	metrics := len(s.Spec.Ports) == 0
	for _, p := range s.Spec.Ports {
		if p.Port == metricsPort || p.TargetPort.IntVal == metricsPort {
			return true
		}
		metrics = metrics || strings.Contains(p.Name, "metrics")
	}
	return metrics && strings.Contains(s.Name, "kube-proxy")
}

// noTarget is a Service that means kube-proxy and selects none of its pods, if
// no other selects one.
func (c *view) noTarget() string {
	none, some := "", false
	c.services.each(func(s *serviceRow) {
		selector, any := labels.SelectorFromSet(s.selector), false
		for _, t := range c.pods {
			t.each(func(p *podRow) { any = any || selector.Matches(labels.Set(p.labels)) })
		}
		if any {
			some = true
		} else if none == "" || s.name < none {
			none = s.name
		}
	})
	if some {
		return ""
	}
	return none
}
