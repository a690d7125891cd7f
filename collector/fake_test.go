package collector

import (
	"context"
	"fmt"
	"io"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/kproxy-exporter/kproxy-exporter/collector/kubeapi"
)

// fakeAPI is client-go's fake API server behind our interface.
type fakeAPI struct{ *fake.Clientset }

func (f fakeAPI) List(ctx context.Context, r kubeapi.Resource, namespace string, o metav1.ListOptions) (runtime.Object, error) {
	core := f.CoreV1()
	switch r.Name {
	case "nodes":
		return core.Nodes().List(ctx, o)
	case "pods":
		return core.Pods(namespace).List(ctx, o)
	case "events":
		return core.Events(namespace).List(ctx, o)
	case "services":
		return core.Services(namespace).List(ctx, o)
	case "configmaps":
		return core.ConfigMaps(namespace).List(ctx, o)
	case "daemonsets":
		return f.AppsV1().DaemonSets(namespace).List(ctx, o)
	case "endpointslices":
		return f.DiscoveryV1().EndpointSlices(namespace).List(ctx, o)
	}
	return nil, fmt.Errorf("no resource %q", r.Name)
}

func (f fakeAPI) Watch(ctx context.Context, r kubeapi.Resource, namespace string, o metav1.ListOptions) (watch.Interface, error) {
	core := f.CoreV1()
	switch r.Name {
	case "nodes":
		return core.Nodes().Watch(ctx, o)
	case "pods":
		return core.Pods(namespace).Watch(ctx, o)
	case "events":
		return core.Events(namespace).Watch(ctx, o)
	case "services":
		return core.Services(namespace).Watch(ctx, o)
	case "configmaps":
		return core.ConfigMaps(namespace).Watch(ctx, o)
	case "daemonsets":
		return f.AppsV1().DaemonSets(namespace).Watch(ctx, o)
	case "endpointslices":
		return f.DiscoveryV1().EndpointSlices(namespace).Watch(ctx, o)
	}
	return nil, fmt.Errorf("no resource %q", r.Name)
}

func (f fakeAPI) Log(ctx context.Context, namespace, pod string, o *corev1.PodLogOptions) (io.ReadCloser, error) {
	return f.CoreV1().Pods(namespace).GetLogs(pod, o).Stream(ctx)
}

func (f fakeAPI) Version(context.Context) (version.Info, error) {
	v, err := f.Discovery().ServerVersion()
	if err != nil {
		return version.Info{}, err
	}
	return *v, nil
}

func (f fakeAPI) kind(r kubeapi.Resource) schema.GroupVersionResource {
	name := map[string]schema.GroupVersion{"services": corev1.SchemeGroupVersion, "endpointslices": discoveryv1.SchemeGroupVersion, "leases": coordinationv1.SchemeGroupVersion}
	return name[r.Name].WithResource(r.Name)
}

func (f fakeAPI) Get(_ context.Context, r kubeapi.Resource, namespace, name string) (runtime.Object, error) {
	return f.Tracker().Get(f.kind(r), namespace, name)
}

func (f fakeAPI) Create(_ context.Context, r kubeapi.Resource, namespace string, object runtime.Object) error {
	return f.Tracker().Create(f.kind(r), object, namespace)
}

func (f fakeAPI) Update(_ context.Context, r kubeapi.Resource, namespace, _ string, object runtime.Object) error {
	return f.Tracker().Update(f.kind(r), object, namespace)
}
