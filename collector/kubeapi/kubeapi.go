// Package kubeapi asks the Kubernetes API for the few kinds that the exporter
// reads, and writes the two of the canary. client-go's clientset would do so too, but carries every kind of every
// API group: more than half of the program's size, and of its memory while idle.
package kubeapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"
)

// Resource is a kind of objects: the name in URLs, and what holds one and many.
type Resource struct {
	Name  string
	group schema.GroupVersion
	One   runtime.Object
	list  func() runtime.Object
}

// String is "daemonsets.apps", as in rules of RBAC.
func (r Resource) String() string { return r.group.WithResource(r.Name).GroupResource().String() }

// The resources.
var (
	Nodes      = Resource{"nodes", corev1.SchemeGroupVersion, &corev1.Node{}, func() runtime.Object { return &corev1.NodeList{} }}
	Pods       = Resource{"pods", corev1.SchemeGroupVersion, &corev1.Pod{}, func() runtime.Object { return &corev1.PodList{} }}
	Events     = Resource{"events", corev1.SchemeGroupVersion, &corev1.Event{}, func() runtime.Object { return &corev1.EventList{} }}
	Services   = Resource{"services", corev1.SchemeGroupVersion, &corev1.Service{}, func() runtime.Object { return &corev1.ServiceList{} }}
	ConfigMaps = Resource{"configmaps", corev1.SchemeGroupVersion, &corev1.ConfigMap{}, func() runtime.Object { return &corev1.ConfigMapList{} }}
	// EndpointSlices are those of Services.
	EndpointSlices = Resource{"endpointslices", discoveryv1.SchemeGroupVersion, &discoveryv1.EndpointSlice{}, func() runtime.Object { return &discoveryv1.EndpointSliceList{} }}
	DaemonSets     = Resource{"daemonsets", appsv1.SchemeGroupVersion, &appsv1.DaemonSet{}, func() runtime.Object { return &appsv1.DaemonSetList{} }}
	Leases         = Resource{"leases", coordinationv1.SchemeGroupVersion, &coordinationv1.Lease{}, func() runtime.Object { return &coordinationv1.LeaseList{} }}
)

// Client asks one API server.
type Client struct {
	groups     map[schema.GroupVersion]*rest.RESTClient
	parameters runtime.ParameterCodec
}

// New makes a client that speaks protobuf. All its requests share the rate
// limit of cfg.
func New(cfg *rest.Config) (*Client, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, discoveryv1.AddToScheme, coordinationv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	c := &Client{groups: map[schema.GroupVersion]*rest.RESTClient{}, parameters: runtime.NewParameterCodec(scheme)}
	shared := rest.CopyConfig(cfg)
	shared.ContentType = runtime.ContentTypeProtobuf
	shared.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	shared.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	if shared.RateLimiter == nil {
		qps, burst := float32(rest.DefaultQPS), rest.DefaultBurst
		if cfg.QPS > 0 && cfg.Burst > 0 {
			qps, burst = cfg.QPS, cfg.Burst
		}
		shared.RateLimiter = flowcontrol.NewTokenBucketRateLimiter(qps, burst)
	}
	shared.Wrap(func(next http.RoundTripper) http.RoundTripper { return &patient{usualPatience, next} })
	client, err := rest.HTTPClientFor(shared)
	if err != nil {
		return nil, err
	}
	for _, g := range []struct {
		version schema.GroupVersion
		path    string
	}{{corev1.SchemeGroupVersion, "/api"}, {appsv1.SchemeGroupVersion, "/apis"}, {discoveryv1.SchemeGroupVersion, "/apis"}, {coordinationv1.SchemeGroupVersion, "/apis"}} {
		one := rest.CopyConfig(shared)
		one.GroupVersion, one.APIPath = &g.version, g.path
		if c.groups[g.version], err = rest.RESTClientForConfigAndClient(one, client); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *Client) get(r Resource, namespace string, o *metav1.ListOptions) *rest.Request {
	return c.groups[r.group].Get().NamespaceIfScoped(namespace, namespace != "").Resource(r.Name).VersionedParams(o, c.parameters)
}

// List lists the objects of a namespace, or of all if it is empty.
func (c *Client) List(ctx context.Context, r Resource, namespace string, o metav1.ListOptions) (runtime.Object, error) {
	into := r.list()
	if err := c.get(r, namespace, &o).Do(ctx).Into(into); err != nil {
		return into, err
	}
	// What is of another kind, or no object, leaves it as it was: it would look like
	// a list of nothing.
	if m, err := meta.ListAccessor(into); err != nil || m.GetResourceVersion() == "" {
		return nil, fmt.Errorf("list %s: %w", r, errNoList)
	}
	return into, nil
}

var errNoList = errors.New("the answer is no such list, or has no version")

// Watch watches the objects of a namespace, or of all if it is empty.
func (c *Client) Watch(ctx context.Context, r Resource, namespace string, o metav1.ListOptions) (watch.Interface, error) {
	o.Watch = true
	return c.get(r, namespace, &o).Watch(ctx)
}

// Get gets an object by its name.
func (c *Client) Get(ctx context.Context, r Resource, namespace, name string) (runtime.Object, error) {
	into := r.One.DeepCopyObject()
	if err := c.groups[r.group].Get().Namespace(namespace).Resource(r.Name).Name(name).Do(ctx).Into(into); err != nil {
		return into, err
	}
	if m, err := meta.Accessor(into); err != nil || m.GetName() != name || m.GetNamespace() != namespace {
		return nil, fmt.Errorf("get %s %s/%s: the answer is no such object", r, namespace, name)
	}
	return into, nil
}

// Create makes an object.
func (c *Client) Create(ctx context.Context, r Resource, namespace string, object runtime.Object) error {
	return c.groups[r.group].Post().Namespace(namespace).Resource(r.Name).Body(object).Do(ctx).Error()
}

// Update writes an object as it was gotten, with changes; a conflict if
// somebody else has written it meanwhile.
func (c *Client) Update(ctx context.Context, r Resource, namespace, name string, object runtime.Object) error {
	return c.groups[r.group].Put().Namespace(namespace).Resource(r.Name).Name(name).Body(object).Do(ctx).Error()
}

// Log opens a container's log.
func (c *Client) Log(ctx context.Context, namespace, pod string, o *corev1.PodLogOptions) (io.ReadCloser, error) {
	return c.groups[corev1.SchemeGroupVersion].Get().Namespace(namespace).Resource("pods").Name(pod).SubResource("log").VersionedParams(o, c.parameters).Stream(ctx)
}

// Page opens what a pod answers at a port to GET, by the API server's proxy: it takes
// the right to get pods/proxy. A pod that answers HTTPS only is asked by that; the
// proxy does not verify its certificate, and has none of its own and no password.
func (c *Client) Page(ctx context.Context, namespace, pod, port, path string, query map[string]string) (io.ReadCloser, error) {
	ask := func(name string) (io.ReadCloser, error) {
		r := c.groups[corev1.SchemeGroupVersion].Get().Namespace(namespace).Resource("pods").Name(name).SubResource("proxy").Suffix(path)
		for k, v := range query {
			r = r.Param(k, v)
		}
		return r.Stream(ctx)
	}
	body, err := ask(pod + ":" + port)
	if apierrors.IsBadRequest(err) { // what Go's servers answer to HTTP where they want HTTPS
		var failed error
		if body, failed = ask("https:" + pod + ":" + port); failed != nil {
			return nil, fmt.Errorf("by HTTPS: %w; by HTTP: %w", failed, err)
		}
		return body, nil
	}
	return body, err
}

// Version is the API server's own.
func (c *Client) Version(ctx context.Context) (version.Info, error) {
	var v version.Info
	b, err := c.groups[corev1.SchemeGroupVersion].Get().AbsPath("/version").DoRaw(ctx)
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return v, fmt.Errorf("the answer of /version: %w", err)
	}
	return v, nil
}
