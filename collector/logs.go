package collector

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/go-kit/log"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/workqueue"

	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
	"github.com/kproxy-exporter/kproxy-exporter/collector/kubelog"
)

// Bounds of one log request. What ended a process is in its last lines, but
// the flag parser prints its whole usage after the line that matters.
const (
	logTailLines  int64 = 1000
	logBytes      int64 = 512 << 10
	logTimeout          = 10 * time.Second
	logParallel         = 4
	logTries            = 3
	logRecentness       = 15 * time.Minute
	// logAgain is how often the log of a running container is read anew.
	logAgain = time.Minute
)

// logRequest names a terminated container.
type logRequest struct {
	uid, namespace, pod, container, containerID string
	// previous says that another container came after it.
	previous bool
	// current asks for the log of the container that runs.
	current bool
}

// logReader reads the logs of kube-proxy containers that ended, each one once,
// and only of pods that are not well.
type logReader struct {
	api     API
	contact *contact
	queue   workqueue.TypedRateLimitingInterface[logRequest]

	mu sync.Mutex
	// mu protects following.
	asked map[string]string    // pod uid -> container id last asked for
	logs  map[string]cause.Log // pod uid -> newest log that was read
	// running are the newest logs of running containers that are not well, and
	// when they were asked for.
	running      map[string]cause.Log
	runningAsked map[string]time.Time
	// lacking are the pods whose log could not be read and is still wanted.
	lacking map[string]bool
	// refused says that the API server gives no log at all, wanted or not.
	refused bool
}

func newLogReader(api API, logger log.Logger) *logReader {
	return &logReader{
		api:     api,
		contact: &contact{reader: "logs", what: "get pods/log", logger: logger},
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[logRequest](500*time.Millisecond, 10*time.Second)),
		asked: map[string]string{}, logs: map[string]cause.Log{},
		running: map[string]cause.Log{}, runningAsked: map[string]time.Time{},
		lacking: map[string]bool{},
	}
}

// podChanged asks for the log of a container that ended.
func (l *logReader) podChanged(previous, current *podRow) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if previous != nil && (current == nil || current.uid != previous.uid) {
		delete(l.asked, previous.uid)
		delete(l.logs, previous.uid)
		delete(l.running, previous.uid)
		delete(l.runningAsked, previous.uid)
		l.spare(previous.uid)
	}
	if current == nil {
		return
	}
	c := current.status.Container
	if c == nil || current.ended == "" || l.asked[current.uid] == current.ended {
		return
	}
	if !current.previous && c.Restarts == 0 {
		return // once is no loop
	}
	if c.Running() && time.Since(c.Started) > logRecentness {
		return
	}
	l.asked[current.uid] = current.ended
	l.queue.Add(logRequest{current.uid, current.namespace, current.status.Name, current.container, current.ended, current.previous, false})
}

// log returns what is known of a pod's last terminated container, and of its
// running one.
func (l *logReader) log(uid string) (ended, running *cause.Log) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if out, ok := l.logs[uid]; ok {
		ended = &out
	}
	if out, ok := l.running[uid]; ok {
		running = &out
	}
	return ended, running
}

// review asks for the log of a running container that is not well, now and
// again, and forgets what one said that is well again.
func (l *logReader) review(r *podRow, unwell bool, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !unwell {
		l.spare(r.uid)
		delete(l.running, r.uid)
		delete(l.runningAsked, r.uid)
		return
	}
	if now.Sub(l.runningAsked[r.uid]) < logAgain {
		return
	}
	l.runningAsked[r.uid] = now
	l.queue.Add(logRequest{r.uid, r.namespace, r.status.Name, r.container, "", false, true})
}

// spare notes that the log of a pod is not wanted any more. What could not be
// read is no failure then: nobody will ask for it again. The caller holds mu.
func (l *logReader) spare(uid string) {
	if !l.lacking[uid] {
		return
	}
	delete(l.lacking, uid)
	if len(l.lacking) == 0 && !l.refused {
		l.contact.forgive()
	}
}

// answered notes that the log of a pod was read, or is known to be gone.
func (l *logReader) answered(uid string, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.lacking, uid)
	l.refused = false
	l.contact.succeeded(took)
}

// failed notes that a log could not be read, if its pod is still there.
func (l *logReader) failed(r *logRequest, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ended := l.asked[r.uid]
	_, running := l.runningAsked[r.uid]
	switch {
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		l.refused = true
		l.contact.failed(err)
	case ended, running:
		l.lacking[r.uid] = true
		l.contact.failed(err)
	}
}

// run works until the context ends.
func (l *logReader) run(ctx context.Context) {
	var wg sync.WaitGroup
	for range logParallel {
		wg.Go(func() {
			for {
				r, stop := l.queue.Get()
				if stop {
					return
				}
				l.handle(ctx, r)
				l.queue.Done(r)
			}
		})
	}
	<-ctx.Done()
	l.queue.ShutDown()
	wg.Wait()
}

func (l *logReader) handle(ctx context.Context, r logRequest) {
	began := time.Now()
	b, err := l.read(ctx, r)
	out := cause.Log{ContainerID: r.containerID}
	switch {
	case ctx.Err() != nil:
		return
	case err == nil && lost(b):
		l.answered(r.uid, time.Since(began))
		if l.queue.NumRequeues(r) < logTries {
			l.queue.AddRateLimited(r) // its successor's may be there by then
			return
		}
		out.Error = "the kubelet has no log of it any more"
	case err == nil:
		l.answered(r.uid, time.Since(began))
		result := kubelog.Classify(b)
		out.Class, out.Line, out.At = result.Class, result.Line, result.At
	default:
		// A container that the kubelet has already forgotten is an answer, not
		// a failure of this reader.
		gone := apierrors.IsNotFound(err) || apierrors.IsBadRequest(err)
		if gone {
			l.answered(r.uid, time.Since(began))
		} else {
			l.failed(&r, err)
		}
		if !gone && !apierrors.IsForbidden(err) && l.queue.NumRequeues(r) < logTries {
			l.queue.AddRateLimited(r)
			return
		}
		out.Error = err.Error()
	}
	l.queue.Forget(r)
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, here := l.runningAsked[r.uid]; here && r.current {
		l.running[r.uid] = out
	}
	if _, here := l.asked[r.uid]; here && !r.current {
		l.logs[r.uid] = out
	}
}

// lost is whether an answer is no log: the kubelet says so in the place of one
// whose file is gone. A container that ended without a word looks the same.
func lost(log []byte) bool {
	log = bytes.TrimSpace(log)
	return len(log) == 0 || bytes.HasPrefix(log, []byte("unable to retrieve container logs for "))
}

func (l *logReader) read(ctx context.Context, r logRequest) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, logTimeout)
	defer cancel()
	lines, limit := logTailLines, logBytes
	stream, err := l.api.Log(ctx, r.namespace, r.pod, &corev1.PodLogOptions{
		Container: r.container, Previous: r.previous, Timestamps: true, TailLines: &lines, LimitBytes: &limit,
	})
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	b, err := io.ReadAll(io.LimitReader(stream, logBytes))
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("read log of %s/%s: %w", r.namespace, r.pod, err)
	}
	return b, nil
}
