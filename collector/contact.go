package collector

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// quietLimit is how long a watch may say nothing at all. The API server ends
// every watch within ten minutes and the reader then asks anew, so more silence
// than this is not quiet but dead.
const quietLimit = 12 * time.Minute

// contact knows when a source last answered. client-go retries in silence, so
// this is the only place that can tell old knowledge from current.
type contact struct {
	reader string
	// what is "verb resource" for the log.
	what   string
	logger log.Logger

	mu sync.Mutex
	// mu protects following.
	synced    bool
	lastOK    time.Time
	failing   time.Time // since when every try fails; zero if the last one succeeded
	backAt    time.Time // when one succeeded after those that failed last
	lastError string
	duration  time.Duration // of the last request
	opened    time.Time     // when the last request began
	before    time.Time     // lastOK at that time
}

// contactState is a copy of a contact at one instant.
type contactState struct {
	synced   bool
	ok       bool // the last try succeeded
	failed   bool // the last try failed
	lastOK   time.Time
	duration time.Duration
	// fresh is whether what was read may still be believed.
	fresh bool
}

func (c *contact) state(now time.Time, staleAfter time.Duration) contactState {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := contactState{synced: c.synced, ok: c.failing.IsZero() && !c.lastOK.IsZero(), failed: !c.failing.IsZero(), lastOK: c.lastOK, duration: c.duration}
	s.fresh = s.synced && now.Sub(c.lastOK) <= quietLimit && (c.failing.IsZero() || now.Sub(c.failing) <= staleAfter)
	return s
}

func (c *contact) succeeded(took time.Duration) {
	c.mu.Lock()
	was := c.failing
	c.failing, c.lastError, c.lastOK = time.Time{}, "", time.Now()
	if !was.IsZero() {
		c.backAt = c.lastOK
	}
	c.duration = took
	c.mu.Unlock()
	if !was.IsZero() {
		level.Info(c.logger).Log("msg", "source answers again", "reader", c.reader, "after", time.Since(was).Round(time.Second))
	}
}

// forgive forgets that the last try failed: what it was for is not wanted any
// more.
func (c *contact) forgive() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failing, c.lastError = time.Time{}, ""
}

// expired is whether a version is too old for a watch, which is no failure: the reader
// lists anew.
func expired(err error) bool { return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) }

// failed notes an error and logs it when it is news.
func (c *contact) failed(err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	c.mu.Lock()
	if c.failing.IsZero() {
		c.failing = time.Now()
	}
	news := c.lastError != err.Error()
	c.lastError = err.Error()
	c.mu.Unlock()
	if !news {
		return
	}
	if apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) {
		level.Error(c.logger).Log("msg", "the API server refuses this reader; see the RBAC rules in deploy", "reader", c.reader, "lacks", c.what, "err", err)
		return
	}
	level.Warn(c.logger).Log("msg", "source cannot be read", "reader", c.reader, "what", c.what, "err", err)
}

// failedUnlessStopped is failed, but for what only our own end brought about.
func (c *contact) failedUnlessStopped(ctx context.Context, err error) {
	if ctx.Err() == nil {
		c.failed(err)
	}
}

func (c *contact) markSynced() {
	c.mu.Lock()
	c.synced = true
	c.mu.Unlock()
}

// answersSince is since when every try succeeded: now, if the last one did not, zero if
// none ever failed.
func (c *contact) answersSince(now time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.failing.IsZero() {
		return now
	}
	return c.backAt
}

// open notes that a request begins.
func (c *contact) open(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opened, c.before = at, c.lastOK
}

// opening is when the newest request began, and when the source had last
// answered before, zero if never; ok once everything has been read.
func (c *contact) opening() (opened, before time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.opened, c.before, c.synced
}

// listWatch wraps the two calls of a reflector so that every answer and every
// refusal is noted, bookmarks included.
func (c *contact) listWatch(
	list func(context.Context, metav1.ListOptions) (runtime.Object, error),
	watchFor func(context.Context, metav1.ListOptions) (watch.Interface, error),
) *cache.ListWatch {
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			began := time.Now()
			if o.Continue == "" { // else it is a page of the same list
				c.open(began)
			}
			out, err := list(ctx, o)
			if err != nil {
				c.failedUnlessStopped(ctx, err)
				return out, err
			}
			c.succeeded(time.Since(began))
			return out, nil
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			delay := retryBackoff().DelayFunc()
			for {
				began := time.Now()
				c.open(began)
				w, err := watchFor(ctx, o)
				switch {
				case err == nil:
					return c.listen(ctx, w, time.Since(began)), nil
				case expired(err): // client-go asks again at once, however often
					pause(ctx, settled)
					return w, err
				}
				c.failedUnlessStopped(ctx, err)
				if !utilnet.IsConnectionRefused(err) && !apierrors.IsTooManyRequests(err) {
					return w, err
				}
				// client-go would ask again too, and wait for it without an eye on ctx.
				if !pause(ctx, delay()) {
					return w, ctx.Err()
				}
			}
		},
	}
}

// pause waits for so long; false if the context ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// retryBackoff is how long is waited before the API server is asked again: 10 to 20
// seconds at the most. client-go's own would leave a node a minute behind.
func retryBackoff() *wait.Backoff {
	return &wait.Backoff{Duration: 800 * time.Millisecond, Factor: 2, Jitter: 1, Steps: 10, Cap: 10 * time.Second}
}

// settled is how long a watch that says nothing must last to be an answer.
// client-go makes an empty watch, which ends at once, of a connection that was
// closed before the answer: so does a load balancer with no API server behind it.
const settled = time.Second

var errShortWatch = errors.New("the watch ended at once: nobody behind the address")

// listen passes a watch on and notes what it says.
func (c *contact) listen(ctx context.Context, w watch.Interface, took time.Duration) watch.Interface {
	out := make(chan watch.Event)
	passed := watch.NewProxyWatcher(out)
	go func() {
		defer close(out)
		defer w.Stop()
		opened, heard := time.Now(), false
		timer := time.AfterFunc(settled, func() { c.succeeded(took) })
		defer timer.Stop()
		for {
			select {
			case e, ok := <-w.ResultChan():
				if !ok {
					if !heard && time.Since(opened) < settled {
						c.failedUnlessStopped(ctx, errShortWatch)
					}
					return
				}
				heard = true
				if e.Type == watch.Error {
					if err := apierrors.FromObject(e.Object); !expired(err) {
						c.failedUnlessStopped(ctx, err)
					}
				} else {
					c.succeeded(took)
				}
				select {
				case out <- e:
				case <-passed.StopChan():
					return
				}
			case <-passed.StopChan():
				return
			}
		}
	}()
	return passed
}
