package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// withNodeRole is the fake API with one pod of the node role, on n1, which answers;
// with status 0 by HTTPS only.
func withNodeRole(t *testing.T, status int, answer string) *httptest.Server {
	t.Helper()
	rest := fakeAPI(t).Config.Handler
	const pods = "/api/v1/namespaces/roles/pods"
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case pods:
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"apiVersion":"v1","kind":"PodList","metadata":{"resourceVersion":"1"},"items":[{"metadata":{"name":"x","namespace":"roles"},"spec":{"nodeName":"n1","containers":[{"name":"e","ports":[{"name":"metrics","containerPort":7}]}]},"status":{"phase":"Running"}}]}`)
		case pods + "/x:7/proxy/causes", pods + "/https:x:7/proxy/causes":
			if status == 0 { // as Go's server where it wants HTTPS
				if !strings.Contains(r.URL.Path, "https") {
					http.Error(w, "Client sent an HTTP request to an HTTPS server.", http.StatusBadRequest)
					return
				}
			} else {
				w.WriteHeader(status)
			}
			fmt.Fprint(w, answer)
		default:
			rest.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s
}

func TestDiagnoseAsksNodes(t *testing.T) {
	const drift = `{"nodes":[{"node":"n1","healthy":true,"causes":[{"cause":"rules_stale","detail":"drift","evidence":["a/b missing: it is never sent to 10.0.0.1:80"],"action":"look"}],"unknown":[]}]}`
	for name, tc := range map[string]struct {
		status      int
		answer      string
		code        int
		out, errOut string
	}{
		"a cause that only the node sees": {200, drift, exitCause, "a/b missing: it is never sent to 10.0.0.1:80", ""},
		"it answers HTTPS only":           {0, drift, exitCause, "a/b missing: it is never sent to 10.0.0.1:80", ""},
		"it wants a password":             {401, "", exitHealthy, "No cause found: n1", "did not answer on n1 (it asks for a user"},
		"it knows neither":                {400, "", exitHealthy, "No cause found: n1", "did not answer on n1 (by HTTPS: "},
		"nothing wrong":                   {200, `{"nodes":[{"node":"n1","healthy":true}]}`, exitHealthy, "No cause found: n1", ""},
		"of another node":                 {200, strings.Replace(drift, "n1", "n2", 1), exitHealthy, "No cause found: n1", "did not answer on n1"},
		"no JSON":                         {200, "<html>", exitHealthy, "No cause found: n1", "did not answer on n1"},
		"it may not be asked":             {403, "", exitHealthy, "No cause found: n1", "did not answer on n1"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(kubeconfig(t, withNodeRole(t, tc.status, tc.answer).URL), "")
			cfg.diagnose = diagnoseConfig{output: "table", nodeNamespace: "roles", nodeSelector: "a=b"}
			var out, errOut bytes.Buffer
			code := diagnose(t.Context(), cfg, newLogs(io.Discard, "error", "logfmt"), &out, &errOut)
			if code != tc.code || !strings.Contains(out.String(), tc.out) || !strings.Contains(errOut.String(), tc.errOut) {
				t.Errorf("code %d\n%s\n%s", code, &out, &errOut)
			}
		})
	}
}
