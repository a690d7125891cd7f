package collector

import (
	"slices"
	"time"

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
	// ports is what kube-proxy's ports on a node answered, nil if not asked.
	ports func(node string) *cause.Ports
	// server is the API server's version, nil while unknown.
	server func() *cause.Version
	// logs are what a pod's ended and its running container said, nil if not read.
	logs func(uid string) (ended, running *cause.Log)
	// goneSince is since when a node has had no kube-proxy pod.
	goneSince func(node string, now time.Time) (since time.Time, seenGoing bool)
	// wantedSince is since when a DaemonSet has wanted a pod on a node.
	wantedSince func(node string, p *cause.Placement, now time.Time) time.Time
	dump        bool
}

// snapshots judges by what is fresh.
func (c *Cluster) snapshots(now time.Time) []*cause.Snapshot {
	return c.view.snapshots(now, c.freshParts(now))
}

// snapshots puts what is known now about every node into one Snapshot each, in
// the order of names. Without a fresh list of nodes there is none to speak of:
// the last known nodes are named and everything about them is unknown.
func (c *view) snapshots(now time.Time, fresh map[part]bool) []*cause.Snapshot {
	pods := map[string][]cause.Pod{}
	static := false
	events := c.eventsByObject(fresh[eventPart])
	for _, t := range c.pods {
		t.each(func(r *podRow) {
			p := r.status
			p.Log, p.Current = c.logs(r.uid)
			p.Events = events[objectKey{"Pod", r.namespace, r.status.Name}]
			pods[r.node] = append(pods[r.node], p)
			static = static || p.Static
		})
	}
	var own []*daemonSetRow
	replaced := ""
	c.daemonSets.each(func(r *daemonSetRow) {
		if r.replaces != "" {
			replaced = r.replaces
		} else {
			own = append(own, r)
		}
	})
	slices.SortFunc(own, func(a, b *daemonSetRow) int { return a.created.Compare(b.created) })
	config, claims := c.config(fresh[configPart])
	noTarget := ""
	if fresh[servicePart] && fresh[podPart] {
		noTarget = c.noTarget()
	}

	var out []*cause.Snapshot
	c.nodes.each(func(n *nodeRow) {
		s := &cause.Snapshot{Now: now, Name: n.name, Config: config, Server: c.server(), Replaced: claims, EventsKnown: fresh[eventPart], NoTarget: noTarget, Ports: c.ports(n.name), Dump: c.dump}
		if fresh[nodePart] && !n.absent {
			status := n.status
			status.Events = events[objectKey{"Node", "", n.name}]
			s.Node = &status
		}
		if fresh[podPart] || n.hasPods {
			list := pods[n.name]
			slices.SortFunc(list, comparePods)
			s.Pods = &cause.Pods{List: list}
			s.Pods.GoneSince, s.Pods.SeenGoing = c.goneSince(n.name, now)
			if s.Pods.GoneSince.IsZero() && !c.dump {
				s.Pods.GoneSince, s.Pods.SeenGoing = now, true // one came after the list was made
			}
		}
		if fresh[nodePart] && fresh[podPart] && fresh[daemonSetPart] {
			var excluded bool
			s.Placement, excluded = place(own, n, events)
			s.Placement.WantedSince = c.wantedSince(n.name, s.Placement, now)
			s.Expected = expected(n, s, excluded, static, replaced)
		}
		out = append(out, s)
	})
	slices.SortFunc(out, func(a, b *cause.Snapshot) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return out
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
	for _, r := range c.readers {
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

// expected is whether kube-proxy should run on a node, and why.
func expected(n *nodeRow, s *cause.Snapshot, excluded, static bool, replaced string) *cause.Expected {
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
	case s.Placement.DaemonSet != "", len(s.Pods.List) > 0:
		return &cause.Expected{Yes: true, Reason: cause.ReasonDaemonSet}
	case n.embedded():
		return &cause.Expected{Reason: cause.ReasonEmbedded}
	case replaced != "":
		return &cause.Expected{Reason: replaced}
	case static:
		return &cause.Expected{Yes: true, Reason: cause.ReasonStaticPod}
	}
	return &cause.Expected{Yes: true, Reason: cause.ReasonDefault}
}
