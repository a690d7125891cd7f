package apitest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

func (s *Server) watch(w http.ResponseWriter, r *http.Request, resource, namespace string) {
	of, err := selects(r, resource, namespace)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	info := s.media(r)
	stream := &stream{s: s, info: info, w: w, frames: info.StreamSerializer.NewFrameWriter(w)}
	q := r.URL.Query()
	from, _ := strconv.ParseUint(q.Get("resourceVersion"), 10, 64)
	s.mu.Lock()
	s.watches++
	stream.opened = s.version
	ended, expired := s.ended, from != 0 && from < s.forgotten
	if from == 0 || q.Get("sendInitialEvents") == "true" {
		for _, o := range s.selected(&of) {
			stream.add(watch.Added, o)
		}
		from, expired = s.version, false
		if q.Get("sendInitialEvents") == "true" {
			stream.bookmark(s.kinds[resource], from)
		}
	}
	s.mu.Unlock()
	defer func() { s.mu.Lock(); s.watches--; s.mu.Unlock() }()
	media := info.MediaType
	if media == runtime.ContentTypeProtobuf {
		media += ";stream=watch"
	}
	w.Header().Set("Content-Type", media)
	if expired {
		stream.add(watch.Error, &apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d", from)).ErrStatus)
		_ = stream.send()
		return
	}
	timeout := 5 * time.Minute
	if n, err := strconv.Atoi(q.Get("timeoutSeconds")); err == nil {
		timeout = time.Duration(n) * time.Second
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		if err := stream.send(); err != nil {
			return
		}
		w.(http.Flusher).Flush()
		more := s.since(&of, &from, stream)
		if len(stream.events) > 0 {
			continue
		}
		select {
		case <-more:
		case <-ended:
			return
		case <-timer.C:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// since gives a watch what came after a version, and moves that on.
func (s *Server) since(of *selection, from *uint64, to *stream) (more chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first, _ := slices.BinarySearchFunc(s.log, *from+1, func(e event, v uint64) int { return cmp.Compare(e.version, v) })
	for _, e := range s.log[first:] {
		if e.raw != nil && e.version > to.opened {
			to.events = append(to.events, frame{raw: e.raw})
		}
		if e.resource != of.resource {
			continue
		}
		is, was := of.has(e.object), of.has(e.was)
		switch {
		case is && was:
			to.add(watch.Modified, e.object)
		case is:
			to.add(watch.Added, e.object)
		case was:
			gone := e.was
			if e.object != nil { // it is not asked for any more
				gone = e.object
			}
			to.add(watch.Deleted, gone)
		}
	}
	*from = s.version
	return s.more
}

// stream writes events.
type stream struct {
	s      *Server
	info   runtime.SerializerInfo
	w      io.Writer
	frames io.Writer
	events []frame
	opened uint64
}

// frame is an event, or what is none.
type frame struct {
	kind   watch.EventType
	object runtime.Object
	raw    []byte
}

func (t *stream) add(kind watch.EventType, o runtime.Object) {
	t.events = append(t.events, frame{kind: kind, object: o})
}

// bookmark says that everything that was there has been said.
func (t *stream) bookmark(k kind, version uint64) {
	o, err := t.s.scheme.New(k.gvk)
	if err != nil {
		panic(err)
	}
	m, _ := metaOf(o)
	m.SetResourceVersion(strconv.FormatUint(version, 10))
	m.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	t.add(watch.Bookmark, o)
}

func (t *stream) send() error {
	for _, f := range t.events {
		if f.raw != nil {
			if _, err := t.w.Write(f.raw); err != nil {
				return err
			}
			continue
		}
		b, err := t.s.encode(t.info.Serializer, f.object)
		if err != nil {
			return err
		}
		e := &metav1.WatchEvent{Type: string(f.kind), Object: runtime.RawExtension{Raw: b}}
		var out bytes.Buffer
		if t.info.MediaType == runtime.ContentTypeJSON {
			err = json.NewEncoder(&out).Encode(e)
		} else {
			err = t.info.StreamSerializer.Encode(e, &out)
		}
		if err != nil {
			return err
		}
		if _, err := t.frames.Write(out.Bytes()); err != nil {
			return err
		}
	}
	t.events = nil
	return nil
}
