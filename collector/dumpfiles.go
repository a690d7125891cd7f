package collector

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
)

func (d *Dump) problem(format string, args ...any) {
	d.Problems = append(d.Problems, fmt.Sprintf(format, args...))
}

func (d *Dump) read(name string, limit int64) ([]byte, error) {
	info, err := fs.Stat(d.files, name)
	if err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("it has %d bytes, more than %d", info.Size(), limit)
	}
	return fs.ReadFile(d.files, name)
}

// load puts the objects of a list into a table; false if there is no such list.
// An object that cannot be read costs only itself.
func load[T any, O any, P interface {
	*O
}](d *Dump, name string, into *table[T], seen func(P)) bool {
	b, err := d.read(name, dumpFileBytes)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(name, "default/") {
			d.problem("%s: %v", name, err)
		}
		return false
	}
	var list struct{ Items []json.RawMessage }
	if err := json.Unmarshal(b, &list); err != nil {
		d.problem("%s: %v", name, err)
		return false
	}
	for i, raw := range list.Items {
		if text := strings.TrimSpace(string(raw)); text == "null" || text == "{}" {
			d.problem("%s: item %d is empty", name, i)
			continue
		}
		object := P(new(O))
		if err := json.Unmarshal(raw, object); err != nil {
			d.problem("%s: item %d: %v", name, i, err)
			continue
		}
		nameless(object, i)
		seen(object)
		if err := into.Add(object); err != nil {
			d.problem("%s: item %d: %v", name, i, err)
		}
	}
	return true
}

// nameless gives an object that lost its name one of its own.
func nameless(object any, i int) {
	if o, err := meta.Accessor(object); err == nil && o.GetName() == "" {
		o.SetName(fmt.Sprintf("item-%d", i))
	}
}

// saw notes a moment.
func (d *Dump) saw(moments ...time.Time) {
	for _, t := range moments {
		if t.After(d.newest) {
			d.newest = t
		}
	}
}

func (d *Dump) seenNode(n *corev1.Node) {
	for _, c := range n.Status.Conditions {
		d.saw(c.LastHeartbeatTime.Time, c.LastTransitionTime.Time)
	}
}

func (d *Dump) seenPod(p *corev1.Pod) {
	d.saw(p.CreationTimestamp.Time)
	for _, c := range p.Status.Conditions {
		d.saw(c.LastTransitionTime.Time)
	}
	for _, s := range p.Status.ContainerStatuses {
		for _, state := range []corev1.ContainerState{s.State, s.LastTerminationState} {
			if state.Running != nil {
				d.saw(state.Running.StartedAt.Time)
			}
			if state.Terminated != nil {
				d.saw(state.Terminated.FinishedAt.Time)
			}
		}
	}
}

func (d *Dump) seenEvent(e *corev1.Event) { d.saw(eventTime(e)) }
