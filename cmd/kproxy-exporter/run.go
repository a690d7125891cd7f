package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/exporter-toolkit/web"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/kproxy-exporter/kproxy-exporter/collector"
	"github.com/kproxy-exporter/kproxy-exporter/collector/kubeapi"
)

type config struct {
	kubeconfig string
	logLevel   string
	logFormat  string
	web        *web.FlagConfig

	namespace  string
	selectors  []string
	staleAfter time.Duration
	ports      time.Duration

	diagnose diagnoseConfig
}

// shutdownTimeout is how long requests that are being answered may take to end.
const shutdownTimeout = 5 * time.Second

// run serves the cluster role until the context ends.
func run(ctx context.Context, cfg config, l logs) error {
	client, err := newClient(cfg.kubeconfig)
	if err != nil {
		return err
	}
	cluster, err := newCluster(client, cfg, l)
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(versioncollector.NewCollector("kproxy"),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	handler, err := newHandler(registry, cluster, l)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute}

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { cluster.Run(ctx); return nil })
	g.Go(func() error { releaseStartup(ctx, cluster); return nil })
	g.Go(func() error {
		if err := web.ListenAndServe(server, cfg.web, l.slog); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		return server.Shutdown(ctx)
	})
	return g.Wait()
}

// releaseStartup gives back, once everything has been read, the memory that
// reading took: on a large cluster it is twice what stays in use.
func releaseStartup(ctx context.Context, r role) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if ok, _ := r.Ready(); ok {
				debug.FreeOSMemory()
				return
			}
		}
	}
}

func newCluster(client collector.API, cfg config, l logs) (*collector.Cluster, error) {
	return collector.NewCluster(collector.Config{
		API: client, Namespace: cfg.namespace, Selectors: cfg.selectors, StaleAfter: cfg.staleAfter, PortInterval: cfg.ports, Logger: l.logger, Klog: l.klog,
	})
}

// newClient reads the API with the kubeconfig, or as the pod's service account.
func newClient(kubeconfig string) (*kubeapi.Client, error) {
	cfg, err := rest.InClusterConfig()
	if kubeconfig != "" {
		rules := &clientcmd.ClientConfigLoadingRules{Precedence: filepath.SplitList(kubeconfig)}
		if len(rules.Precedence) == 1 {
			rules = &clientcmd.ClientConfigLoadingRules{ExplicitPath: kubeconfig} // it must be there
		}
		cfg, err = clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{}).ClientConfig()
	}
	if errors.Is(err, rest.ErrNotInCluster) {
		return nil, errors.New("no cluster to watch: give --kubeconfig, or run in a pod with a service account")
	}
	if err != nil {
		return nil, fmt.Errorf("read API access: %w", err)
	}
	cfg.UserAgent = "kproxy-exporter"
	return kubeapi.New(cfg)
}
