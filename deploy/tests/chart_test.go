// Package tests tests what users install: the Helm chart, and the plain manifests
// that are rendered from it.
package tests

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"
)

const (
	helmBinary = "../../tools/bin/helm"
	chartDir   = "../kproxy-exporter"
	deployDir  = ".."
	imageArgs  = "image.repository=kproxy.lab/kproxy-exporter,image.tag=lab"
)

var update = flag.Bool("update", false, "write the rendered manifests")

// helm runs it with no configuration of whoever runs the tests.
func helm(t *testing.T, env []string, args ...string) (string, error) {
	t.Helper()
	home := t.TempDir()
	cmd := exec.CommandContext(t.Context(), helmBinary, args...)
	cmd.Env = append(append(os.Environ(), "HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_CACHE_HOME="+home, "HELM_DATA_HOME="+home), env...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("helm %s: %w: %s", strings.Join(args, " "), err, &errOut)
	}
	return out.String(), nil
}

// TestManifestsAreRendered wants that the plain manifests are what the chart renders.
func TestManifestsAreRendered(t *testing.T) {
	into := t.TempDir()
	if *update {
		into = deployDir
	}
	absolute, err := filepath.Abs(into)
	if err != nil {
		t.Fatal(err)
	}
	binary, err := filepath.Abs(helmBinary)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), filepath.Join(deployDir, "render.sh"), binary, absolute).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	files, err := filepath.Glob(filepath.Join(into, "*.yaml"))
	if err != nil || len(files) < 5 {
		t.Fatalf("%v %v", files, err)
	}
	for _, f := range files {
		got, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(filepath.Join(deployDir, filepath.Base(f)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("deploy/%s is not what the chart renders: run 'make deploy-update'", filepath.Base(f))
		}
	}
}

// everything switches all on; others are what users may want.
const everything = "probe.enabled=true,canary.enabled=true,podMonitor.enabled=true,prometheusRule.enabled=true,dashboards.enabled=true,web.configSecret=web,cluster.replicas=2"

// valueSets are values by name, and texts that what they render to holds or lacks.
var valueSets = map[string]struct {
	set          string
	holds, lacks []string
}{
	"the defaults":                     {"", []string{"args: [cluster]", "args: [node, --path.rootfs=/host]", "name: kproxy-exporter-node"}, []string{"kind: PodMonitor", "kproxy-exporter-probe", "canary", "volumeMounts: null", "kind: ConfigMap\n"}},
	"everything":                       {everything, []string{"--web.config.file=/etc/kproxy-exporter/web/web.yml", "tcpSocket", "--canary.interval=5m", "kind: PrometheusRule", "grafana_dashboard: \"1\"", "replicas: 2", "topologyKey: kubernetes.io/hostname"}, []string{"httpGet"}},
	"two replicas placed by hand":      {"cluster.replicas=2,cluster.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].key=a,cluster.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].operator=Exists", []string{"nodeAffinity"}, []string{"topologySpreadConstraints"}},
	"monitoring by TLS":                {"podMonitor.enabled=true,podMonitor.endpoint.scheme=https,podMonitor.endpoint.interval=10s,podMonitor.endpoint.relabelings[0].regex=b,podMonitor.endpoint.relabelings[0].action=labeldrop", []string{"scheme: https", "interval: 10s", "    - replacement: kproxy-exporter\n      targetLabel: job\n    - action: labeldrop\n      regex: b\n"}, nil},
	"serviceMonitor":                   {"serviceMonitor.enabled=true,serviceMonitor.labels.release=prom,serviceMonitor.interval=30s", []string{"kind: ServiceMonitor", "release: prom", "interval: 30s", "clusterIP: None", "kproxy-exporter-node-metrics"}, []string{"kproxy-exporter-probe-metrics"}},
	"only the cluster role, elsewhere": {"node.enabled=false,kubeProxy.namespace=proxies,kubeProxy.selectors={a=b,c=d}", []string{`"--kube-proxy.selector=a=b", "--kube-proxy.selector=c=d"`, "--kube-proxy.namespace=proxies", "namespace: proxies"}, []string{"hostNetwork", "kube-system", "privileged"}},
	"a node role that may see little":  {"node.see.kernel=false,node.see.processes=false,node.see.logs=false,node.see.runtime=false", []string{"--audit=off", "drop:"}, []string{"NET_ADMIN", "SYS_PTRACE", "hostPath", "hostPID", "add:"}},
	"an audit of the canary":           {"node.audit=canary", []string{"--audit=canary", "NET_ADMIN"}, nil},
	"no audit, as YAML has off":        {"node.audit=off", []string{"--audit=off", "NET_ADMIN"}, nil},
	"one namespace":                    {"node.namespace=kproxy-exporter,probe.enabled=true,probe.namespace=kproxy-exporter,canary.enabled=true", []string{"--responder.service=kproxy-exporter/kproxy-exporter-responder"}, []string{"kind: Namespace"}},
	"a digest and secrets for it":      {"image.digest=sha256:" + digest + ",image.pullSecrets[0].name=pull", []string{"image: kproxy.lab/kproxy-exporter@sha256:" + digest, "- name: pull"}, nil},
}

const digest = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func render(t *testing.T, set string, more ...string) (string, error) {
	t.Helper()
	args := append([]string{"template", "kproxy-exporter", chartDir, "--namespace", "kproxy-exporter", "--set", imageArgs}, more...)
	if set != "" {
		args = append(args, "--set", set)
	}
	return helm(t, nil, args...)
}

// TestRenders lints the chart, and renders it, with many values.
func TestRenders(t *testing.T) {
	for name, v := range valueSets {
		t.Run(name, func(t *testing.T) {
			if out, err := helm(t, nil, "lint", "--strict", chartDir, "--set", imageArgs+","+v.set); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			out, err := render(t, v.set)
			if err != nil {
				t.Fatal(err)
			}
			for _, text := range v.holds {
				if !strings.Contains(out, text) {
					t.Errorf("no %q in\n%s", text, out)
				}
			}
			for _, text := range v.lacks {
				if strings.Contains(out, text) {
					t.Errorf("%q in\n%s", text, out)
				}
			}
			seen := map[string]bool{}
			for _, document := range strings.Split(out, "\n---\n") {
				is := checkDocument(t, document)
				if is != "" && seen[is] {
					t.Errorf("%s is there twice", is)
				}
				seen[is] = true
			}
		})
	}
}

// checkDocument wants that what no API server of the lab knows is well formed, and
// that each object says where it is and whose; it returns its kind, namespace and name.
func checkDocument(t *testing.T, document string) string {
	t.Helper()
	var is struct {
		Kind     string
		Metadata struct {
			Name, Namespace string
			Labels          map[string]string
		}
	}
	if err := yaml.Unmarshal([]byte(document), &is); err != nil {
		t.Errorf("%v\n%s", err, document)
		return ""
	}
	strict := map[string]any{
		"PodMonitor": &monitoringv1.PodMonitor{}, "ServiceMonitor": &monitoringv1.ServiceMonitor{}, "PrometheusRule": &monitoringv1.PrometheusRule{},
		"ConfigMap": &corev1.ConfigMap{}, "Service": &corev1.Service{}, "ServiceAccount": &corev1.ServiceAccount{}, "Namespace": &corev1.Namespace{},
		"Deployment": &appsv1.Deployment{}, "DaemonSet": &appsv1.DaemonSet{}, "NetworkPolicy": &networkingv1.NetworkPolicy{}, "PodDisruptionBudget": &policyv1.PodDisruptionBudget{},
		"ClusterRole": &rbacv1.ClusterRole{}, "ClusterRoleBinding": &rbacv1.ClusterRoleBinding{}, "Role": &rbacv1.Role{}, "RoleBinding": &rbacv1.RoleBinding{},
	}
	if is.Kind == "" {
		return "" // a comment
	}
	into := strict[is.Kind]
	if into == nil {
		t.Errorf("kind %q is not checked", is.Kind)
		return ""
	}
	if err := yaml.UnmarshalStrict([]byte(document), into); err != nil {
		t.Errorf("%s %s: %v", is.Kind, is.Metadata.Name, err)
	}
	name := is.Kind + " " + is.Metadata.Namespace + "/" + is.Metadata.Name
	if is.Kind == "Namespace" {
		return name
	}
	if !strings.HasPrefix(is.Kind, "Cluster") && is.Metadata.Namespace == "" {
		t.Errorf("%s %s says no namespace", is.Kind, is.Metadata.Name)
	}
	if is.Metadata.Labels["app.kubernetes.io/instance"] == "" {
		t.Errorf("%s %s has no label of its release", is.Kind, is.Metadata.Name)
	}
	return name
}

// TestOtherNames wants that releases with other names do not meet, and that the roles
// find each other.
func TestOtherNames(t *testing.T) {
	out, err := helm(t, nil, "template", "mine", chartDir, "--namespace", "tools", "--set", imageArgs+",canary.enabled=true")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"name: mine-kproxy-exporter\n", "namespace: tools-node", "--canary.service=tools/mine-kproxy-exporter-canary", "--responder.service=tools-node/mine-kproxy-exporter-responder",
		"resourceNames: [mine-kproxy-exporter-canary-ipv4, mine-kproxy-exporter-canary-ipv6]",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if strings.Contains(out, "name: kproxy-exporter\n") && !strings.Contains(out, "app.kubernetes.io/name: kproxy-exporter\n") {
		t.Errorf("a name that every release has:\n%s", out)
	}
}

// TestNames is of names that Helm takes and YAML reads as something else, and of the
// longest: what is rendered is what an API server takes.
func TestNames(t *testing.T) {
	long := strings.Repeat("r", 53) // what Helm allows
	for name, tc := range map[string]struct{ release, namespace, set string }{
		"numbers":         {"123", "456", "node.namespace=789,probe.namespace=1e5,kubeProxy.namespace=0x10,web.configSecret=5,node.priorityClassName=7"},
		"words":           {"true", "null", "node.namespace=yes,probe.namespace=on,kubeProxy.namespace=n"},
		"a float":         {"1e5", "1e6", ""},
		"the longest":     {long, "tools", ""},
		"the longest, ns": {long, strings.Repeat("n", 63), "node.namespace=x,probe.namespace=y"},
	} {
		for _, monitor := range []string{"podMonitor", "serviceMonitor"} {
			set := imageArgs + "," + strings.Replace(everything, "podMonitor", monitor, 1)
			out, err := helm(t, nil, "template", tc.release, chartDir, "--namespace", tc.namespace, "--set", set, "--set-string", tc.set)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			for _, document := range strings.Split(out, "\n---\n") {
				is := checkDocument(t, document)
				for _, part := range strings.FieldsFunc(is, func(r rune) bool { return r == ' ' || r == '/' }) {
					if len(part) > 63 && !strings.HasPrefix(is, "PrometheusRule") {
						t.Errorf("%s: %s is longer than a name may be", name, is)
					}
				}
			}
		}
	}
	if _, err := helm(t, nil, "template", "a", chartDir, "--namespace", strings.Repeat("n", 60), "--set", imageArgs); err == nil || !strings.Contains(err.Error(), "node.namespace") {
		t.Errorf("a namespace to which nothing can be added: %v", err)
	}
}

// TestTwoReleases wants that what selects pods selects those of its own release: two
// budgets over one pod would keep a drain for ever.
func TestTwoReleases(t *testing.T) {
	for _, monitor := range []string{"podMonitor", "serviceMonitor"} {
		out, err := helm(t, nil, "template", "mine", chartDir, "--namespace", "tools", "--set", imageArgs+","+strings.Replace(everything, "podMonitor", monitor, 1))
		if err != nil {
			t.Fatal(err)
		}
		selectors := 0
		for _, document := range strings.Split(out, "\n---\n") {
			var is struct {
				Kind string
				Spec struct {
					Selector, PodSelector map[string]any
				}
			}
			if err := yaml.Unmarshal([]byte(document), &is); err != nil {
				t.Fatal(err)
			}
			for _, selector := range []map[string]any{is.Spec.Selector, is.Spec.PodSelector} {
				if len(selector) == 0 {
					continue
				}
				selectors++
				if text := fmt.Sprint(selector); !strings.Contains(text, "app.kubernetes.io/instance") || !strings.Contains(text, "mine") {
					t.Errorf("%s selects pods of every release: %s", is.Kind, text)
				}
			}
		}
		if selectors < 8 {
			t.Errorf("%d selectors were found", selectors)
		}
	}
	out, err := render(t, "podMonitor.enabled=true,podMonitor.labels.app\\.kubernetes\\.io/instance=prom")
	if err != nil || strings.Count(out, "instance: prom\n") != 1 {
		t.Errorf("a label of the user's, in place of ours: %v\n%s", err, out)
	}
}

// TestStackSelects installs as the README says, for kube-prometheus-stack: its
// Prometheus selects objects with the label release alone. The notes name the
// labels, and how to find which ones are needed.
func TestStackSelects(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, command, _ := strings.Cut(string(readme), "helm install kproxy-exporter deploy/kproxy-exporter")
	command, _, _ = strings.Cut(command, "```")
	args := []string{"install", "mine", chartDir, "--dry-run=client", "--namespace", "tools"}
	for _, word := range strings.Fields(command) {
		if strings.Contains(word, "=") {
			args = append(args, "--set", word)
		}
	}
	out, err := helm(t, nil, args...)
	if err != nil {
		t.Fatal(err)
	}
	manifests, notes, _ := strings.Cut(out, "NOTES:")
	for _, kind := range []string{"PodMonitor", "PrometheusRule"} {
		_, object, found := strings.Cut(manifests, "kind: "+kind+"\n")
		metadata, _, _ := strings.Cut(object, "\nspec:")
		if !found || !strings.Contains(metadata, "release: STACK") {
			t.Errorf("%s has not the label release:\n%s", kind, metadata)
		}
	}
	for _, want := range []string{"podMonitorSelector", "ruleSelector", "podMonitor.labels", "release=NAME"} {
		if !strings.Contains(notes, want) {
			t.Errorf("the notes do not name %s:\n%s", want, notes)
		}
	}
}

// TestGoodValues is of what a schema must let through.
func TestGoodValues(t *testing.T) {
	for _, set := range []string{
		"canary.enabled=true,canary.interval=1h30s", "canary.enabled=true,canary.interval=1h0m", "canary.enabled=true,canary.interval=90s",
		"podMonitor.enabled=true,podMonitor.interval=1d", "web.configSecret=a.b", "node.maxUnavailable=1", "node.maxUnavailable=100%",
		"image.repository=localhost:5000/a/b-c_d.e", "image.repository=kproxy-exporter", "image.tag=v1.2.3_x",
		"cluster.resources.limits.cpu=0.5,cluster.resources.limits.memory=1e9", "kubeProxy.selectors={app in (a),!b}",
		"cluster.tolerations[0].operator=Exists,cluster.tolerations[0].effect=NoExecute,cluster.tolerations[0].tolerationSeconds=5",
		"cluster.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight=1",
	} {
		if _, err := render(t, set); err != nil {
			t.Errorf("%s: %v", set, err)
		}
	}
}

// TestBadValues wants a clear word for what cannot be.
func TestBadValues(t *testing.T) {
	for name, tc := range map[string]struct{ set, says string }{
		"no image":                                {"image.repository=", "where the cluster finds the image"},
		"a misspelt value":                        {"nodes.enabled=false", "nodes"},
		"an audit that is not":                    {"node.audit=some", "audit"},
		"a bad digest":                            {"image.digest=latest", "digest"},
		"a canary without nodes":                  {"canary.enabled=true,node.enabled=false", "it takes cluster.enabled"},
		"both monitors":                           {"podMonitor.enabled=true,serviceMonitor.enabled=true", "scraped twice"},
		"an interval that is not":                 {"canary.interval=soon", "interval"},
		"a port that is not ours":                 {"podMonitor.enabled=true,podMonitor.endpoint.port=http", "port"},
		"a label that is no text":                 {"podMonitor.labels.a=1", "labels"},
		"an interval too short":                   {"canary.interval=5s", "interval"},
		"one privileged and restricted namespace": {"node.namespace=x,probe.namespace=x,probe.enabled=true", "give the prober one of its own"},
		"many replicas":                           {"cluster.replicas=50", "replicas"},
		"no node at a time":                       {"node.maxUnavailable=0%", "maxUnavailable"},
		"more than all nodes":                     {"probe.maxUnavailable=1000%", "maxUnavailable"},
		"an interval too long":                    {"canary.interval=9999999h", "interval"},
		"a selector that is none":                 {"kubeProxy.selectors={==}", "selectors"},
		"units in another order":                  {"podMonitor.interval=1s1h", "interval"},
		"a toleration that is a word":             {"cluster.tolerations[0]=bar", "tolerations"},
		"an affinity that is none":                {"cluster.affinity.foo=bar", "affinity"},
		"memory that is no quantity":              {"cluster.resources.limits.memory=lots", "memory"},
		"a repository with its tag":               {"image.repository=reg/k:v1", "repository"},
		"a tag with a space":                      {"image.tag=a b", "tag"},
		"a class that is no name":                 {"node.priorityClassName=A B", "priorityClassName"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := render(t, tc.set); err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("it says %v", err)
			}
		})
	}
}
