package collector

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
)

// How often the API server's version is asked for: it changes in upgrades.
const (
	versionInterval = 10 * time.Minute
	versionRetry    = 30 * time.Second
)

// versionReader knows the API server's version.
type versionReader struct {
	api     API
	contact *contact

	mu sync.Mutex
	// mu protects version, nil until it was read.
	version *cause.Version
}

func (r *versionReader) run(ctx context.Context) {
	for {
		wait := versionInterval
		if !r.read(ctx) {
			wait = versionRetry
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (r *versionReader) read(ctx context.Context) bool {
	began := time.Now()
	info, err := r.api.Version(ctx)
	if err != nil {
		r.contact.failedUnlessStopped(ctx, err)
		return false
	}
	r.contact.succeeded(time.Since(began))
	r.contact.markSynced()
	major, err1 := strconv.Atoi(info.Major)
	// Some providers write "37+".
	minor, err2 := strconv.Atoi(strings.TrimRight(info.Minor, "+"))
	if err1 != nil || err2 != nil {
		return true // it answers; what it says is not a version
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.version = &cause.Version{Major: major, Minor: minor}
	return true
}

func (r *versionReader) get() *cause.Version {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.version
}
