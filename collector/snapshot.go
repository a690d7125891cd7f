package collector

import (
	"cmp"
	"iter"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
)

// view is what the sources said last, whoever read them: the API's readers or
// a dump.
type view struct {
	nodes      *table[nodeRow]
	pods       []*table[podRow]
	daemonSets *table[daemonSetRow]
	events     []*table[eventRow]
	configs    []*table[configRow]
	services   *table[serviceRow]
	// ports asks what kube-proxy's ports answered: for each node and the pod that
	// matters there, nil if not asked.
	ports func() func(*cause.Pod, string) *cause.Ports
	// running is what a container on a node says that it runs with, nil if not known.
	running func(node, container string) *cause.Running
	// server is the API server's version, nil while unknown.
	server func() *cause.Version
	// logs are what a pod's ended and its running container said, nil if not read.
	logs func(uid string) (ended, running *cause.Log)
	// goneSince is since when a node has had no kube-proxy pod.
	goneSince func(node string, now time.Time) (since time.Time, seenGoing bool)
	// lastEviction is the one that was seen last on a node, nil if none was.
	lastEviction func(node string) *cause.Eviction
	// wantedSince is since when a DaemonSet has wanted a pod on a node.
	wantedSince func(node string, p *cause.Placement, now time.Time) time.Time
	// everSeen reports whether a kube-proxy pod or DaemonSet was seen, now or before.
	everSeen func(now bool) bool
	// lookedFor is where kube-proxy was looked for, for people; proxyNamespace is
	// its namespace, whose cilium-config is read.
	lookedFor, proxyNamespace string
	dump                      bool
}

// snapshots judges by what is fresh.
func (c *Cluster) snapshots(now time.Time) iter.Seq[*cause.Snapshot] {
	return c.view.snapshots(now, c.freshParts(now))
}

// snapshots puts what is known now about every node into one Snapshot each, in
// the order of names. Without a fresh list of nodes there is none to speak of:
// the last known nodes are named and everything about them is unknown.
func (c *view) snapshots(now time.Time, fresh map[part]bool) iter.Seq[*cause.Snapshot] {
	return func(yield func(*cause.Snapshot) bool) {
		w := c.world(now, fresh)
		var nodes []*nodeRow
		c.nodes.each(func(n *nodeRow) { nodes = append(nodes, n) })
		slices.SortFunc(nodes, func(a, b *nodeRow) int { return cmp.Compare(a.name, b.name) })
		for _, n := range nodes {
			if !yield(w.snapshot(n)) {
				return
			}
		}
	}
}

// world is what the snapshots of one moment share.
type world struct {
	*view
	now    time.Time
	fresh  map[part]bool
	server *cause.Version
	events map[objectKey][]cause.Event
	pods   map[string][]*podRow // by node
	static bool                 // there are static pods
	// installed reports whether kube-proxy is or was here: its pods or DaemonSet
	// were seen, or its ConfigMap is left.
	installed bool
	own       []*daemonSetRow
	config    *cause.Config
	portsOf   func(*cause.Pod, string) *cause.Ports
	// replacers are DaemonSets that replace kube-proxy, or may; claims is the reason
	// that another proxy's configuration gives.
	replacers []*daemonSetRow
	claims    string
	// ciliumKeeps reports that cilium-config leaves Services to kube-proxy.
	ciliumKeeps bool
	noTarget    string
	differs     map[*cause.RunningSettings][]string
}

func (c *view) world(now time.Time, fresh map[part]bool) *world {
	w := &world{view: c, now: now, fresh: fresh, server: c.server(), events: c.eventsByObject(fresh[eventPart]), pods: map[string][]*podRow{}, differs: map[*cause.RunningSettings][]string{}, portsOf: c.ports()}
	for _, t := range c.pods {
		t.each(func(r *podRow) {
			w.pods[r.node] = append(w.pods[r.node], r)
			w.static = w.static || r.status.Static
		})
	}
	for _, t := range c.configs {
		t.each(func(r *configRow) {
			w.ciliumKeeps = w.ciliumKeeps || r.keeps
			w.installed = w.installed || !r.cilium
		})
	}
	c.daemonSets.each(func(r *daemonSetRow) {
		if r.replaces != "" {
			w.replacers = append(w.replacers, r)
		} else {
			w.own = append(w.own, r)
		}
	})
	w.installed = c.everSeen(len(w.own)+len(w.pods) > 0) || w.installed
	slices.SortFunc(w.own, func(a, b *daemonSetRow) int { return a.created.Compare(b.created) })
	w.config, w.claims = c.config(fresh[configPart])
	if fresh[servicePart] && fresh[podPart] {
		w.noTarget = c.noTarget()
	}
	return w
}

func (w *world) snapshot(n *nodeRow) *cause.Snapshot {
	s := &cause.Snapshot{
		Now: w.now, Name: n.name, Config: w.config, Server: w.server, Replaced: w.claims, EventsKnown: w.fresh[eventPart],
		NoTarget: w.noTarget, Windows: n.labels[corev1.LabelOSStable] == "windows", Dump: w.dump,
	}
	list := w.podsOf(n)
	var first *cause.Pod
	if len(list) > 0 {
		first = &list[0]
	}
	s.Ports = w.portsOf(first, n.name)
	if w.fresh[nodePart] && !n.absent {
		status := n.status
		status.Events = w.events[objectKey{"Node", "", n.name}]
		s.Node = &status
	}
	if w.fresh[podPart] || n.hasPods {
		s.Pods = &cause.Pods{List: list}
		for _, r := range w.pods[n.name] {
			if s.Running == nil && !r.status.Deleting {
				s.Running = w.runningOn(n.name, r.running)
			}
		}
		s.Pods.GoneSince, s.Pods.SeenGoing = w.goneSince(n.name, w.now)
		s.Pods.Eviction = w.lastEviction(n.name)
		if s.Pods.GoneSince.IsZero() && !w.dump {
			s.Pods.GoneSince, s.Pods.SeenGoing = w.now, true // one came after the list was made
		}
	}
	if w.fresh[nodePart] && w.fresh[podPart] && w.fresh[daemonSetPart] {
		var excluded bool
		s.Placement, excluded = place(w.own, n, w.events)
		s.Placement.WantedSince = w.wantedSince(n.name, s.Placement, w.now)
		replaced, unclear := w.replacement(n)
		s.Expected = w.expected(n, s, excluded, replaced, unclear)
		if s.Expected == nil && !unclear && w.fresh[configPart] {
			s.NotFound = w.lookedFor
		}
	}
	return s
}

// runningOn is what a container says that it runs with. Most nodes run with the
// same, which is compared once.
func (w *world) runningOn(node, container string) *cause.Running {
	r := w.running(node, container)
	if r == nil || r.Settings == nil || w.config == nil {
		return r
	}
	differs, known := w.differs[r.Settings]
	if !known {
		differs = w.config.Settings.Differs(r.Settings)
		w.differs[r.Settings] = differs
	}
	r.Differs = differs
	return r
}

func (w *world) podsOf(n *nodeRow) []cause.Pod {
	rows := w.pods[n.name]
	if len(rows) == 0 {
		return nil
	}
	list := make([]cause.Pod, 0, len(rows))
	for _, r := range rows {
		p := r.status
		p.Log, p.Current = w.logs(r.uid)
		p.Events = w.events[objectKey{"Pod", r.namespace, r.status.Name}]
		list = append(list, p)
	}
	slices.SortFunc(list, comparePods)
	return list
}

// config is kube-proxy's configuration and the reason for which another proxy
// says that it has taken its place.
func (c *view) config(fresh bool) (_ *cause.Config, replaced string) {
	if !fresh {
		return nil, ""
	}
	out := &cause.Config{Missing: true}
	for _, t := range c.configs {
		t.each(func(r *configRow) {
			replaced += r.replaces
			if !r.cilium && out.Missing {
				found := r.config
				out = &found
			}
		})
	}
	return out, replaced
}

// freshParts is which parts of a Snapshot can be believed: a part is only as
// good as the worst of its readers.
func (c *Cluster) freshParts(now time.Time) map[part]bool {
	fresh := map[part]bool{nodePart: true, podPart: true, daemonSetPart: true, eventPart: true, configPart: true, servicePart: true}
	for _, r := range c.sources.readers {
		fresh[r.part] = fresh[r.part] && r.contact.state(now, c.cfg.StaleAfter).fresh
	}
	return fresh
}

type objectKey struct{ kind, namespace, name string }

func (c *view) eventsByObject(fresh bool) map[objectKey][]cause.Event {
	out := map[objectKey][]cause.Event{}
	if !fresh {
		return out
	}
	for _, t := range c.events {
		t.each(func(r *eventRow) {
			k := objectKey{r.kind, r.namespace, r.name}
			out[k] = append(out[k], r.event)
		})
	}
	for k, e := range out {
		out[k] = newestFirst(e)
	}
	return out
}

// comparePods puts the pod that matters first: one that stays before one that
// goes, a younger one before its elder.
func comparePods(a, b cause.Pod) int {
	if a.Deleting != b.Deleting {
		if a.Deleting {
			return 1
		}
		return -1
	}
	return b.Created.Compare(a.Created)
}

// place is what the kube-proxy DaemonSets say about a node: the first that
// wants a pod there, else the first that does not.
func place(own []*daemonSetRow, n *nodeRow, events map[objectKey][]cause.Event) (_ *cause.Placement, excluded bool) {
	out := &cause.Placement{}
	for i, d := range own {
		p, byPurpose := d.placement(n)
		for _, e := range events[objectKey{"DaemonSet", d.namespace, d.name}] {
			if e.Reason == "FailedCreate" {
				p.Failure = &e
				break
			}
		}
		if p.Selected && p.Untolerated == "" {
			return &p, false
		}
		if i == 0 || excluded && !byPurpose || p.Selected && !out.Selected {
			out, excluded = &p, byPurpose
		}
	}
	return out, excluded
}

// replacement returns the reason for which another program replaces kube-proxy on
// a node, empty if none does. unclear reports that one runs there whose
// configuration decides, and that was not read.
func (w *world) replacement(n *nodeRow) (reason string, unclear bool) {
	for _, d := range w.replacers {
		if p, _ := d.placement(n); !p.Selected || p.Untolerated != "" {
			continue
		}
		switch {
		case d.replaces == cause.ReasonAntrea, d.replaces == cause.ReasonCilium && (d.namespace != w.proxyNamespace || !w.fresh[configPart]):
			unclear = true
		case d.replaces == cause.ReasonCilium && w.ciliumKeeps:
		default:
			reason = d.replaces
		}
	}
	return reason, unclear && reason == ""
}

// expected returns whether kube-proxy should run on a node, and why; nil if
// neither kube-proxy nor a replacement was found, so that it may run in a way
// that is not known here.
func (w *world) expected(n *nodeRow, s *cause.Snapshot, excluded bool, replaced string, unclear bool) *cause.Expected {
	mirror := slices.ContainsFunc(s.Pods.List, func(p cause.Pod) bool { return p.Static })
	switch {
	case mirror:
		return &cause.Expected{Yes: true, Reason: cause.ReasonStaticPod}
	case n.virtual():
		return &cause.Expected{Reason: cause.ReasonVirtual}
	case s.Placement.DaemonSet != "" && excluded:
		return &cause.Expected{Reason: cause.ReasonExcluded}
	case s.Placement.DaemonSet != "" && !s.Placement.Selected && replaced != "" && len(s.Pods.List) == 0:
		return &cause.Expected{Reason: replaced}
	case s.Placement.DaemonSet != "" && !s.Placement.Selected && unclear && len(s.Pods.List) == 0:
		return nil
	case s.Placement.DaemonSet != "", len(s.Pods.List) > 0:
		return &cause.Expected{Yes: true, Reason: cause.ReasonDaemonSet}
	case n.embedded():
		return &cause.Expected{Reason: cause.ReasonEmbedded}
	case replaced != "":
		return &cause.Expected{Reason: replaced}
	case unclear:
		return nil
	case w.static:
		return &cause.Expected{Yes: true, Reason: cause.ReasonStaticPod}
	case w.installed:
		return &cause.Expected{Yes: true, Reason: cause.ReasonDefault}
	}
	return nil
}
