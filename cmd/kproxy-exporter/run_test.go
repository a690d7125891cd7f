package main

import (
	"bufio"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/exporter-toolkit/web"
)

// fakeAPI answers list and watch as an API server with one healthy node does.
func fakeAPI(t *testing.T) *httptest.Server {
	t.Helper()
	const (
		node = `{"apiVersion":"v1","kind":"Node","metadata":{"name":"n1","resourceVersion":"1"},"status":{"conditions":[{"type":"Ready","status":"True"}]}}`
		pod  = `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"kube-proxy-x","namespace":"kube-system","resourceVersion":"1"},"spec":{"nodeName":"n1"},
			"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}],"containerStatuses":[{"name":"kube-proxy","ready":true,"state":{"running":{}}}]}}`
	)
	kinds := map[string]struct{ apiVersion, kind, object string }{
		"nodes": {"v1", "Node", node}, "pods": {"v1", "Pod", pod},
		"events": {"v1", "Event", ""}, "daemonsets": {"apps/v1", "DaemonSet", ""},
		"configmaps": {"v1", "ConfigMap", ""}, "services": {"v1", "Service", ""},
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/version" {
			fmt.Fprint(w, `{"major":"1","minor":"37"}`)
			return
		}
		k, ok := kinds[filepath.Base(r.URL.Path)]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		query := r.URL.Query()
		// The second selector, of kube-proxy under other labels, finds nothing.
		if strings.HasPrefix(query.Get("labelSelector"), "component") {
			k.object = ""
		}
		if query.Get("watch") == "" {
			fmt.Fprintf(w, `{"apiVersion":"%s","kind":"%sList","metadata":{"resourceVersion":"1"},"items":[%s]}`, k.apiVersion, k.kind, k.object)
			return
		}
		if query.Get("sendInitialEvents") == "true" {
			if k.object != "" {
				fmt.Fprintf(w, `{"type":"ADDED","object":%s}`, k.object)
			}
			fmt.Fprintf(w, `{"type":"BOOKMARK","object":{"apiVersion":"%s","kind":"%s","metadata":{"resourceVersion":"1","annotations":{"k8s.io/initial-events-end":"true"}}}}`, k.apiVersion, k.kind)
		}
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s
}

func kubeconfig(t *testing.T, server string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: '" + server + "'}}]\n" +
		"contexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {}}]\ncurrent-context: c\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func testConfig(kubeconfig, listen string) config {
	addresses, systemd, file := []string{listen}, false, ""
	return config{
		kubeconfig: kubeconfig, logLevel: "info", logFormat: "logfmt",
		web:       &web.FlagConfig{WebListenAddresses: &addresses, WebSystemdSocket: &systemd, WebConfigFile: &file},
		namespace: "kube-system", selectors: []string{"k8s-app=kube-proxy", "component=kube-proxy"}, staleAfter: 60e9,
	}
}

// instance is a running run().
type instance struct {
	url  string
	stop context.CancelFunc
	done chan error
}

var listening = regexp.MustCompile(`msg="?Listening on"? .*address=(\S+)`)

func startInstance(t *testing.T, kubeconfig string) *instance {
	t.Helper()
	return startWith(t, testConfig(kubeconfig, "127.0.0.1:0"), io.Discard)
}

// startWith also writes what it logs, behind the first line, to log.
func startWith(t *testing.T, cfg config, log io.Writer) *instance {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	i := &instance{stop: stop, done: make(chan error, 1)}
	lines, w := io.Pipe()
	go func() {
		i.done <- run(ctx, cfg, newLogs(w, cfg.logLevel, cfg.logFormat), newClusterRole)
		w.Close()
	}()
	scanner := bufio.NewScanner(lines)
	for i.url == "" && scanner.Scan() {
		if m := listening.FindStringSubmatch(scanner.Text()); m != nil {
			i.url = "http://" + m[1]
		}
	}
	go io.Copy(log, lines)
	if i.url == "" {
		t.Fatalf("it ended before it listened: %v", <-i.done)
	}
	return i
}

func (i *instance) get(t *testing.T, path string) (status int, body string) {
	t.Helper()
	res, err := http.Get(i.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func (i *instance) awaitReady(t *testing.T) {
	t.Helper()
	for {
		status, body := i.get(t, "/-/ready")
		if status == http.StatusOK {
			return
		}
		if t.Context().Err() != nil {
			t.Fatalf("not ready: %s", body)
		}
	}
}

// Two at once share nothing: a process-wide setting in run() shows under -race.
func TestTwoAtOnce(t *testing.T) {
	path := kubeconfig(t, fakeAPI(t).URL)
	for n := range 2 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			i := startInstance(t, path)
			i.awaitReady(t)
			for path, want := range map[string]string{
				"/":                   "/causes",
				"/-/healthy":          "healthy",
				"/metrics":            `kproxy_primary_cause{cause="none",detail="",node="n1"} 1`,
				"/causes":             "n1: no cause active",
				"/causes?format=json": `"node": "n1"`,
			} {
				if status, body := i.get(t, path); status != http.StatusOK || !strings.Contains(body, want) {
					t.Errorf("%s answers %d without %q:\n%s", path, status, want, body)
				}
			}
			if status, _ := i.get(t, "/causes?format=xml"); status != http.StatusBadRequest {
				t.Errorf("an unknown format answers %d", status)
			}
			if status, _ := i.get(t, "/nothing"); status != http.StatusNotFound {
				t.Errorf("an unknown path answers %d", status)
			}
			i.stop()
			if err := <-i.done; err != nil {
				t.Errorf("it stopped with %v", err)
			}
		})
	}
}

// Prometheus asks for gzip: an exposition of a large cluster is megabytes.
func TestMetricsAreCompressed(t *testing.T) {
	i := startInstance(t, kubeconfig(t, fakeAPI(t).URL))
	i.awaitReady(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, i.url+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept-Encoding", "gzip") // set by hand, so that it is not undone by the client
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got := res.Header.Get("Content-Encoding"); got != "gzip" {
		t.Fatalf("content encoding %q", got)
	}
	plain, err := gzip.NewReader(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(plain); err != nil || !strings.Contains(string(b), "kproxy_cause_active{") {
		t.Errorf("%d bytes %v", len(b), err)
	}
	i.stop()
	if err := <-i.done; err != nil {
		t.Errorf("it stopped with %v", err)
	}
}

func TestWithoutAPIItIsHealthyAndNotReady(t *testing.T) {
	i := startInstance(t, kubeconfig(t, "http://127.0.0.1:1"))
	if status, _ := i.get(t, "/-/healthy"); status != http.StatusOK {
		t.Errorf("healthy answers %d", status)
	}
	if status, body := i.get(t, "/-/ready"); status != http.StatusServiceUnavailable || !strings.Contains(body, "nodes") {
		t.Errorf("ready answers %d %s", status, body)
	}
	if status, body := i.get(t, "/metrics"); status != http.StatusOK || !strings.Contains(body, `kproxy_cache_synced{reader="nodes"} 0`) {
		t.Errorf("metrics answer %d\n%s", status, body)
	}
	i.stop()
	if err := <-i.done; err != nil {
		t.Errorf("it stopped with %v", err)
	}
}

func TestErrorsOfTheStart(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	good := kubeconfig(t, "http://127.0.0.1:1")
	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(broken, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	taken := httptest.NewServer(http.NotFoundHandler())
	defer taken.Close()
	for _, tc := range []struct {
		name string
		cfg  config
		want string
	}{
		{"no cluster", testConfig("", "127.0.0.1:0"), "--kubeconfig"},
		{"no file", testConfig(filepath.Join(t.TempDir(), "gone"), "127.0.0.1:0"), "gone"},
		{"a broken file", testConfig(broken, "127.0.0.1:0"), "read API access"},
		{"a taken port", testConfig(good, strings.TrimPrefix(taken.URL, "http://")), "address already in use"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := run(t.Context(), tc.cfg, newLogs(io.Discard, "error", "logfmt"), newClusterRole)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want something with %q", err, tc.want)
			}
		})
	}
}

// Each command runs with its defaults, and times that cannot be meant are refused.
func TestFlags(t *testing.T) {
	for args, want := range map[string]string{
		"cluster":                              "",
		"node":                                 "",
		"diagnose":                             "",
		"cluster --ports.interval=0":           "",
		"cluster --ports.interval=999ms":       "--ports.interval",
		"cluster --api.stale-after=0":          "--api.stale-after",
		"node --api.interval=1s --node-name=x": "",
		"node --api.interval=999ms":            "--api.interval",
		"node --api.interval=-1s":              "--api.interval",
		"node --probe.interval=0":              "",
		"node --probe.interval=500ms":          "--probe.interval",
		"node --probe.interval=5s":             "--probe.interval", // its timeout is 3s
		"node --probe.timeout=0":               "--probe.interval",
		"node --node-name=a_b":                 "--node-name",
		"node --probe.dns-name=a..b":           "--probe.dns-name",
		"node --probe.dns-name=Example.com.":   "",
		"node --canary.service=foo":            "--canary.service",
		"node --responder.service=foo/":        "--responder.service",
		"cluster --canary.service=a/B":         "--canary.service",
	} {
		var cfg config
		app, names := newApp(&cfg)
		command, err := app.Parse(strings.Fields(args))
		if err != nil {
			t.Errorf("%s: %v", args, err)
		}
		if wrong := cfg.wrong(command); (want == "") != (wrong == "") || !strings.HasPrefix(wrong, want) {
			t.Errorf("%s: %q, want %q", args, wrong, want)
		}
		if command != names.cluster && command != names.node && command != names.diagnose {
			t.Errorf("%s is command %q", args, command)
		}
	}
}
