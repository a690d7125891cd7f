// Package collector asks the sources, puts what they say about each node into
// a Snapshot, lets package cause judge it and sends the verdicts as metrics.
// It decides nothing itself.
package collector

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/go-kit/log"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
	"github.com/kproxy-exporter/kproxy-exporter/prober"
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
	// PortInterval is how often kube-proxy's ports are asked; never if 0.
	PortInterval time.Duration
	// Logger gets one line for each change of a source's state.
	Logger log.Logger
	// Klog is given to client-go.
	Klog klog.Logger
}

// Cluster reads the API and knows what it said last. It implements
// prometheus.Collector.
type Cluster struct {
	view
	cfg       Config
	selectors selectors
	readers   []*reader
	version   *versionReader
	logs      *logReader
	ports     *prober.Ports // nil if they are not asked
	presence  *presence
	history   *history
}

// selectors are label selectors, any of which matches a kube-proxy pod.
type selectors []labels.Selector

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
	configPart
	servicePart
)

// NewCluster checks the configuration; Run starts reading.
func NewCluster(cfg Config) (*Cluster, error) {
	parsed, err := parseSelectors(cfg.Selectors)
	if err != nil {
		return nil, err
	}
	if problems := validation.IsDNS1123Label(cfg.Namespace); len(problems) > 0 {
		return nil, fmt.Errorf("namespace %q: %s", cfg.Namespace, problems[0])
	}
	c := &Cluster{cfg: cfg, selectors: parsed, presence: newPresence(), history: newHistory()}
	c.goneSince, c.wantedSince = c.presence.goneSince, c.presence.wantedSince
	c.logs = newLogReader(cfg.Client, cfg.Logger)
	c.view.logs = c.logs.log
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
	c.daemonSets = add(c, "daemonsets", "list,watch daemonsets.apps", daemonSetPart, &appsv1.DaemonSet{}, convertDaemonSet(cfg.Namespace, c.selectors.match), nil, metav1.ListOptions{},
		func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return apps.DaemonSets("").List(ctx, o)
		}, apps.DaemonSets("").Watch)
	c.watchEvents()
	services := core.Services(cfg.Namespace)
	c.services = add(c, "services", "list,watch services in "+cfg.Namespace, servicePart, &corev1.Service{}, convertService, nil, metav1.ListOptions{},
		func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return services.List(ctx, o) }, services.Watch)
	c.view.ports = func(string) *cause.Ports { return nil }
	if cfg.PortInterval > 0 {
		c.ports = prober.NewPorts(prober.PortConfig{Interval: cfg.PortInterval, Timeout: portTimeout, Rate: portRate})
		c.view.ports = c.portsOf
	}
	for _, name := range configMapNames {
		maps := core.ConfigMaps(cfg.Namespace)
		c.configs = append(c.configs, add(c, "configmap_"+name, "list,watch configmaps "+name+" in "+cfg.Namespace, configPart,
			&corev1.ConfigMap{}, convertConfigMap, nil, metav1.ListOptions{FieldSelector: "metadata.name=" + name},
			func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return maps.List(ctx, o) }, maps.Watch))
	}
	c.version = &versionReader{client: cfg.Client.Discovery(), contact: &contact{reader: "version", what: "get /version", logger: cfg.Logger}}
	c.server = c.version.get
	return c, nil
}

// watchEvents reads the warnings about kube-proxy's pods and DaemonSet and
// about the nodes, and the one piece of information that matters too: that a
// pod's sandbox is made anew.
func (c *Cluster) watchEvents() {
	ours := func(kind string) bool { return kind == "Pod" || kind == "DaemonSet" }
	nodes := func(kind string) bool { return kind == "Node" }
	for _, w := range []struct {
		name, namespace, fields string
		wanted                  func(kind string) bool
	}{
		{"events", c.cfg.Namespace, "type=Warning", ours},
		{"events_sandbox", c.cfg.Namespace, "reason=SandboxChanged", ours},
		{"events_nodes", metav1.NamespaceDefault, "involvedObject.kind=Node,type=Warning", nodes},
	} {
		events := c.cfg.Client.CoreV1().Events(w.namespace)
		c.events = append(c.events, add(c, w.name, "list,watch events in "+w.namespace, eventPart, &corev1.Event{}, convertEvent(w.wanted), nil,
			metav1.ListOptions{FieldSelector: w.fields},
			func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return events.List(ctx, o) }, events.Watch))
	}
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
	wg.Go(func() { c.version.run(ctx) })
	wg.Go(func() { c.reviewLogs(ctx) })
	if c.ports != nil {
		wg.Go(func() { c.ports.Run(ctx, c.portTargets) })
	}
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

func parseSelectors(texts []string) (selectors, error) {
	var out selectors
	for _, s := range texts {
		parsed, err := labels.Parse(s)
		if err != nil {
			return nil, fmt.Errorf("pod selector %q: %w", s, err)
		}
		if parsed.Empty() {
			return nil, fmt.Errorf("pod selector %q selects every pod", s)
		}
		out = append(out, parsed)
	}
	if len(out) == 0 {
		return nil, errors.New("no pod selector given")
	}
	return out, nil
}

// match is whether labels are those of a kube-proxy pod.
func (s selectors) match(podLabels map[string]string) bool {
	return slices.ContainsFunc(s, func(one labels.Selector) bool { return one.Matches(labels.Set(podLabels)) })
}

func (c *Cluster) podChanged(previous, current *podRow) {
	c.presence.podChanged(previous, current, time.Now())
	c.logs.podChanged(previous, current)
	if current == nil && !c.nodes.has("/"+previous.node) {
		c.presence.forget(previous.node) // the node went first
	}
}

func (c *Cluster) nodeChanged(previous, current *nodeRow) {
	if current == nil {
		c.presence.forget(previous.name)
		c.history.forget(previous.name)
	}
}
