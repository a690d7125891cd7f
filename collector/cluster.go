// Package collector asks the sources, puts what they say about each node into
// a Snapshot, lets package cause judge it and sends the verdicts as metrics.
// It decides nothing itself.
package collector

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/go-kit/log"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// Config is what the cluster role needs.
type Config struct {
	// Client reads the API.
	Client kubernetes.Interface
	// Namespace is where kube-proxy's pods and DaemonSet are.
	Namespace string
	// Selectors are label selectors, any of which matches a kube-proxy pod.
	Selectors []string
	// StaleAfter is how long a source may fail before what it said is unknown.
	StaleAfter time.Duration
	// Logger gets one line for each change of a source's state.
	Logger log.Logger
	// Klog is given to client-go.
	Klog klog.Logger
}

// Cluster reads the API and knows what it said last. It implements
// prometheus.Collector.
type Cluster struct {
	cfg        Config
	selectors  []labels.Selector
	readers    []*reader
	nodes      *table[nodeRow]
	pods       []*table[podRow]
	daemonSets *table[daemonSetRow]
	events     *table[eventRow]
	logs       *logReader
	presence   *presence
	history    history
}

// reader keeps one table current.
type reader struct {
	contact *contact
	// part is what is unknown without it.
	part  part
	run   func(context.Context)
	table cache.ReflectorStore
}

// part is a part of the Snapshot.
type part int

const (
	nodePart part = iota
	podPart
	daemonSetPart
	eventPart
)

// NewCluster checks the configuration; Run starts reading.
func NewCluster(cfg Config) (*Cluster, error) {
	c := &Cluster{cfg: cfg, presence: newPresence(), history: history{since: map[historyKey]time.Time{}}}
	for _, s := range cfg.Selectors {
		parsed, err := labels.Parse(s)
		if err != nil {
			return nil, fmt.Errorf("pod selector %q: %w", s, err)
		}
		if parsed.Empty() {
			return nil, fmt.Errorf("pod selector %q selects every pod", s)
		}
		c.selectors = append(c.selectors, parsed)
	}
	if len(c.selectors) == 0 {
		return nil, fmt.Errorf("no pod selector given")
	}
	c.logs = newLogReader(cfg.Client, cfg.Logger)
	core, apps := cfg.Client.CoreV1(), cfg.Client.AppsV1()

	c.nodes = add(c, "nodes", "list,watch nodes", nodePart, &corev1.Node{}, convertNode, c.nodeChanged, metav1.ListOptions{},
		func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return core.Nodes().List(ctx, o)
		},
		core.Nodes().Watch)
	for i, s := range cfg.Selectors {
		name := "pods"
		if i > 0 {
			name = fmt.Sprintf("pods_%d", i+1)
		}
		pods := core.Pods(cfg.Namespace)
		c.pods = append(c.pods, add(c, name, "list,watch pods in "+cfg.Namespace, podPart, &corev1.Pod{}, convertPod, c.podChanged, metav1.ListOptions{LabelSelector: s},
			func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return pods.List(ctx, o) }, pods.Watch))
	}
	// All namespaces: what takes kube-proxy's place may live anywhere.
	c.daemonSets = add(c, "daemonsets", "list,watch daemonsets.apps", daemonSetPart, &appsv1.DaemonSet{}, convertDaemonSet(cfg.Namespace, c.matches), nil, metav1.ListOptions{},
		func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return apps.DaemonSets("").List(ctx, o)
		}, apps.DaemonSets("").Watch)
	events := core.Events(cfg.Namespace)
	wanted := func(kind, name string) bool {
		return (kind == "Pod" || kind == "DaemonSet") && strings.HasPrefix(name, "kube-proxy")
	}
	c.events = add(c, "events", "list,watch events in "+cfg.Namespace, eventPart, &corev1.Event{}, convertEvent(wanted), nil, metav1.ListOptions{FieldSelector: "type=Warning"},
		func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return events.List(ctx, o) }, events.Watch)
	return c, nil
}

// add makes a table and the reader that keeps it current.
func add[T any](
	c *Cluster, name, what string, p part, kind runtime.Object,
	convert func(any) (T, bool), changed func(previous, current *T), only metav1.ListOptions,
	list func(context.Context, metav1.ListOptions) (runtime.Object, error),
	watchFor func(context.Context, metav1.ListOptions) (watch.Interface, error),
) *table[T] {
	k := &contact{reader: name, what: what, logger: c.cfg.Logger}
	t := newTable(convert, changed, k.markSynced)
	narrow := func(o metav1.ListOptions) metav1.ListOptions {
		o.LabelSelector, o.FieldSelector = only.LabelSelector, only.FieldSelector
		return o
	}
	lw := k.listWatch(
		func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return list(ctx, narrow(o)) },
		func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return watchFor(ctx, narrow(o))
		})
	c.readers = append(c.readers, &reader{contact: k, part: p, table: t, run: func(ctx context.Context) {
		cache.NewReflectorWithOptions(cache.ToListWatcherWithWatchListSemantics(lw, c.cfg.Client), kind, t,
			cache.ReflectorOptions{Name: name, Logger: &c.cfg.Klog}).RunWithContext(ctx)
	}})
	return t
}

// Run reads until the context ends.
func (c *Cluster) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, r := range c.readers {
		wg.Go(func() { r.run(ctx) })
	}
	wg.Go(func() { c.logs.run(ctx) })
	wg.Wait()
}

// Ready is whether every source has been read once; if not, which lacks.
func (c *Cluster) Ready() (bool, string) {
	for _, r := range c.readers {
		if s := r.contact.state(time.Now(), c.cfg.StaleAfter); !s.synced {
			return false, r.contact.reader
		}
	}
	return true, ""
}

// matches is whether labels are those of a kube-proxy pod.
func (c *Cluster) matches(podLabels map[string]string) bool {
	for _, s := range c.selectors {
		if s.Matches(labels.Set(podLabels)) {
			return true
		}
	}
	return false
}

func (c *Cluster) podChanged(previous, current *podRow) {
	c.presence.podChanged(previous, current, time.Now())
	c.logs.podChanged(previous, current)
}

func (c *Cluster) nodeChanged(previous, current *nodeRow) {
	if current == nil {
		c.presence.forget(previous.name)
		c.history.forget(previous.name)
	}
}

// presence knows since when a node has had no kube-proxy pod.
type presence struct {
	mu sync.Mutex
	// mu protects following.
	live map[string]int       // node -> pods that run or will
	gone map[string]time.Time // node -> since when live is 0
}

func newPresence() *presence { return &presence{live: map[string]int{}, gone: map[string]time.Time{}} }

func (p *presence) podChanged(previous, current *podRow, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	count := func(r *podRow, by int) {
		if r == nil || r.status.Deleting || r.status.Phase == "Failed" || r.status.Phase == "Succeeded" {
			return
		}
		p.live[r.node] += by
		if p.live[r.node] > 0 {
			delete(p.gone, r.node)
		} else {
			delete(p.live, r.node)
			p.gone[r.node] = now
		}
	}
	count(current, 1)
	count(previous, -1)
}

// goneSince is since when a node without a pod has none: now, if it never had one.
func (p *presence) goneSince(node string, now time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.live[node] > 0 {
		return time.Time{}
	}
	if t, ok := p.gone[node]; ok {
		return t
	}
	p.gone[node] = now
	return now
}

func (p *presence) forget(node string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.gone, node)
}
