package kubeapi

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
)

// serve answers as an API server that speaks JSON, and notes what it was asked.
func serve(t *testing.T, answers map[string]any) (*Client, func() []string) {
	t.Helper()
	var mu sync.Mutex
	var asked []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.URL.RequestURI())
		mu.Unlock()
		answer, ok := answers[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if text, ok := answer.(string); ok {
			_, _ = io.WriteString(w, text)
			return
		}
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(s.Close)
	c, err := New(&rest.Config{Host: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	return c, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(asked)
	}
}

func TestClient(t *testing.T) {
	found := discoveryv1.EndpointSliceList{
		TypeMeta: metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSliceList"}, ListMeta: metav1.ListMeta{ResourceVersion: "1"},
		Items: []discoveryv1.EndpointSlice{{ObjectMeta: metav1.ObjectMeta{Name: "x"}}},
	}
	c, asked := serve(t, map[string]any{
		"/apis/discovery.k8s.io/v1/namespaces/default/endpointslices": found,
		"/api/v1/nodes": `{"type":"ADDED","object":{"apiVersion":"v1","kind":"Node","metadata":{"name":"n1"}}}`,
		"/api/v1/namespaces/kube-system/pods/p/log": "a line\n",
		"/version": `{"gitVersion":"v1.37.2"}`,
	})
	ctx := t.Context()
	list, err := c.List(ctx, EndpointSlices, "default", metav1.ListOptions{LabelSelector: "a=b"})
	if got, ok := list.(*discoveryv1.EndpointSliceList); err != nil || !ok || len(got.Items) != 1 || got.Items[0].Name != "x" {
		t.Errorf("list: %+v %v", list, err)
	}
	w, err := c.Watch(ctx, Nodes, "", metav1.ListOptions{FieldSelector: "metadata.name=n1"})
	if err != nil {
		t.Fatal(err)
	}
	if e := <-w.ResultChan(); e.Type != watch.Added || e.Object.(*corev1.Node).Name != "n1" {
		t.Errorf("watch: %+v", e)
	}
	w.Stop()
	log, err := c.Log(ctx, "kube-system", "p", &corev1.PodLogOptions{Container: "c", Previous: true})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(log); err != nil || string(b) != "a line\n" {
		t.Errorf("log: %q %v", b, err)
	}
	log.Close()
	if v, err := c.Version(ctx); err != nil || v.GitVersion != "v1.37.2" {
		t.Errorf("version: %+v %v", v, err)
	}
	want := []string{
		"/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=a%3Db", "/api/v1/nodes?fieldSelector=metadata.name%3Dn1&watch=true",
		"/api/v1/namespaces/kube-system/pods/p/log?container=c&previous=true", "/version",
	}
	if got := asked(); !slices.Equal(got, want) {
		t.Errorf("asked for %q, want %q", got, want)
	}
}

func TestBadAnswers(t *testing.T) {
	c, _ := serve(t, map[string]any{"/version": "<html>", "/api/v1/pods": `{"apiVersion":"v1","kind":"NodeList","items":7}`})
	if v, err := c.Version(t.Context()); err == nil || !strings.Contains(err.Error(), "/version") {
		t.Errorf("version: %+v %v", v, err)
	}
	if _, err := c.List(t.Context(), Pods, "", metav1.ListOptions{}); err == nil {
		t.Error("a list of another kind is taken")
	}
	if _, err := c.List(t.Context(), Services, "x", metav1.ListOptions{}); err == nil {
		t.Error("404 is taken")
	}
}

func TestResourceNames(t *testing.T) {
	for r, want := range map[string]string{Nodes.String(): "nodes", DaemonSets.String(): "daemonsets.apps", EndpointSlices.String(): "endpointslices.discovery.k8s.io"} {
		if r != want {
			t.Errorf("%q, want %q", r, want)
		}
	}
}
