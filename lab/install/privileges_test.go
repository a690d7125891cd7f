package install

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
)

// privilege is one that the node role's manifest asks for, and which readers fail
// without it: no other does, and no cause is named.
type privilege struct {
	name    string
	without func(*corev1.PodSpec)
	readers []string
}

func capability(name string) func(*corev1.PodSpec) {
	return func(s *corev1.PodSpec) {
		c := s.Containers[0].SecurityContext.Capabilities
		c.Add = slices.DeleteFunc(c.Add, func(have corev1.Capability) bool { return string(have) == name })
	}
}

func volume(name string) func(*corev1.PodSpec) {
	return func(s *corev1.PodSpec) {
		s.Volumes = slices.DeleteFunc(s.Volumes, func(v corev1.Volume) bool { return v.Name == name })
		s.Containers[0].VolumeMounts = slices.DeleteFunc(s.Containers[0].VolumeMounts, func(v corev1.VolumeMount) bool { return v.Name == name })
	}
}

// privileges are all of them: a manifest with another fails the test. docs/security.md
// says what each is for.
var privileges = []privilege{
	{"SYS_PTRACE", capability("SYS_PTRACE"), []string{"api_kube_proxy", "needs", "process"}},
	{"NET_ADMIN", capability("NET_ADMIN"), []string{"audit", "rules"}},
	{"NET_RAW", capability("NET_RAW"), []string{"rules"}},
	{"hostPID", func(s *corev1.PodSpec) { s.HostPID = false }, []string{"process"}},
	{"hostNetwork", func(s *corev1.PodSpec) { s.HostNetwork = false }, []string{"process"}},
	{"user 0", func(s *corev1.PodSpec) { s.Containers[0].SecurityContext.RunAsUser = new(int64(65532)) }, []string{"api_kube_proxy", "audit", "inotify", "needs", "process", "rules"}},
	{"the mount run", volume("run"), []string{"runtime"}},
	{"the mount logs", volume("logs"), []string{"logs"}},
}

// asked are the privileges of a pod, as they are named here.
func asked(s *corev1.PodSpec) (out []string) {
	for _, c := range s.Containers[0].SecurityContext.Capabilities.Add {
		out = append(out, string(c))
	}
	if s.HostPID {
		out = append(out, "hostPID")
	}
	if s.HostNetwork {
		out = append(out, "hostNetwork")
	}
	if u := s.Containers[0].SecurityContext.RunAsUser; u != nil && *u == 0 {
		out = append(out, "user 0")
	}
	for _, v := range s.Volumes {
		out = append(out, "the mount "+v.Name)
	}
	return out
}

var failedReader = regexp.MustCompile(`(?m)^kproxy_reader_success\{.*reader="([^"]+)"\} 0$`)

// failingReaders are those of a page, in order.
func failingReaders(page string) (names []string) {
	for _, m := range failedReader.FindAllStringSubmatch(page, -1) {
		names = append(names, m[1])
	}
	slices.Sort(names)
	return names
}

// TestPrivileges takes each privilege of the node role away.
func TestPrivileges(t *testing.T) {
	s := start(t)
	const name = "kproxy-exporter-node"
	s.kubectl("apply", "--server-side", "-f", s.root+"/deploy/node.yaml")
	s.kubectl("-n", name, "rollout", "status", "daemonset/"+name, "--timeout=90s")
	m, err := s.Node("n1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Run("iptables-legacy", "-t", "nat", "-S"); err != nil { // it is there from then on
		t.Fatal(err)
	}
	sets := s.client.AppsV1().DaemonSets(name)
	whole, err := sets.Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	for _, p := range privileges {
		named = append(named, p.name)
	}
	if got := asked(&whole.Spec.Template.Spec); !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(named))) {
		t.Errorf("the manifest asks for %q, %q are proven here", got, named)
	}
	for _, p := range append([]privilege{{"nothing", func(*corev1.PodSpec) {}, nil}}, privileges...) {
		t.Run("without "+p.name, func(t *testing.T) {
			s.t = t
			if err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
				d, err := sets.Get(t.Context(), name, metav1.GetOptions{})
				if err != nil {
					return err
				}
				d.Spec.Template.Spec = *whole.Spec.Template.Spec.DeepCopy()
				p.without(&d.Spec.Template.Spec)
				_, err = sets.Update(t.Context(), d, metav1.UpdateOptions{})
				return err
			}); err != nil {
				t.Fatal(err)
			}
			s.kubectl("-n", name, "rollout", "status", "daemonset/"+name, "--timeout=90s")
			s.await("the readers", func(ctx context.Context) string {
				body, err := s.page(ctx, name, "n1", "http", "metrics")
				if err != nil {
					return err.Error()
				}
				failing := failingReaders(body)
				if strings.Contains(body, "kproxy_primary_cause{") && !strings.Contains(body, `kproxy_primary_cause{cause="none"`) {
					t.Errorf("a cause is named:\n%s", body)
				}
				if !slices.Equal(failing, p.readers) {
					return fmt.Sprintf("%q fail, want %q", failing, p.readers)
				}
				return ""
			})
			t.Logf("without %s: %q fail", p.name, p.readers)
		})
	}
}
