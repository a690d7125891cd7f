package matrix

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/kproxy-exporter/kproxy-exporter/lab/exporter"
	"github.com/kproxy-exporter/kproxy-exporter/lab/fault"
)

// right is one that deploy/cluster.yaml grants, and the reader that needs it.
type right struct {
	// namespace is the Role's; the ClusterRole's if empty.
	namespace, resource, reader string
	// lacks is how the log names it.
	lacks string
}

// rights are all of them: a Role with another fails the test.
var rights = []right{
	{"", "nodes", "nodes", "list,watch nodes"},
	{"", "daemonsets", "daemonsets", "list,watch daemonsets.apps"},
	{"kube-system", "pods", "pods", "list,watch pods in kube-system"},
	{"kube-system", "events", "events", "list,watch events in kube-system"},
	{"kube-system", "services", "services", "list,watch services in kube-system"},
	{"kube-system", "pods/log", "logs", "get pods/log"},
	{"kube-system", "configmaps", "configmap_kube-proxy", "list,watch configmaps kube-proxy in kube-system"},
	{"default", "events", "events_nodes", "list,watch events in default"},
}

// eachRight takes each right away: the reader that needs it says so, by its
// metric and in the log, and the others read on.
func eachRight(t *testing.T, w *world) {
	ctx := t.Context()
	client, err := w.Client()
	if err != nil {
		t.Fatal(err)
	}
	granted := 0
	for _, namespace := range []string{"", "kube-system", "default"} {
		rules, err := rulesOf(ctx, client, namespace)
		if err != nil {
			t.Fatal(err)
		}
		for _, rule := range rules {
			granted += len(rule.Resources)
		}
	}
	if granted != len(rights) {
		t.Errorf("deploy/cluster.yaml grants %d resources, %d are proven here", granted, len(rights))
	}
	for _, r := range rights {
		t.Run(strings.ReplaceAll(r.namespace+"."+r.resource, "/", "."), func(t *testing.T) {
			before, err := rulesOf(ctx, client, r.namespace)
			if err != nil {
				t.Fatal(err)
			}
			if err := setRules(ctx, client, r.namespace, without(before, r.resource)); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := setRules(ctx, client, r.namespace, before); err != nil {
					t.Error(err)
				}
			}()
			if r.reader == "logs" { // it reads only what ended
				f, err := fault.Find("bad-flag")
				if err != nil {
					t.Fatal(err)
				}
				if err := f.Inject(ctx, w.Cluster, node); err != nil {
					t.Fatal(err)
				}
				defer func() {
					if err := f.Heal(ctx, w.Cluster, node); err != nil {
						t.Error(err)
					}
				}()
			}
			if _, _, err := exporter.Stop(w.Cluster); err != nil {
				t.Fatal(err)
			}
			if err := exporter.Start(ctx, w.Cluster, w.root, exporterArgs...); err != nil {
				t.Fatal(err)
			}
			if err := awaitReader(ctx, w, r.reader); err != nil {
				t.Error(err)
			}
			log := exporter.Log(w.Cluster)
			if want := fmt.Sprintf(`lacks="%s"`, r.lacks); !strings.Contains(log, want) {
				t.Errorf("the log does not say %s:\n%s", want, log)
			}
		})
	}
	if _, err := w.await(ctx, healWithin, func(s state) string { return s.notSilent(2) }); err != nil {
		t.Errorf("with all rights again: %v", err)
	}
}

// awaitReader waits until this reader alone fails; its kin of the same right may too.
func awaitReader(ctx context.Context, w *world, reader string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	kin, _, _ := strings.Cut(reader, "_")
	for {
		body, err := w.get(ctx, "/metrics")
		var failing []string
		for _, line := range strings.Split(body, "\n") {
			if name, ok := strings.CutPrefix(line, `kproxy_reader_success{reader="`); ok && strings.HasSuffix(line, "} 0") {
				failing = append(failing, strings.TrimSuffix(name, `"} 0`))
			}
		}
		others := slices.DeleteFunc(slices.Clone(failing), func(n string) bool { return strings.HasPrefix(n, kin) })
		if slices.Contains(failing, reader) && len(others) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("reader %s should fail alone; failing are %v (%w)", reader, failing, err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func rulesOf(ctx context.Context, client *kubernetes.Clientset, namespace string) ([]rbacv1.PolicyRule, error) {
	if namespace == "" {
		r, err := client.RbacV1().ClusterRoles().Get(ctx, exporter.Name, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		return r.Rules, nil
	}
	r, err := client.RbacV1().Roles(namespace).Get(ctx, exporter.Name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	return r.Rules, nil
}

func setRules(ctx context.Context, client *kubernetes.Clientset, namespace string, rules []rbacv1.PolicyRule) error {
	if namespace == "" {
		r, err := client.RbacV1().ClusterRoles().Get(ctx, exporter.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		r.Rules = rules
		_, err = client.RbacV1().ClusterRoles().Update(ctx, r, metav1.UpdateOptions{})
		return err
	}
	r, err := client.RbacV1().Roles(namespace).Get(ctx, exporter.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	r.Rules = rules
	_, err = client.RbacV1().Roles(namespace).Update(ctx, r, metav1.UpdateOptions{})
	return err
}

// without is the rules less one resource.
func without(rules []rbacv1.PolicyRule, resource string) []rbacv1.PolicyRule {
	var out []rbacv1.PolicyRule
	for _, r := range rules {
		r.Resources = slices.DeleteFunc(slices.Clone(r.Resources), func(s string) bool { return s == resource })
		if len(r.Resources) > 0 {
			out = append(out, r)
		}
	}
	return out
}
