package matrix

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/lab/cluster"
	"github.com/kproxy-exporter/kproxy-exporter/lab/fault"
)

// walkSilent lets every healthy change happen and wants no cause at any moment.
func walkSilent(t *testing.T, w *world) {
	for _, c := range fault.Changes {
		t.Run("silent "+c.Name, func(t *testing.T) {
			w.mustBeWell(t)
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
			defer cancel()
			done := make(chan error, 1)
			go func() { done <- c.Run(ctx, w.Cluster, node) }()
			looks := 0
			look := func(s state) string {
				looks++
				for n, causes := range s.active {
					return n + " is called " + strings.Join(causes, " ")
				}
				return ""
			}
			for ended := false; !ended; {
				select {
				case err := <-done:
					if err != nil {
						t.Error(err)
					}
					ended = true
				case <-time.After(100 * time.Millisecond):
				}
				s, err := w.scrape(ctx)
				if err != nil {
					t.Errorf("the exporter does not answer: %v", err)
				} else if wrong := look(s); wrong != "" && !t.Failed() {
					t.Errorf("%s\n%s", wrong, w.describe(ctx))
				}
			}
			if _, err := w.await(ctx, healWithin, func(s state) string { look(s); return s.notSilent(2) }); err != nil {
				t.Errorf("%v\n%s", err, w.describe(ctx))
			}
			t.Logf("%d looks", looks)
		})
	}
}

// lostAPI takes the API server away, once dead and once deaf: what is known
// becomes unknown, the exporter stays healthy, and it comes back by itself.
func lostAPI(t *testing.T, w *world) {
	ctx := t.Context()
	cp, err := w.Node(cluster.ControlPlane)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name       string
		take, give func() error
		within     time.Duration
	}{
		{
			"dead", func() error { return cp.StopService("kube-apiserver", syscall.SIGKILL) },
			func() error { return cluster.StartService(cp, "kube-apiserver") }, 30 * time.Second,
		},
		{
			// Nobody says that the connection is dead: HTTP/2 pings find out,
			// 45 s after the last word.
			"deaf", func() error { return cp.SignalService("kube-apiserver", syscall.SIGSTOP) },
			func() error { return cp.SignalService("kube-apiserver", syscall.SIGCONT) }, 3 * time.Minute,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := tc.take(); err != nil {
				t.Fatal(err)
			}
			unknown, err := w.await(ctx, tc.within, func(s state) string {
				if len(s.judged) > 0 || len(s.primary) > 0 {
					return "still believed"
				}
				return ""
			})
			if err != nil {
				t.Error(err)
			}
			if body, err := w.get(ctx, "/-/healthy"); err != nil {
				t.Errorf("healthy: %v %s", err, body)
			}
			if body, err := w.get(ctx, "/metrics"); err != nil || !strings.Contains(body, `kproxy_reader_success{reader="nodes"} 0`) {
				t.Errorf("the reader's failure does not show: %v\n%s", err, body)
			}
			if err := tc.give(); err != nil {
				t.Fatal(err)
			}
			// Nodes go NotReady while nobody hears them; that is true then.
			back, err := w.await(ctx, healWithin, func(s state) string { return s.notSilent(2) })
			if err != nil {
				t.Errorf("%v\n%s", err, w.describe(ctx))
			}
			t.Logf("%s: unknown after %.1fs, back after %.1fs", tc.name, unknown.Seconds(), back.Seconds())
		})
	}
}
