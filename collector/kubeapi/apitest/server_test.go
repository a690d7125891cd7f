package apitest_test

import (
	"net/http/httptest"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"

	"github.com/kproxy-exporter/kproxy-exporter/collector/kubeapi"
	"github.com/kproxy-exporter/kproxy-exporter/collector/kubeapi/apitest"
)

func pod(name, label string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: name, Labels: map[string]string{"k": label}}}
}

// TestServer is that it does what an API server does, by a real client.
func TestServer(t *testing.T) {
	s := apitest.New()
	h := httptest.NewServer(s)
	t.Cleanup(func() { h.CloseClientConnections(); h.Close() })
	c, err := kubeapi.New(&rest.Config{Host: h.URL})
	if err != nil {
		t.Fatal(err)
	}
	s.Put(pod("x", "1"), pod("y", "2"))
	selected := metav1.ListOptions{LabelSelector: "k=1"}
	list, err := c.List(t.Context(), kubeapi.Pods, "a", selected)
	if err != nil {
		t.Fatal(err)
	}
	items := list.(*corev1.PodList).Items
	l, _ := meta.ListAccessor(list)
	if len(items) != 1 || items[0].Name != "x" || l.GetResourceVersion() == "" {
		t.Fatalf("%+v", list)
	}
	selected.ResourceVersion = l.GetResourceVersion()
	w, err := c.Watch(t.Context(), kubeapi.Pods, "a", selected)
	if err != nil {
		t.Fatal(err)
	}
	s.Put(pod("z", "1"), pod("y", "1"), pod("y", "1"), pod("x", "2"), pod("other", "2"))
	s.Delete(pod("z", ""), pod("nobody", ""))
	for _, want := range []struct {
		kind watch.EventType
		name string
	}{{watch.Added, "z"}, {watch.Added, "y"}, {watch.Modified, "y"}, {watch.Deleted, "x"}, {watch.Deleted, "z"}} {
		e := <-w.ResultChan()
		p, ok := e.Object.(*corev1.Pod)
		if !ok || e.Type != want.kind || p.Name != want.name {
			t.Fatalf("%+v, want %v", e, want)
		}
	}
	s.Garble([]byte("\x00\x00\x00\x04what"))
	if e, more := <-w.ResultChan(); more && e.Type != watch.Error {
		t.Errorf("garbage is %+v", e)
	}
	s.Forget()
	w, err = c.Watch(t.Context(), kubeapi.Pods, "a", selected)
	if err != nil {
		t.Fatal(err)
	}
	if e := <-w.ResultChan(); e.Type != watch.Error || !apierrors.IsResourceExpired(apierrors.FromObject(e.Object)) {
		t.Errorf("a version that is forgotten: %+v", e)
	}
	w, err = c.Watch(t.Context(), kubeapi.Pods, "a", metav1.ListOptions{SendInitialEvents: new(true), ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if e := <-w.ResultChan(); e.Type != watch.Added {
			t.Errorf("at first %+v", e)
		}
	}
	if e := <-w.ResultChan(); e.Type != watch.Bookmark || e.Object.(*corev1.Pod).Annotations[metav1.InitialEventsAnnotationKey] != "true" {
		t.Errorf("then %+v", e)
	}
	s.EndWatches()
	if e, more := <-w.ResultChan(); more {
		t.Errorf("after its end %+v", e)
	}
	got, err := c.Get(t.Context(), kubeapi.Pods, "a", "y")
	if err != nil {
		t.Fatal(err)
	}
	s.Put(pod("y", "3"))
	if err := c.Update(t.Context(), kubeapi.Pods, "a", "y", got); !apierrors.IsConflict(err) {
		t.Errorf("an update of what has changed: %v", err)
	}
	if err := c.Create(t.Context(), kubeapi.Pods, "a", got); !apierrors.IsAlreadyExists(err) {
		t.Errorf("it is created twice: %v", err)
	}
	if _, err := c.Get(t.Context(), kubeapi.Pods, "a", "nobody"); !apierrors.IsNotFound(err) {
		t.Errorf("what is not there: %v", err)
	}
}
