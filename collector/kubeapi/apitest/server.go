// Package apitest is an API server of the few kinds that the exporter reads, in
// memory, for tests: it lists and watches as a real one does, with versions, in
// protobuf or JSON, and fails on demand in the ways in which real ones do.
package apitest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
)

// Server is an http.Handler.
type Server struct {
	codecs serializer.CodecFactory
	scheme *runtime.Scheme
	kinds  map[string]kind // by name in URLs

	mu sync.Mutex
	// mu protects following.
	version uint64
	objects map[string]map[string]runtime.Object // by resource, then namespace/name
	log     []event
	// forgotten is the newest version that is in the log no more.
	forgotten uint64
	more      chan struct{} // closed when there is more in the log
	ended     chan struct{} // closed when all watches end
	fail      func(http.ResponseWriter, *http.Request) bool
	watches   int // open ones
}

type kind struct {
	gvk  schema.GroupVersionKind
	list func() runtime.Object
}

// event is a change; object is as it is afterwards, was as it was before.
type event struct {
	version     uint64
	resource    string
	object, was runtime.Object
	// raw is written to all watches that are open then, and is no change.
	raw []byte
}

// New makes one without objects.
func New() *Server {
	s := &Server{scheme: runtime.NewScheme(), objects: map[string]map[string]runtime.Object{}, more: make(chan struct{}), ended: make(chan struct{}), version: 1}
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, discoveryv1.AddToScheme, coordinationv1.AddToScheme} {
		if err := add(s.scheme); err != nil {
			panic(err) // a mistake in the program
		}
	}
	s.codecs = serializer.NewCodecFactory(s.scheme)
	s.kinds = map[string]kind{
		"nodes":          {corev1.SchemeGroupVersion.WithKind("Node"), func() runtime.Object { return &corev1.NodeList{} }},
		"pods":           {corev1.SchemeGroupVersion.WithKind("Pod"), func() runtime.Object { return &corev1.PodList{} }},
		"events":         {corev1.SchemeGroupVersion.WithKind("Event"), func() runtime.Object { return &corev1.EventList{} }},
		"services":       {corev1.SchemeGroupVersion.WithKind("Service"), func() runtime.Object { return &corev1.ServiceList{} }},
		"configmaps":     {corev1.SchemeGroupVersion.WithKind("ConfigMap"), func() runtime.Object { return &corev1.ConfigMapList{} }},
		"daemonsets":     {appsv1.SchemeGroupVersion.WithKind("DaemonSet"), func() runtime.Object { return &appsv1.DaemonSetList{} }},
		"endpointslices": {discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"), func() runtime.Object { return &discoveryv1.EndpointSliceList{} }},
		"leases":         {coordinationv1.SchemeGroupVersion.WithKind("Lease"), func() runtime.Object { return &coordinationv1.LeaseList{} }},
	}
	return s
}

// Put creates objects, or replaces what they were.
func (s *Server) Put(objects ...runtime.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range objects {
		s.put(s.resourceOf(o), o.DeepCopyObject())
	}
}

func (s *Server) put(resource string, o runtime.Object) {
	m, key := metaOf(o)
	if s.objects[resource] == nil {
		s.objects[resource] = map[string]runtime.Object{}
	}
	was := s.objects[resource][key]
	s.version++
	m.SetResourceVersion(strconv.FormatUint(s.version, 10))
	s.objects[resource][key] = o
	s.note(event{version: s.version, resource: resource, object: o, was: was})
}

// Delete deletes objects, if they are there.
func (s *Server) Delete(objects ...runtime.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range objects {
		resource := s.resourceOf(o)
		_, key := metaOf(o)
		if was := s.objects[resource][key]; was != nil {
			delete(s.objects[resource], key)
			s.version++
			gone := was.DeepCopyObject()
			m, _ := metaOf(gone)
			m.SetResourceVersion(strconv.FormatUint(s.version, 10))
			s.note(event{version: s.version, resource: resource, was: gone})
		}
	}
}

// maxLog is how many changes are remembered.
const maxLog = 100_000

func (s *Server) note(e event) {
	s.log = append(s.log, e)
	if len(s.log) > maxLog {
		s.forgotten = s.log[maxLog/2].version
		s.log = slices.Clone(s.log[maxLog/2+1:])
	}
	close(s.more)
	s.more = make(chan struct{})
}

// Fail has a function look at each request before it is answered; one for which it
// returns true is its own. nil ends that.
func (s *Server) Fail(f func(http.ResponseWriter, *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = f
}

// EndWatches ends all watches, as a real one does with each every few minutes.
func (s *Server) EndWatches() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.ended)
	s.ended = make(chan struct{})
}

// Forget forgets all changes that were: who asks for what came after one is told
// that it is gone.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	s.log, s.forgotten = nil, s.version
}

// Garble writes to all open watches what no client can read.
func (s *Server) Garble(raw []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	s.note(event{version: s.version, raw: raw})
}

// Watches is how many are open.
func (s *Server) Watches() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.watches
}

func (s *Server) resourceOf(o runtime.Object) string {
	gvks, _, err := s.scheme.ObjectKinds(o)
	if err != nil {
		panic(err)
	}
	for name, k := range s.kinds {
		if k.gvk == gvks[0] {
			return name
		}
	}
	panic(fmt.Sprintf("no resource for %v", gvks))
}

func metaOf(o runtime.Object) (metav1.Object, string) {
	m, err := meta.Accessor(o)
	if err != nil {
		panic(err)
	}
	return m, m.GetNamespace() + "/" + m.GetName()
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	fail := s.fail
	s.mu.Unlock()
	if fail != nil && fail(w, r) {
		return
	}
	if r.URL.Path == "/version" {
		_, _ = io.WriteString(w, `{"major":"1","minor":"37","gitVersion":"v1.37.0"}`)
		return
	}
	resource, namespace, name, sub := parts(r.URL.Path)
	k, ok := s.kinds[resource]
	switch {
	case !ok:
		http.NotFound(w, r)
	case sub == "log":
		fmt.Fprintln(w, "a line that decides nothing")
	case r.Method == http.MethodPost, r.Method == http.MethodPut:
		s.write(w, r, resource)
	case name != "":
		s.get(w, r, resource, namespace+"/"+name)
	case r.URL.Query().Get("watch") != "":
		s.watch(w, r, resource, namespace)
	default:
		s.list(w, r, k, resource, namespace)
	}
}

// parts are those of /api/v1/namespaces/N/pods/P/log and the like.
func parts(p string) (resource, namespace, name, sub string) {
	words := strings.Split(strings.Trim(path.Clean(p), "/"), "/")
	switch {
	case len(words) > 2 && words[0] == "api":
		words = words[2:]
	case len(words) > 3 && words[0] == "apis":
		words = words[3:]
	default:
		return "", "", "", ""
	}
	if words[0] == "namespaces" && len(words) > 2 {
		namespace, words = words[1], words[2:]
	}
	words = append(words, "", "", "")
	return words[0], namespace, words[1], words[2]
}

// media are the serializers that a request asks for.
func (s *Server) media(r *http.Request) runtime.SerializerInfo {
	for _, want := range strings.Split(r.Header.Get("Accept"), ",") {
		want, _, _ = strings.Cut(strings.TrimSpace(want), ";")
		if info, ok := runtime.SerializerInfoForMediaType(s.codecs.SupportedMediaTypes(), want); ok {
			return info
		}
	}
	info, _ := runtime.SerializerInfoForMediaType(s.codecs.SupportedMediaTypes(), runtime.ContentTypeJSON)
	return info
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request, o runtime.Object) {
	info := s.media(r)
	b, err := s.encode(info.Serializer, o)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", info.MediaType)
	if status, ok := o.(*metav1.Status); ok {
		w.WriteHeader(int(status.Code))
	}
	_, _ = w.Write(b)
}

func (s *Server) encode(with runtime.Serializer, o runtime.Object) ([]byte, error) {
	version := schema.GroupVersion{Version: "v1"}
	if gvks, _, err := s.scheme.ObjectKinds(o); err == nil {
		version = gvks[0].GroupVersion()
	}
	var out bytes.Buffer
	err := s.codecs.EncoderForVersion(with, version).Encode(o.DeepCopyObject(), &out) // it writes the kind into it
	return out.Bytes(), err
}

// selection is what of a resource a request asks for.
type selection struct {
	resource, namespace string
	labels              labels.Selector
	fields              fields.Selector
}

func selects(r *http.Request, resource, namespace string) (selection, error) {
	q := r.URL.Query()
	l, err := labels.Parse(q.Get("labelSelector"))
	if err != nil {
		return selection{}, err
	}
	f, err := fields.ParseSelector(q.Get("fieldSelector"))
	return selection{resource, namespace, l, f}, err
}

func (s *selection) has(o runtime.Object) bool {
	if o == nil {
		return false
	}
	m, _ := metaOf(o)
	set := fields.Set{"metadata.name": m.GetName(), "metadata.namespace": m.GetNamespace()}
	switch o := o.(type) {
	case *corev1.Event:
		set["type"], set["reason"], set["involvedObject.kind"] = o.Type, o.Reason, o.InvolvedObject.Kind
	case *corev1.Service:
		set["spec.clusterIP"] = o.Spec.ClusterIP
	}
	return (s.namespace == "" || s.namespace == m.GetNamespace()) && s.labels.Matches(labels.Set(m.GetLabels())) && s.fields.Matches(set)
}

func (s *Server) list(w http.ResponseWriter, r *http.Request, k kind, resource, namespace string) {
	of, err := selects(r, resource, namespace)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	items, version := s.selected(&of), s.version
	s.mu.Unlock()
	out := k.list()
	if err := meta.SetList(out, items); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if l, err := meta.ListAccessor(out); err == nil {
		l.SetResourceVersion(strconv.FormatUint(version, 10))
	}
	s.answer(w, r, out)
}

func (s *Server) selected(of *selection) (items []runtime.Object) {
	for _, o := range s.objects[of.resource] {
		if of.has(o) {
			items = append(items, o)
		}
	}
	return items
}

func (s *Server) get(w http.ResponseWriter, r *http.Request, resource, key string) {
	s.mu.Lock()
	o := s.objects[resource][key]
	s.mu.Unlock()
	if o == nil {
		s.answer(w, r, new(apierrors.NewNotFound(schema.GroupResource{Resource: resource}, key).Status()))
		return
	}
	s.answer(w, r, o)
}

// write creates or updates an object, unless somebody else did meanwhile.
func (s *Server) write(w http.ResponseWriter, r *http.Request, resource string) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	o, _, err := s.codecs.UniversalDeserializer().Decode(b, nil, nil)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	m, key := metaOf(o)
	s.mu.Lock()
	is := s.objects[resource][key]
	group := schema.GroupResource{Resource: resource}
	var refusal *apierrors.StatusError
	switch {
	case r.Method == http.MethodPost && is != nil:
		refusal = apierrors.NewAlreadyExists(group, key)
	case r.Method == http.MethodPut && is == nil:
		refusal = apierrors.NewNotFound(group, key)
	case r.Method == http.MethodPut:
		if has, _ := metaOf(is); m.GetResourceVersion() != "" && m.GetResourceVersion() != has.GetResourceVersion() {
			refusal = apierrors.NewConflict(group, key, fmt.Errorf("it is at %s", has.GetResourceVersion()))
		}
	}
	if refusal == nil {
		s.put(resource, o)
	}
	s.mu.Unlock()
	if refusal != nil {
		s.answer(w, r, &refusal.ErrStatus)
		return
	}
	s.answer(w, r, o)
}

// PutAs puts an object among those of a resource of which it is not.
func (s *Server) PutAs(resource string, o runtime.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(resource, o)
}

// Drop deletes what has a key, namespace/name.
func (s *Server) Drop(resource, key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if was := s.objects[resource][key]; was != nil {
		delete(s.objects[resource], key)
		s.version++
		s.note(event{version: s.version, resource: resource, was: was})
	}
}
