package collector

import (
	"context"
	"strings"
	"sync"

	"github.com/go-kit/log"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/kproxy-exporter/kproxy-exporter/collector/kubeapi"
)

// Watcher asks the API server for the objects of a kind.
type Watcher interface {
	List(context.Context, kubeapi.Resource, string, metav1.ListOptions) (runtime.Object, error)
	Watch(context.Context, kubeapi.Resource, string, metav1.ListOptions) (watch.Interface, error)
}

// sources are the readers that keep tables as the API has them.
type sources struct {
	api     Watcher
	logger  log.Logger
	klog    klog.Logger
	readers []*reader
}

// reader keeps one table current.
type reader struct {
	contact *contact
	// part is what is unknown without it.
	part part
	run  func(context.Context)
}

// source is what a reader asks for.
type source struct {
	resource kubeapi.Resource
	// reader is the name in metrics and in the log.
	reader    string
	namespace string // all if empty
	only      metav1.ListOptions
}

// lacks is the right that a reader needs, for people.
func (s source) lacks() string {
	what := "list,watch " + s.resource.String()
	if name, ok := strings.CutPrefix(s.only.FieldSelector, "metadata.name="); ok {
		what += " " + name
	}
	if s.namespace != "" {
		what += " in " + s.namespace
	}
	return what
}

// add makes a table and the reader that keeps it current.
func add[T any](all *sources, s source, p part, convert func(any) (T, bool), changed func(previous, current *T)) *table[T] {
	k := &contact{reader: s.reader, what: s.lacks(), logger: all.logger}
	t := newTable(convert, changed, k.markSynced)
	narrow := func(o metav1.ListOptions) metav1.ListOptions {
		o.LabelSelector, o.FieldSelector = s.only.LabelSelector, s.only.FieldSelector
		return o
	}
	lw := k.listWatch(
		func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return all.api.List(ctx, s.resource, s.namespace, narrow(o))
		},
		func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return all.api.Watch(ctx, s.resource, s.namespace, narrow(o))
		})
	all.readers = append(all.readers, &reader{contact: k, part: p, run: func(ctx context.Context) {
		cache.NewReflectorWithOptions(cache.ToListWatcherWithWatchListSemantics(lw, all.api), s.resource.One, t,
			cache.ReflectorOptions{Name: s.reader, Logger: &all.klog, Backoff: retryBackoff()}).RunWithContext(ctx)
	}})
	return t
}

// run reads until the context ends.
func (s *sources) run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, r := range s.readers {
		wg.Go(func() { r.run(ctx) })
	}
	wg.Wait()
}
