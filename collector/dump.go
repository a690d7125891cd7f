package collector

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/go-kit/log"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
	"github.com/kproxy-exporter/kproxy-exporter/collector/kubelog"
)

// Bounds of what is read of a dump: it is foreign input.
const (
	dumpFileBytes = 512 << 20
	dumpLogBytes  = 64 << 20
)

// Dump is a cluster in files, as 'kubectl cluster-info dump' writes them.
type Dump struct {
	view
	// Problems are the files that are missing or could not be read, one
	// sentence each.
	Problems []string

	files     fs.FS
	namespace string
	selectors selectors
	fresh     map[part]bool
	ended     map[string]*cause.Log // pod uid -> what its terminated container said
	running   map[string]*cause.Log
	// newest is the latest moment of which a file tells: the dump's now.
	newest time.Time
}

// OpenDump reads a dump: nodes.json and, in the namespace's directory,
// pods.json, events.json, daemonsets.json, configmaps.json and for each pod
// logs.txt and logs-previous.txt. Any may be missing: what it would show is
// unknown then.
func OpenDump(files fs.FS, namespace string, podSelectors []string) (*Dump, error) {
	parsed, err := parseSelectors(podSelectors)
	if err != nil {
		return nil, err
	}
	if problems := validation.IsDNS1123Label(namespace); len(problems) > 0 {
		return nil, fmt.Errorf("namespace %q: %s", namespace, problems[0])
	}
	d := &Dump{
		files: files, namespace: namespace, selectors: parsed, fresh: map[part]bool{},
		ended: map[string]*cause.Log{}, running: map[string]*cause.Log{},
	}
	anyObject := func(kind string) bool { return kind == "Pod" || kind == "DaemonSet" || kind == "Node" }
	d.view = view{
		nodes: newTable(convertNode, nil, func() {}), pods: []*table[podRow]{newTable(d.convertPod, nil, func() {})},
		daemonSets: newTable(convertDaemonSet(namespace, d.selectors.match), nil, func() {}),
		events:     []*table[eventRow]{newTable(d.convertEvent(anyObject), nil, func() {})},
		configs:    []*table[configRow]{newTable(convertConfigMap, nil, func() {})},
		services:   newTable(convertService, nil, func() {}),
		ports:      portsUnasked,
		running:    func(string, string) *cause.Running { return nil },
		server:     func() *cause.Version { return nil },
		logs:       func(uid string) (ended, running *cause.Log) { return d.ended[uid], d.running[uid] },
		// Nobody watched it go.
		goneSince:    func(string, time.Time) (time.Time, bool) { return time.Time{}, false },
		lastEviction: func(string) *cause.Eviction { return nil },
		wantedSince:  func(string, *cause.Placement, time.Time) time.Time { return time.Time{} },
		everSeen:     func(now bool) bool { return now },
		lookedFor:    lookedFor(namespace, podSelectors), proxyNamespace: namespace,
		dump: true,
	}
	d.fresh[nodePart] = load(d, "nodes.json", d.nodes, d.seenNode)
	d.fresh[podPart] = load(d, path.Join(namespace, "pods.json"), d.pods[0], d.seenPod)
	d.fresh[daemonSetPart] = load(d, path.Join(namespace, "daemonsets.json"), d.daemonSets, func(*appsv1.DaemonSet) {})
	d.fresh[configPart] = load(d, path.Join(namespace, "configmaps.json"), d.configs[0], func(*corev1.ConfigMap) {})
	d.fresh[servicePart] = load(d, path.Join(namespace, "services.json"), d.services, func(*corev1.Service) {})
	if d.newest.IsZero() {
		d.newest = time.Now() // no object tells when it was
	}
	d.fresh[eventPart] = load(d, path.Join(namespace, "events.json"), d.events[0], d.seenEvent)
	if load(d, path.Join("default", "events.json"), d.events[0], d.seenEvent) {
		d.fresh[eventPart] = true
	}
	alone := d.readLogs()
	d.adopt()
	for _, pod := range alone {
		home := d.homeOf(pod)
		d.nodes.each(func(n *nodeRow) { n.hasPods = n.hasPods || n.name == home })
	}
	return d, nil
}

// Report judges every node at the dump's newest moment.
func (d *Dump) Report() Report {
	out := Report{Nodes: []NodeReport{}}
	for s := range d.snapshots(d.newest, d.fresh) {
		out.Nodes = append(out.Nodes, nodeReport(s, newHistory(log.NewNopLogger())))
	}
	return out
}

// convertPod keeps kube-proxy's pods: those with its labels, and those with its
// name, for a dump may have lost the labels.
func (d *Dump) convertPod(object any) (podRow, bool) {
	p, ok := object.(*corev1.Pod)
	if !ok || !d.selectors.match(p.Labels) && (len(p.Labels) > 0 || !isKubeProxy(p.Name)) {
		return podRow{}, false
	}
	if p.Spec.NodeName == "" && intendedNode(p) == "" {
		p.Spec.NodeName = d.homeOf(p.Name)
	}
	row, ok := convertPod(p)
	row.uid = p.Name // names are unique in a namespace, and files go by name
	if row.namespace == "" {
		row.namespace = d.namespace
	}
	return row, ok
}

func isKubeProxy(pod string) bool { return strings.HasPrefix(pod, "kube-proxy") }

// homeOf is the node of a pod of which nobody says where it is: the only one
// there is, else one that stands for it.
func (d *Dump) homeOf(pod string) string {
	var names []string
	d.nodes.each(func(n *nodeRow) {
		if !n.absent {
			names = append(names, n.name)
		}
	})
	if len(names) == 1 {
		return names[0]
	}
	return "(node of " + pod + ")"
}

// convertEvent fills in what a dump may lack.
func (d *Dump) convertEvent(wanted func(kind string) bool) func(any) (eventRow, bool) {
	convert := convertEvent(wanted)
	return func(object any) (eventRow, bool) {
		row, ok := convert(object)
		if row.namespace == "" && row.kind != "Node" {
			row.namespace = d.namespace
		}
		if row.event.Time.IsZero() {
			row.event.Time = d.newest
		}
		return row, ok
	}
}

// readLogs judges every log of a kube-proxy pod, and returns the pods of which
// only a log is left.
func (d *Dump) readLogs() (alone []string) {
	known := map[string]bool{}
	d.pods[0].each(func(r *podRow) { known[r.status.Name] = true })
	entries, err := fs.ReadDir(d.files, d.namespace)
	if err != nil {
		return nil // said when pods.json was missed
	}
	for _, e := range entries {
		if !e.IsDir() || !known[e.Name()] && !isKubeProxy(e.Name()) {
			continue
		}
		current, a := d.readLog(e.Name(), "logs.txt")
		previous, b := d.readLog(e.Name(), "logs-previous.txt")
		if !a && !b {
			continue
		}
		d.running[e.Name()], d.ended[e.Name()] = current, previous
		if !known[e.Name()] {
			pod := &corev1.Pod{}
			pod.Name, pod.Namespace = e.Name(), d.namespace
			if err := d.pods[0].Add(pod); err != nil {
				d.problem("%s: %v", e.Name(), err)
			}
			alone = append(alone, e.Name())
		}
	}
	return alone
}

func (d *Dump) readLog(pod, file string) (*cause.Log, bool) {
	name := path.Join(d.namespace, pod, file)
	b, err := d.read(name, dumpLogBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false
	}
	if err != nil {
		d.problem("%s: %v", name, err)
		return &cause.Log{Error: err.Error()}, true
	}
	result := kubelog.Classify(b)
	return &cause.Log{Class: result.Class, Line: result.Line, At: result.Time(d.newest)}, true
}

// adopt makes a row of every node of which only a pod tells.
func (d *Dump) adopt() {
	var names []string
	d.pods[0].each(func(r *podRow) { names = append(names, r.node) })
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		here := false
		d.nodes.each(func(n *nodeRow) { here = here || n.name == name })
		if !here {
			d.nodes.put("/"+name, &nodeRow{name: name, absent: true})
		}
	}
}
