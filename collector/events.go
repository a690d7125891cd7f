package collector

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
)

// eventsPerObject bounds what is shown of an object's warnings.
const eventsPerObject = 10

// eventBytes bounds what is kept of a message; the API server takes as much.
const eventBytes = 1024

// eventRow is what is kept of an event about a pod, a DaemonSet or a Node.
type eventRow struct {
	// kind, namespace and name are the object that the event is about.
	kind, namespace, name string
	event                 cause.Event
}

// convertEvent returns what keeps the events about objects that wanted says.
func convertEvent(wanted func(kind string) bool) func(any) (eventRow, bool) {
	return func(object any) (eventRow, bool) {
		e, ok := object.(*corev1.Event)
		if !ok || !wanted(e.InvolvedObject.Kind) {
			return eventRow{}, false
		}
		row := eventRow{kind: e.InvolvedObject.Kind, namespace: e.InvolvedObject.Namespace, name: e.InvolvedObject.Name}
		if row.kind == "Node" {
			row.namespace = "" // reporters differ, and a Node has none
		}
		row.event = cause.Event{Reason: e.Reason, Message: strings.Clone(e.Message[:min(len(e.Message), eventBytes)]), Time: eventTime(e), Count: max(1, e.Count)}
		if e.Series != nil {
			row.event.Count = e.Series.Count
		}
		return row, true
	}
}

// eventTime is when it was last seen: new events fill other fields than old ones.
func eventTime(e *corev1.Event) time.Time {
	t := e.LastTimestamp.Time
	for _, other := range []time.Time{e.EventTime.Time, e.FirstTimestamp.Time, e.CreationTimestamp.Time} {
		if t.IsZero() {
			t = other
		}
	}
	if e.Series != nil && e.Series.LastObservedTime.After(t) {
		t = e.Series.LastObservedTime.Time
	}
	return t
}

// newestFirst sorts and bounds events.
func newestFirst(events []cause.Event) []cause.Event {
	slices.SortFunc(events, func(a, b cause.Event) int { return b.Time.Compare(a.Time) })
	return events[:min(len(events), eventsPerObject)]
}
