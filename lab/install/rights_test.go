package install

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// rights are the rules of a Role or ClusterRole, by what they are for, and which readers
// of a role's fail without each; those of the cluster role itself are taken away in
// lab/matrix.
var rights = []struct {
	kind, namespace, name string
	// in is the namespace of the pods that have them; watched says that these are started
	// anew, as a watch that stands is not asked again for its right.
	in      string
	watched bool
	rules   []rightRule
}{
	{"clusterrole", "", "kproxy-exporter-node", "kproxy-exporter-node", true, []rightRule{
		{"list, watch services", "", []string{"services"}},
		{"list, watch endpointslices", "", []string{"endpointslices"}},
	}},
	{"clusterrole", "", "kproxy-exporter-probe", "kproxy-exporter-probe", true, []rightRule{
		{"list, watch services", "", []string{"services"}},
		{"list, watch endpointslices", "", []string{"endpointslices"}},
	}},
	{"role", "kproxy-exporter", "kproxy-exporter-canary", "kproxy-exporter", false, []rightRule{
		{"get the canary's service", "", []string{"canary"}},
		{"create its endpointslice", "endpointslice", []string{"canary"}},
		{"get, update its endpointslice", "", []string{"canary"}},
		{"create its lease", "lease", []string{"canary"}},
		{"get, update its lease", "", []string{"canary"}},
	}},
	{"role", "kproxy-exporter-node", "kproxy-exporter-canary", "kproxy-exporter", false, []rightRule{
		{"list the responders' endpointslices", "", []string{"canary"}},
	}},
}

// rightRule is one rule; lost is a kind of which an object of the canary's is taken away
// with it, so that it has to be made anew.
type rightRule struct {
	what, lost string
	readers    []string
}

// TestRights takes each right of the node role, the prober and the canary away: what needs
// it fails and says so, nothing else does, no cause is named, and it comes back with it.
func TestRights(t *testing.T) {
	s := start(t)
	s.kubectl("create", "namespace", "kproxy-exporter")
	s.helm("install", "kproxy-exporter", s.chart(), "--namespace", "kproxy-exporter", "--set", image+",probe.enabled=true,canary.enabled=true,canary.interval=10s", "--wait", "--timeout", "2m")
	for _, r := range rights {
		s.t = t
		whole := s.kubectl("get", r.kind, r.name, "-n", r.namespace, "-o", "jsonpath={.rules}")
		if n := strings.Count(whole, `"verbs"`); n != len(r.rules) {
			t.Errorf("%s %s/%s has %d rules, %d are proven here", r.kind, r.namespace, r.name, n, len(r.rules))
			continue
		}
		for i, rule := range r.rules {
			t.Run(r.in+" without "+rule.what, func(t *testing.T) {
				s.t = t
				s.awaitFailing(r.in, nil)
				s.kubectl("patch", r.kind, r.name, "-n", r.namespace, "--type=json", "-p", fmt.Sprintf(`[{"op":"remove","path":"/rules/%d"}]`, i))
				switch rule.lost {
				case "endpointslice":
					s.kubectl("-n", "kproxy-exporter", "delete", "endpointslice", "kproxy-exporter-canary-ipv4")
				case "lease":
					s.kubectl("-n", "kproxy-exporter", "delete", "lease", "kproxy-exporter-canary")
				}
				if r.watched {
					s.restart(r.in)
				}
				s.awaitFailing(r.in, rule.readers)
				t.Logf("%q fail", rule.readers)
				s.kubectl("patch", r.kind, r.name, "-n", r.namespace, "--type=json", "-p", `[{"op":"replace","path":"/rules","value":`+whole+`}]`)
				s.awaitFailing(r.in, nil)
			})
		}
	}
}

// restart starts the pods of a namespace anew; they may not become ready.
func (s *site) restart(namespace string) {
	s.t.Helper()
	pods, err := s.client.CoreV1().Pods(namespace).List(s.t.Context(), metav1.ListOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	old := map[types.UID]bool{}
	for _, p := range pods.Items {
		old[p.UID] = true
		s.kubectl("-n", namespace, "delete", "pod", p.Name)
	}
	s.await("other pods", func(ctx context.Context) string {
		pods, err := s.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
		if err != nil || len(pods.Items) != len(old) || slices.ContainsFunc(pods.Items, func(p corev1.Pod) bool { return old[p.UID] }) {
			return fmt.Sprintf("%d pods, %v", len(pods.Items), err)
		}
		return ""
	})
}

// awaitFailing waits until these readers fail on both nodes, and no other; no cause may
// be named meanwhile.
func (s *site) awaitFailing(namespace string, readers []string) {
	s.t.Helper()
	s.await(fmt.Sprintf("%q fail", readers), func(ctx context.Context) string {
		nodes := []string{"n1", "n2"}
		if namespace == "kproxy-exporter" {
			nodes = []string{""}
		}
		for _, n := range nodes {
			body, err := s.page(ctx, namespace, n, "http", "metrics")
			if err != nil {
				return err.Error()
			}
			failing := failingReaders(body)
			for line := range strings.Lines(body) {
				if strings.HasPrefix(line, "kproxy_cause_active{") && strings.HasSuffix(line, " 1\n") {
					s.t.Errorf("a cause is named: %s", line)
				}
			}
			if !slices.Equal(failing, readers) {
				return fmt.Sprintf("%s: %q fail", n, failing)
			}
		}
		return ""
	})
}
