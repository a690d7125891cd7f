// Package collector asks the sources, puts what they say about each node into
// a Snapshot, lets package cause judge it and sends the verdicts as metrics.
// It decides nothing itself.
package collector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-kit/log"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/klog/v2"

	"github.com/kproxy-exporter/kproxy-exporter/collector/kubeapi"
	"github.com/kproxy-exporter/kproxy-exporter/prober"
)

// Config is what the cluster role needs.
type Config struct {
	// API is the API server.
	API API
	// Namespace is where kube-proxy's pods and DaemonSet are.
	Namespace string
	// Selectors are label selectors, any of which matches a kube-proxy pod.
	Selectors []string
	// StaleAfter is how long a source may fail before what it said is unknown.
	StaleAfter time.Duration
	// PortInterval is how often kube-proxy's ports are asked; never if 0.
	PortInterval time.Duration
	// Mover moves the canary Service.
	Mover MoverConfig
	// Logger gets one line for each change of a source's state.
	Logger log.Logger
	// Klog is given to client-go.
	Klog klog.Logger
}

// API is what the cluster role asks of the API server.
type API interface {
	Watcher
	Writer
	Log(ctx context.Context, namespace, pod string, o *corev1.PodLogOptions) (io.ReadCloser, error)
	Version(context.Context) (version.Info, error)
}

// Cluster reads the API and knows what it said last.
type Cluster struct {
	view
	sources   sources
	cfg       Config
	selectors selectors
	version   *versionReader
	logs      *logReader
	ports     *prober.Ports // nil if they are not asked
	mover     *mover        // nil if nothing is moved
	runs      *runningConfigs
	presence  *presence
	history   *history
	// notFound reports whether the newest judgement found no kube-proxy, see cause.Snapshot.
	notFound atomic.Bool
}

// lookedFor describes where kube-proxy is looked for.
func lookedFor(namespace string, selectors []string) string {
	return fmt.Sprintf("namespace %s with the labels %s", namespace, strings.Join(selectors, " or "))
}

// selectors are label selectors, any of which matches a kube-proxy pod.
type selectors []labels.Selector

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
	c := &Cluster{sources: sources{api: cfg.API, logger: cfg.Logger, klog: cfg.Klog}, cfg: cfg, selectors: parsed, runs: newRunningConfigs(), presence: newPresence(), history: newHistory(cfg.Logger)}
	c.goneSince, c.wantedSince, c.lastEviction = c.presence.goneSince, c.presence.wantedSince, c.presence.lastEviction
	c.everSeen, c.lookedFor, c.proxyNamespace = c.presence.everSeen, lookedFor(cfg.Namespace, cfg.Selectors), cfg.Namespace
	c.logs = newLogReader(cfg.API, cfg.Logger)
	c.view.logs = c.logs.log
	c.running = c.runs.of

	c.nodes = add(&c.sources, source{kubeapi.Nodes, "nodes", "", metav1.ListOptions{}}, nodePart, convertNode, c.nodeChanged)
	for i, s := range cfg.Selectors {
		name := "pods"
		if i > 0 {
			name = fmt.Sprintf("pods_%d", i+1)
		}
		c.pods = append(c.pods, add(&c.sources, source{kubeapi.Pods, name, cfg.Namespace, metav1.ListOptions{LabelSelector: s}}, podPart, convertPod, c.podChanged))
	}
	// All namespaces: what takes kube-proxy's place may live anywhere.
	c.daemonSets = add(&c.sources, source{kubeapi.DaemonSets, "daemonsets", "", metav1.ListOptions{}}, daemonSetPart, convertDaemonSet(cfg.Namespace, c.selectors.match), nil)
	c.watchEvents()
	c.services = add(&c.sources, source{kubeapi.Services, "services", cfg.Namespace, metav1.ListOptions{}}, servicePart, convertService, nil)
	for _, name := range configMapNames {
		c.configs = append(c.configs, add(&c.sources, source{kubeapi.ConfigMaps, "configmap_" + name, cfg.Namespace, metav1.ListOptions{FieldSelector: "metadata.name=" + name}},
			configPart, convertConfigMap, c.configChanged))
	}
	c.view.ports = portsUnasked
	if cfg.PortInterval > 0 {
		c.ports = prober.NewPorts(prober.PortConfig{Interval: cfg.PortInterval, Timeout: portTimeout, Rate: portRate, Page: c.runs.page})
		c.view.ports = c.portsOf
	}
	if cfg.Mover.Interval > 0 {
		c.mover, err = newMover(cfg.Mover, cfg.API, &contact{reader: "canary", what: "get,create,update of its EndpointSlice and Lease, list of the responders'", logger: cfg.Logger})
		if err != nil {
			return nil, err
		}
	}
	c.version = &versionReader{api: cfg.API, contact: &contact{reader: "version", what: "get /version", logger: cfg.Logger}}
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
		c.events = append(c.events, add(&c.sources, source{kubeapi.Events, w.name, w.namespace, metav1.ListOptions{FieldSelector: w.fields}}, eventPart, convertEvent(w.wanted), nil))
	}
}

// Run reads until the context ends.
func (c *Cluster) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { c.sources.run(ctx) })
	wg.Go(func() { c.logs.run(ctx) })
	wg.Go(func() { c.version.run(ctx) })
	wg.Go(func() { c.reviewLogs(ctx) })
	if c.ports != nil {
		wg.Go(func() { c.ports.Run(ctx, c.portTargets) })
	}
	if c.mover != nil {
		wg.Go(func() { c.mover.run(ctx) })
	}
	wg.Go(func() { c.history.watch(ctx, func(now time.Time) { c.judge(now) }) })
	wg.Wait()
}

// Ready is whether every source has been read once; if not, which lacks.
func (c *Cluster) Ready() (bool, string) {
	for _, r := range c.sources.readers {
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
		c.runs.forget(previous.name)
	}
}

// configChanged notes when a configuration became what it is. What was there
// when we came may always have been.
func (c *Cluster) configChanged(previous, current *configRow) {
	switch {
	case current == nil:
	case previous != nil && maps.Equal(previous.config.Settings, current.config.Settings):
		current.config.Since = previous.config.Since
	case previous != nil:
		current.config.Since = time.Now()
	}
}
