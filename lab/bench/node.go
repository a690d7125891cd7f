package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/prometheus/procfs"

	"github.com/kproxy-exporter/kproxy-exporter/lab/cluster"
	"github.com/kproxy-exporter/kproxy-exporter/lab/exporter"
	"github.com/kproxy-exporter/kproxy-exporter/lab/machine"
)

// Limits of the node role on a small cluster where nothing happens.
const (
	idleMemory = 30.0 // MB, resident
	idleCPU    = 0.5  // percent of a core
	idleWindow = 2 * time.Minute
)

// idle measures the node role as users install it, and kube-proxy beside it,
// while nothing happens but a scrape each 15 s.
func idle(ctx context.Context, c *cluster.Cluster, cfg Config, out io.Writer, p *cluster.Progress) error {
	if err := p.Step("install the node role", func() error { return exporter.InstallNode(ctx, c, cfg.Root) }); err != nil {
		return err
	}
	name := cluster.NodeName(1)
	m, err := c.Node(name)
	if err != nil {
		return err
	}
	cp, err := c.Node(cluster.ControlPlane)
	if err != nil {
		return err
	}
	took, err := use(ctx, m, cp, "http://"+exporter.NodeAddress(1)+"/metrics", func(context.Context) error { return nil }, p, "watch it")
	if err != nil {
		return err
	}
	ours, theirs := took[0], took[1]
	fmt.Fprintf(out, "\nThe node role on a cluster of one node where nothing happens, scraped every %s.\n", interval)
	return errors.Join(
		print(out, "limit", []figure{
			{"resident memory", "MB", ours.residentMB, idleMemory, 1},
			{"CPU", "% of a core", ours.percent(), idleCPU, 1},
		}),
		print(out, "kube-proxy", []figure{
			{"resident memory", "MB", ours.residentMB, theirs.residentMB, 0},
			{"CPU", "% of a core", ours.percent(), theirs.percent(), 0},
		}))
}

// both are what the exporter and kube-proxy took on a node.
func both(m *machine.Machine) ([2]stat, error) {
	var out [2]stat
	fs, err := procfs.NewFS(m.Path("/proc"))
	if err != nil {
		return out, err
	}
	all, err := fs.AllProcs()
	if err != nil {
		return out, err
	}
	found := [2]bool{}
	for _, p := range all {
		comm, err := p.Comm()
		if err != nil {
			continue // it has ended
		}
		for i, name := range []string{"kproxy-exporter", "kube-proxy"} {
			if comm == name {
				if out[i], err = statOf(p); err != nil {
					return out, err
				}
				found[i] = true
			}
		}
	}
	if found != [2]bool{true, true} {
		return out, fmt.Errorf("exporter and kube-proxy run: %v", found)
	}
	return out, nil
}
