// Package install installs the exporter into a real cluster as users do, with Helm
// and with the plain manifests, changes it, and takes it away.
package install

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/kproxy-exporter/kproxy-exporter/lab/cluster"
	"github.com/kproxy-exporter/kproxy-exporter/lab/exporter"
	"github.com/kproxy-exporter/kproxy-exporter/lab/fault"
	"github.com/kproxy-exporter/kproxy-exporter/lab/monitoring"
)

// TestMain refuses loudly where no lab can be.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "NOT RUN: an installation needs root and Linux for a real cluster; nothing of it was tested")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// site is a cluster, and what is asked of it.
type site struct {
	*cluster.Cluster
	t      *testing.T
	root   string
	client kubernetes.Interface
}

const (
	within = 2 * time.Minute
	image  = "image.repository=kproxy.lab/kproxy-exporter,image.tag=lab"
	all    = image + ",probe.enabled=true,canary.enabled=true,canary.interval=10s,dashboards.enabled=true,podMonitor.enabled=true,prometheusRule.enabled=true"
)

var namespaces = []string{"kproxy-exporter", "kproxy-exporter-node", "kproxy-exporter-probe"}

func start(t *testing.T) *site {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir, bin := filepath.Join(root, ".lab-install"), filepath.Join(root, "lab/bin")
	down := func() {
		if err := cluster.Down(dir); err != nil {
			t.Errorf("lab down: %v", err)
		}
	}
	down()
	t.Cleanup(down)
	c, err := cluster.Up(t.Context(), cluster.Config{Dir: dir, Bin: bin, Nodes: 2, Mode: "nftables", Forwards: monitoring.Forwards()}, cluster.NewProgress(logWriter{t}, filepath.Join(bin, "timings.json")))
	if err != nil {
		t.Fatal(err)
	}
	s := &site{Cluster: c, t: t, root: root}
	if s.client, err = c.Client(); err != nil {
		t.Fatal(err)
	}
	if err := exporter.LoadImage(c, root); err != nil {
		t.Fatal(err)
	}
	return s
}

type logWriter struct{ t *testing.T }

func (l logWriter) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimRight(string(b), "\n"))
	return len(b), nil
}

func (s *site) kubectl(args ...string) string {
	s.t.Helper()
	out, err := s.Kubectl(s.t.Context(), "", args...)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// helm runs it as whoever has the cluster's kubeconfig, and fails the test if it fails.
func (s *site) helm(args ...string) string {
	s.t.Helper()
	home := s.t.TempDir()
	cmd := exec.CommandContext(s.t.Context(), filepath.Join(s.root, "tools/bin/helm"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+s.Kubeconfig(), "HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_CACHE_HOME="+home, "HELM_DATA_HOME="+home)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		s.t.Fatalf("helm %s: %v\n%s\n%s", strings.Join(args, " "), err, &errOut, s.pods())
	}
	if args[0] != "template" {
		s.t.Logf("helm %s\n%s", strings.Join(args, " "), &out)
	}
	return out.String()
}

func (s *site) chart() string { return filepath.Join(s.root, "deploy/kproxy-exporter") }

func (s *site) pods() string {
	out, _ := s.Kubectl(context.WithoutCancel(s.t.Context()), "", "get", "pods", "-A", "-o", "wide")
	events, _ := s.Kubectl(context.WithoutCancel(s.t.Context()), "", "get", "events", "-A", "--field-selector", "type=Warning")
	return out + events
}

// objects are all that the API server has but what comes and goes by itself, with its
// version if something should not even be changed.
func (s *site) objects() []string {
	s.t.Helper()
	kinds := strings.Fields(s.kubectl("api-resources", "--verbs=list", "-o", "name"))
	kinds = slices.DeleteFunc(kinds, func(k string) bool {
		return strings.HasPrefix(k, "events") || strings.HasPrefix(k, "leases") || strings.HasPrefix(k, "leasecandidates") || strings.HasPrefix(k, "componentstatuses") || strings.HasPrefix(k, "controllerrevisions")
	})
	var out []string
	for line := range strings.Lines(s.kubectl("get", strings.Join(kinds, ","), "-A", "-o", `go-template={{range .items}}{{.kind}} {{.metadata.namespace}}/{{.metadata.name}}{{"\n"}}{{end}}`, "--ignore-not-found")) {
		out = append(out, strings.TrimSpace(line))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// await waits until lacks is "".
func (s *site) await(what string, lacks func(context.Context) string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), within)
	defer cancel()
	for {
		last := lacks(ctx)
		if last == "" {
			return
		}
		select {
		case <-ctx.Done():
			s.t.Fatalf("%s: %s\n%s", what, last, s.pods())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// page is what a pod of a role on a node answers; the node may be empty.
func (s *site) page(ctx context.Context, namespace, node, scheme, path string) (string, error) {
	pods, err := s.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	for _, p := range pods.Items {
		if p.DeletionTimestamp == nil && (node == "" || p.Spec.NodeName == node) {
			b, err := s.client.CoreV1().Pods(namespace).ProxyGet(scheme, p.Name, "19249", path, nil).DoRaw(ctx)
			return string(b), err
		}
	}
	return "", fmt.Errorf("no pod in %s", namespace)
}

// holds is whether a line of a text has all the parts.
func holds(text string, parts []string) bool {
	for line := range strings.Lines(text) {
		if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(strings.TrimSpace(line), p) }) {
			return true
		}
	}
	return false
}

// TestHelm installs, breaks kube-proxy, changes and uninstalls.
func TestHelm(t *testing.T) {
	s := start(t)
	for _, ns := range namespaces[:1] {
		s.kubectl("create", "namespace", ns)
		s.kubectl("label", "namespace", ns, "pod-security.kubernetes.io/enforce=restricted")
	}
	if _, err := s.Kubectl(t.Context(), crds, "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	s.kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd/podmonitors.monitoring.coreos.com", "crd/prometheusrules.monitoring.coreos.com")
	before := s.objects()

	s.helm("install", "kproxy-exporter", s.chart(), "--namespace", "kproxy-exporter", "--set", all, "--wait", "--timeout", "2m")
	s.await("all is well", func(ctx context.Context) string {
		body, err := s.page(ctx, "kproxy-exporter", "", "http", "metrics")
		if err != nil {
			return err.Error()
		}
		for _, n := range []string{"n1", "n2"} {
			if !strings.Contains(body, fmt.Sprintf(`kproxy_primary_cause{cause="none",detail="",node="%s"} 1`, n)) {
				return n + " is not well"
			}
		}
		for _, n := range []string{"n1", "n2"} {
			for ns, wants := range map[string][][]string{
				"kproxy-exporter-node": {
					{"kproxy_audit_drift{", `kind="missing"`, " 0"}, {"kproxy_canary_latency_seconds_count{", n},
					{"kproxy_probe_verdict{", `module="http"`, `service="kproxy-exporter-node/kproxy-exporter-responder"`, `verdict="ok"`, " 1"},
				},
				"kproxy-exporter-probe": {{"kproxy_probe_verdict{", `service="kproxy-exporter-probe/kproxy-exporter-responder"`, `vantage="pod"`, `verdict="ok"`, " 1"}},
			} {
				body, err := s.page(ctx, ns, n, "http", "metrics")
				if err != nil {
					return err.Error()
				}
				for _, want := range wants {
					if !holds(body, want) {
						return fmt.Sprintf("%s on %s lacks %q", ns, n, want)
					}
				}
			}
		}
		return ""
	})

	s.monitored()

	f, err := fault.Find("dnat-changed")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Inject(t.Context(), s.Cluster, "n1"); err != nil {
		t.Fatal(err)
	}
	s.await("the cause", func(ctx context.Context) string {
		body, err := s.page(ctx, "kproxy-exporter-node", "n1", "http", "metrics")
		if err != nil {
			return err.Error()
		}
		if want := `kproxy_primary_cause{cause="rules_stale",detail="drift",node="n1"} 1`; !strings.Contains(body, want) {
			return "n1 is not called so"
		}
		return ""
	})
	if err := f.Heal(t.Context(), s.Cluster, "n1"); err != nil {
		t.Fatal(err)
	}

	s.secrets()
	s.helm("upgrade", "kproxy-exporter", s.chart(), "--namespace", "kproxy-exporter", "--set", all+",web.configSecret=web,node.audit=canary", "--wait", "--timeout", "2m")
	s.await("users and TLS", func(ctx context.Context) string {
		for _, ns := range namespaces {
			// The API server's proxy has no password.
			if _, err := s.page(ctx, ns, "", "https", "metrics"); apierrors.IsUnauthorized(err) != hasUsers(ns) || !hasUsers(ns) && err != nil {
				return fmt.Sprintf("%s answers %v", ns, err)
			}
		}
		return ""
	})
	if out, err := exec.CommandContext(t.Context(), filepath.Join(s.root, "bin/kproxy-exporter"), "diagnose", "--kubeconfig", s.Kubeconfig()).CombinedOutput(); err != nil || !strings.Contains(string(out), "No cause found: n1, n2") || strings.Contains(string(out), "the node role") {
		t.Errorf("diagnose does not ask a node role with TLS: %v\n%s", err, out)
	}
	if list := s.kubectl("-n", "kproxy-exporter-node", "get", "daemonset", "-o", "yaml"); !strings.Contains(list, "--audit=canary") {
		t.Errorf("the upgrade changed nothing:\n%s", list)
	}
	s.helm("rollback", "kproxy-exporter", "1", "--namespace", "kproxy-exporter", "--wait", "--timeout", "2m")

	s.kubectl("-n", "kproxy-exporter", "delete", "secret", "web")
	s.helm("uninstall", "kproxy-exporter", "--namespace", "kproxy-exporter", "--wait", "--timeout", "2m")
	s.await("nothing is left", func(context.Context) string {
		var left []string
		for _, o := range s.objects() {
			if !slices.Contains(before, o) && !strings.HasPrefix(o, "Pod kube-system/kube-proxy-") {
				left = append(left, o)
			}
		}
		if left != nil {
			return strings.Join(left, "\n")
		}
		return strings.TrimSpace(s.kubectl("-n", "kproxy-exporter", "get", "leases", "-o", "name"))
	})
}

// hasUsers is whether a role's Secret asks for a password: not the node role's, or
// nobody could ask it by the API server's proxy.
func hasUsers(namespace string) bool { return namespace != "kproxy-exporter-node" }

// secrets has a web configuration with TLS for each role, and a user where it hasUsers.
func (s *site) secrets() {
	s.t.Helper()
	dir := s.t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kproxy-exporter"}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		s.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		s.t.Fatal(err)
	}
	hash, err := bcrypt.GenerateFromPassword([]byte("a password"), bcrypt.MinCost)
	if err != nil {
		s.t.Fatal(err)
	}
	for name, block := range map[string]pem.Block{
		"tls.crt": {Type: "CERTIFICATE", Bytes: certificate},
		"tls.key": {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&block), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	for _, ns := range namespaces {
		web := "tls_server_config: {cert_file: tls.crt, key_file: tls.key}\n"
		if hasUsers(ns) {
			web += "basic_auth_users: {prometheus: '" + string(hash) + "'}\n"
		}
		s.kubectl("-n", ns, "create", "secret", "generic", "web", "--from-file="+dir, "--from-literal=web.yml="+web)
	}
}

// TestManifests wants that the API server takes all that is shipped, and that what
// kustomize makes of it runs.
func TestManifests(t *testing.T) {
	s := start(t)
	before := s.objects()
	for ns, level := range map[string]string{"kproxy-exporter": "restricted", "kproxy-exporter-node": "privileged", "kproxy-exporter-probe": "restricted"} {
		s.kubectl("create", "namespace", ns)
		s.kubectl("label", "namespace", ns, "pod-security.kubernetes.io/enforce="+level, "pod-security.kubernetes.io/warn="+level)
	}
	for _, set := range []string{"", "probe.enabled=true,canary.enabled=true,web.configSecret=web,cluster.replicas=2,dashboards.enabled=true", "node.see.kernel=false,node.see.processes=false,node.see.logs=false,node.see.runtime=false"} {
		out := s.helm("template", "kproxy-exporter", s.chart(), "--namespace", "kproxy-exporter", "--set", image+","+set)
		said, err := s.Kubectl(t.Context(), out, "apply", "--server-side", "--dry-run=server", "--force-conflicts", "-f", "-")
		if err != nil || strings.Contains(said, "Warning") {
			t.Errorf("with %q: %v\n%s", set, err, said)
		}
	}
	s.kubectl("apply", "--server-side", "--force-conflicts", "-k", filepath.Join(s.root, "deploy"))
	for what, ns := range map[string]string{"deployment/kproxy-exporter": "kproxy-exporter", "daemonset/kproxy-exporter-node": "kproxy-exporter-node", "daemonset/kproxy-exporter-probe": "kproxy-exporter-probe"} {
		s.kubectl("-n", ns, "rollout", "status", what, "--timeout=90s")
	}
	s.kubectl("delete", "-k", filepath.Join(s.root, "deploy"), "--wait")
	s.await("nothing is left", func(context.Context) string {
		var left []string
		for _, o := range s.objects() {
			if !slices.Contains(before, o) {
				left = append(left, o)
			}
		}
		return strings.Join(left, "\n")
	})
}
