package collector

import (
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
	status  cause.Node
}

func convertNode(object any) (nodeRow, bool) {
	n, ok := object.(*corev1.Node)
	if !ok {
		return nodeRow{}, false
	}
	row := nodeRow{
		name: n.Name, created: n.CreationTimestamp.Time, labels: n.Labels, taints: n.Spec.Taints,
		kubelet: n.Status.NodeInfo.KubeletVersion,
		status:  cause.Node{Created: n.CreationTimestamp.Time},
	}
	for _, c := range n.Status.Conditions {
		condition := cause.Condition{
			Type: string(c.Type), Status: string(c.Status), Reason: c.Reason, Message: c.Message, Since: c.LastTransitionTime.Time,
		}
		switch c.Type {
		case corev1.NodeReady:
			row.status.Ready = &condition
		case corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure:
			// A condition that is fine needs no words; most are.
			if c.Status != corev1.ConditionTrue {
				condition.Reason, condition.Message = "", ""
			}
			row.status.Pressure = append(row.status.Pressure, condition)
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
