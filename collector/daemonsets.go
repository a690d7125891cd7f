package collector

import (
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	schedulinghelpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"

	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
)

// replacements maps the DaemonSets of programs that replace kube-proxy to the
// reason that is reported.
var replacements = map[string]string{
	"cilium":       cause.ReasonCilium,
	"anetd":        cause.ReasonGKE,
	"ovnkube-node": cause.ReasonOVN,
	"antrea-agent": cause.ReasonAntrea,
}

// replacementNamespaces are those into which these programs are installed, besides
// kube-proxy's own: by their documents, charts and operators. A DaemonSet of the
// same name elsewhere is a tenant's.
var replacementNamespaces = []string{"kube-system", "cilium", "cilium-system", "calico-system", "openshift-ovn-kubernetes", "ovn-kubernetes"}

// daemonSetRow is what is kept of a DaemonSet: kube-proxy's own, or one that
// takes its place.
type daemonSetRow struct {
	namespace, name string
	created         time.Time
	// replaces is the reason that a replacement gives; empty for kube-proxy.
	replaces     string
	nodeSelector map[string]string
	affinity     *corev1.Affinity
	tolerations  []corev1.Toleration
	// rollingOut says that its pods are being replaced.
	rollingOut bool
}

// convertDaemonSet returns what makes rows of the DaemonSets that matter:
// those called kube-proxy, or whose pods carry one of the selectors' labels.
func convertDaemonSet(namespace string, matches func(podLabels map[string]string) bool) func(any) (daemonSetRow, bool) {
	return func(object any) (daemonSetRow, bool) {
		d, ok := object.(*appsv1.DaemonSet)
		if !ok {
			return daemonSetRow{}, false
		}
		row := daemonSetRow{namespace: d.Namespace, name: d.Name, created: d.CreationTimestamp.Time}
		spec := d.Spec.Template.Spec
		row.nodeSelector, row.affinity = spec.NodeSelector, spec.Affinity
		row.tolerations = append(slices.Clone(spec.Tolerations), addedTolerations(spec.HostNetwork)...)
		if d.Namespace == namespace || slices.Contains(replacementNamespaces, d.Namespace) {
			reason := replacements[d.Name]
			if d.Name == "calico-node" && hasEnv(d, "FELIX_BPFENABLED", "true") {
				reason = cause.ReasonCalico
			}
			if reason != "" {
				row.replaces = reason
				return row, d.Status.DesiredNumberScheduled > 0
			}
		}
		if d.Namespace != namespace || !matches(d.Spec.Template.Labels) {
			return daemonSetRow{}, false
		}
		s := d.Status
		row.rollingOut = d.Spec.UpdateStrategy.Type != appsv1.OnDeleteDaemonSetStrategyType &&
			(s.ObservedGeneration < d.Generation || s.UpdatedNumberScheduled < s.DesiredNumberScheduled)
		return row, true
	}
}

func hasEnv(d *appsv1.DaemonSet, name, value string) bool {
	for _, c := range d.Spec.Template.Spec.Containers {
		for _, e := range c.Env {
			if e.Name == name && strings.EqualFold(e.Value, value) {
				return true
			}
		}
	}
	return false
}

// addedTolerations are those that the DaemonSet controller gives every pod
// (pkg/controller/daemon/util.AddOrUpdateDaemonPodTolerations).
func addedTolerations(hostNetwork bool) []corev1.Toleration {
	out := []corev1.Toleration{
		{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute},
		{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute},
		{Key: corev1.TaintNodeDiskPressure, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
		{Key: corev1.TaintNodeMemoryPressure, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
		{Key: corev1.TaintNodePIDPressure, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
		{Key: corev1.TaintNodeUnschedulable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
	}
	if hostNetwork {
		out = append(out, corev1.Toleration{Key: corev1.TaintNodeNetworkUnavailable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule})
	}
	return out
}

// placement is what this DaemonSet says about a node, judged by the
// scheduler's own functions.
func (d *daemonSetRow) placement(n *nodeRow) (cause.Placement, bool) {
	p := cause.Placement{DaemonSet: d.namespace + "/" + d.name, Created: d.created, RollingOut: d.rollingOut}
	object := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.name, Labels: n.labels}}
	selected, err := nodeaffinity.NewRequiredNodeAffinity(d.nodeSelector, d.affinity).Match(object)
	p.Selected = selected && err == nil
	if !p.Selected {
		p.Unselected = d.unselected(object)
		return p, d.excludes(object)
	}
	matters := func(t *corev1.Taint) bool {
		return t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute
	}
	if taint, found := schedulinghelpers.FindMatchingUntoleratedTaint(klog.Background(), n.taints, d.tolerations, matters, true); found {
		p.Untolerated = taint.ToString()
	}
	return p, false
}

// unselected names the first requirement that the node does not meet.
func (d *daemonSetRow) unselected(n *corev1.Node) string {
	keys := make([]string, 0, len(d.nodeSelector))
	for k := range d.nodeSelector {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		if have, ok := n.Labels[k]; !ok {
			return fmt.Sprintf("nodeSelector wants label %s=%s and the node has none", k, d.nodeSelector[k])
		} else if have != d.nodeSelector[k] {
			return fmt.Sprintf("nodeSelector wants label %s=%s and the node has %s", k, d.nodeSelector[k], have)
		}
	}
	var terms []string
	for _, t := range requiredTerms(d.affinity) {
		var wants []string
		for _, r := range append(slices.Clone(t.MatchExpressions), t.MatchFields...) {
			wants = append(wants, strings.TrimSpace(fmt.Sprintf("%s %s %s", r.Key, r.Operator, strings.Join(r.Values, ","))))
		}
		terms = append(terms, strings.Join(wants, " and "))
	}
	return "node affinity wants " + strings.Join(terms, ", or ")
}

// excludes is whether the node is left out on purpose: another operating
// system, or a kind of node that the affinity names as not its own. A label
// that should be there and is not is no purpose.
func (d *daemonSetRow) excludes(n *corev1.Node) bool {
	if system := n.Labels[corev1.LabelOSStable]; system != "" && d.nodeSelector[corev1.LabelOSStable] != "" && system != d.nodeSelector[corev1.LabelOSStable] {
		return true
	}
	// Calico's documents switch kube-proxy off with this label, which no node has.
	if _, off := d.nodeSelector["non-calico"]; off {
		return true
	}
	// With the expressions that name others taken away, would it match?
	if ok, err := nodeaffinity.NewRequiredNodeAffinity(d.nodeSelector, nil).Match(n); err != nil || !ok {
		return false
	}
	terms := requiredTerms(d.affinity)
	relaxed := make([]corev1.NodeSelectorTerm, 0, len(terms))
	for _, t := range terms {
		var keep []corev1.NodeSelectorRequirement
		for _, r := range t.MatchExpressions {
			if r.Operator != corev1.NodeSelectorOpNotIn && r.Operator != corev1.NodeSelectorOpDoesNotExist {
				keep = append(keep, r)
			}
		}
		if len(keep) == 0 && len(t.MatchFields) == 0 {
			return true
		}
		relaxed = append(relaxed, corev1.NodeSelectorTerm{MatchExpressions: keep, MatchFields: t.MatchFields})
	}
	if len(relaxed) == 0 {
		return false
	}
	ok, err := nodeaffinity.NewRequiredNodeAffinity(nil, &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: relaxed},
	}}).Match(n)
	return err == nil && ok
}

func requiredTerms(a *corev1.Affinity) []corev1.NodeSelectorTerm {
	if a == nil || a.NodeAffinity == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return nil
	}
	return a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
}
