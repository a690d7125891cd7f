package kubeapi

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// patience is how long what comes from an API server may take. client-go waits for
// ever: for an answer, for its end, for a watch that should have ended, and for the
// rest of what is no event at all.
type patience struct {
	// answer is until an answer begins: an API server gives up after a minute itself.
	answer time.Duration
	// body is until what is no watch has come.
	body time.Duration
	// over is how much longer than it asked for a watch may last.
	over time.Duration
	// frame is until an event of a watch has come, after its first byte.
	frame time.Duration
}

var usualPatience = patience{answer: 70 * time.Second, body: 2 * time.Minute, over: time.Minute, frame: 30 * time.Second}

// maxFrame is more than any event has: etcd takes objects of 1.5 MiB.
const maxFrame = 16 << 20

var (
	errNoAnswer = errors.New("no answer")
	errNoEnd    = errors.New("an answer without an end")
	errLong     = errors.New("a watch that does not end when it should")
	errHalf     = errors.New("half an event, and no more of it")
)

// patient ends requests that take too long.
type patient struct {
	patience
	next http.RoundTripper
}

// WrappedRoundTripper is for client-go, which closes idle connections.
func (p *patient) WrappedRoundTripper() http.RoundTripper { return p.next }

func (p *patient) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	late := errNoAnswer
	timer := time.AfterFunc(p.answer, func() { cancel(late) })
	res, err := p.next.RoundTrip(req.WithContext(ctx))
	if !timer.Stop() && err == nil { // it came when nobody waited any more
		res.Body.Close()
		err = late
	}
	if err != nil {
		cause := context.Cause(ctx)
		cancel(nil)
		if errors.Is(cause, late) {
			err = fmt.Errorf("%w within %s", late, p.answer)
		}
		return nil, err
	}
	b := &answerBody{ReadCloser: res.Body, ctx: ctx, cancel: cancel}
	within, why := p.body, errNoEnd
	q := req.URL.Query()
	if watch := q.Get("watch"); watch == "true" || watch == "1" {
		within, why = 0, errLong
		if seconds, err := strconv.Atoi(q.Get("timeoutSeconds")); err == nil {
			within = time.Duration(seconds)*time.Second + p.over
		}
		if kind := res.Header.Get("Content-Type"); strings.Contains(kind, "protobuf") && res.StatusCode == http.StatusOK {
			b.frames = &frames{within: p.frame, late: func() { cancel(errHalf) }}
		}
	}
	if within > 0 {
		b.timer = time.AfterFunc(within, func() { cancel(why) })
	}
	res.Body = b
	return res, nil
}

// answerBody is what an answer holds.
type answerBody struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer // nil if it may last for ever
	frames *frames     // nil if it is not made of them
	bad    error       // what was wrong with a frame
}

func (b *answerBody) Read(p []byte) (int, error) {
	if b.bad != nil { // else who wants no more than was read before it waits for more
		return 0, b.bad
	}
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		if cause := context.Cause(b.ctx); cause != nil && !errors.Is(cause, context.Canceled) && !errors.Is(err, io.EOF) {
			err = cause
		}
		return n, err
	}
	if b.frames != nil {
		b.bad = b.frames.pass(p[:n])
	}
	return n, nil
}

func (b *answerBody) Close() error {
	if b.timer != nil {
		b.timer.Stop()
	}
	if b.frames != nil {
		b.frames.close()
	}
	b.cancel(nil)
	return b.ReadCloser.Close()
}

// frames follows a stream of events, each behind its length in four bytes: client-go
// takes any four bytes for a length, and waits for so much more.
type frames struct {
	within time.Duration
	late   func()

	head  [4]byte
	heads int    // how many bytes of head have come
	left  uint32 // how much of the event is to come

	mu sync.Mutex
	// mu protects following: who reads and who closes need not be the same.
	timer  *time.Timer
	closed bool
}

// pass follows what has come.
func (f *frames) pass(b []byte) error {
	for len(b) > 0 {
		if f.left > 0 {
			n := min(len(b), int(f.left))
			b, f.left = b[n:], f.left-uint32(n)
		} else {
			n := copy(f.head[f.heads:], b)
			b, f.heads = b[n:], f.heads+n
			if f.heads < len(f.head) {
				break
			}
			if f.heads, f.left = 0, binary.BigEndian.Uint32(f.head[:]); f.left > maxFrame {
				return fmt.Errorf("no event: one of %d bytes", f.left)
			}
		}
		if f.left == 0 {
			f.end()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if (f.left > 0 || f.heads > 0) && f.timer == nil && !f.closed {
		f.timer = time.AfterFunc(f.within, f.late)
	}
	return nil
}

// end notes that an event is complete.
func (f *frames) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.timer != nil {
		f.timer.Stop()
		f.timer = nil
	}
}

// close notes that nothing more is waited for.
func (f *frames) close() {
	f.end()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
}
