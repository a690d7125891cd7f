package collector

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
	"github.com/kproxy-exporter/kproxy-exporter/collector/local"
)

func (n *Node) readConntrack(context.Context) error {
	c, err := local.ReadConntrack(n.cfg.ProcPath)
	n.mu.Lock()
	defer n.mu.Unlock()
	if err != nil {
		n.seen.conntrack = nil
		return err
	}
	now := &cause.Conntrack{Entries: c.Entries, Max: c.Max, Drops: c.Drops}
	if before := n.seen.conntrack; before != nil {
		now.DropsSince = before.DropsSince
		if c.Drops > before.Drops && now.DropsSince.IsZero() {
			now.DropsSince = time.Now()
		}
		if c.Drops == before.Drops && c.Entries < c.Max/2 {
			now.DropsSince = time.Time{} // it is over
		}
	}
	n.seen.conntrack = now
	return nil
}

func (n *Node) readRules(context.Context) error {
	w, err := n.ruleWorlds(n.worlds)
	n.worlds = w
	if err != nil {
		n.worlds = local.RuleWorlds{}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seen.noNFTables = errors.Is(err, local.ErrNoNFTables)
	if err != nil {
		n.seen.rules = nil
		return err
	}
	now := cause.RuleWorlds{NFTables: w.NFTables, IPTables: w.IPTables, Legacy: w.Legacy, Since: time.Now()}
	if before := n.seen.rules; before != nil && before.NFTables == now.NFTables && before.IPTables == now.IPTables && before.Legacy == now.Legacy {
		now.Since = before.Since
	}
	n.seen.rules = &now
	return nil
}

func (n *Node) readInotify(context.Context) error {
	err := local.TryInotify()
	n.mu.Lock()
	defer n.mu.Unlock()
	var limit *local.LimitError
	switch {
	case errors.As(err, &limit):
		if n.seen.inotify == nil || n.seen.inotify.Left {
			n.seen.inotify = &cause.Limit{Error: err.Error(), Since: time.Now()}
		}
		return nil
	case err != nil:
		n.seen.inotify = nil
		return err
	case n.seen.inotify == nil || !n.seen.inotify.Left:
		n.seen.inotify = &cause.Limit{Left: true, Since: time.Now()}
	}
	return nil
}

func (n *Node) readRuntime(ctx context.Context) error {
	path, err := local.TryRuntime(ctx, n.cfg.RootPath)
	n.mu.Lock()
	defer n.mu.Unlock()
	if path == "" {
		n.seen.runtime = nil
		return errors.New("no container runtime's socket below " + n.cfg.RootPath)
	}
	if err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
		n.seen.runtime = nil
		return fmt.Errorf("the container runtime's socket: %w", err) // who may not ask knows nothing
	}
	way := ""
	if err != nil {
		way = err.Error()
	}
	n.seen.runtimeWay.Note(way, time.Now())
	n.seen.runtime = &cause.Socket{Path: path, Error: way, Since: n.seen.runtimeWay.Since, Times: n.seen.runtimeWay.Times}
	return nil
}
