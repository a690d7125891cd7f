package collector

import (
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
)

// nodeRow is what is kept of a Node.
type nodeRow struct {
	name    string
	created time.Time
	labels  map[string]string
	taints  []corev1.Taint
	kubelet string // its version
	// absent says that only its pods are known, not the Node.
	absent bool
	// hasPods says that its pods are known although the list of pods is not.
	hasPods bool
	status  cause.Node
}

func convertNode(object any) (nodeRow, bool) {
	n, ok := object.(*corev1.Node)
	if !ok {
		return nodeRow{}, false
	}
	row := nodeRow{
		name: n.Name, created: n.CreationTimestamp.Time, labels: internMap(n.Labels), taints: n.Spec.Taints,
		kubelet: intern(n.Status.NodeInfo.KubeletVersion),
		status:  cause.Node{Created: n.CreationTimestamp.Time},
	}
	seen := map[corev1.NodeConditionType]bool{}
	for _, c := range n.Status.Conditions {
		condition := cause.Condition{
			Type: intern(string(c.Type)), Status: intern(string(c.Status)), Reason: intern(c.Reason), Message: intern(c.Message), Since: c.LastTransitionTime.Time,
		}
		if seen[c.Type] {
			continue // the API server takes a type twice
		}
		seen[c.Type] = true
		switch c.Type {
		case corev1.NodeReady:
			row.status.Ready = &condition
		case corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure:
			// A condition that is fine needs no words; most are.
			if c.Status != corev1.ConditionTrue {
				condition.Reason, condition.Message = "", ""
			}
			row.status.Pressure = append(row.status.Pressure, condition)
		default:
			if c.Status == corev1.ConditionTrue {
				row.status.Problems = append(row.status.Problems, condition)
			}
		}
	}
	row.status.Draining = n.DeletionTimestamp != nil
	for _, t := range n.Spec.Taints {
		row.status.Draining = row.status.Draining || t.Key == "ToBeDeletedByClusterAutoscaler"
	}
	for _, text := range n.Spec.PodCIDRs {
		if p, err := netip.ParsePrefix(text); err == nil {
			row.status.PodCIDRs = append(row.status.PodCIDRs, p.Masked())
		}
	}
	for _, a := range n.Status.Addresses {
		if ip, err := netip.ParseAddr(a.Address); err == nil && a.Type == corev1.NodeInternalIP {
			row.status.Addresses = append(row.status.Addresses, ip)
		}
	}
	return row, true
}

// embedded is whether the node's distribution runs kube-proxy inside its own
// process, where no pod can show it.
func (n *nodeRow) embedded() bool {
	_, microk8s := n.labels["microk8s.io/cluster"]
	return microk8s || strings.Contains(n.kubelet, "+k3s")
}

// virtual is whether the node has no kernel that rules could be written to.
func (n *nodeRow) virtual() bool {
	if n.labels["type"] == "virtual-kubelet" || n.labels["eks.amazonaws.com/compute-type"] == "fargate" {
		return true
	}
	for _, t := range n.taints {
		if t.Key == "virtual-kubelet.io/provider" {
			return true
		}
	}
	return false
}
