package collector

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
	"github.com/kproxy-exporter/kproxy-exporter/collector/local"
)

// programs are what kube-proxy runs in a mode (pkg/proxy of Kubernetes).
var programs = map[string][]string{
	"nftables": {"nft"},
	"iptables": {"iptables", "iptables-save", "iptables-restore"},
	"ipvs":     {"iptables", "iptables-save", "iptables-restore", "ipset"},
}

// forwarding is the sysctl without which a family's packets go no further.
var forwarding = map[string]string{familyIPv4: "net/ipv4/ip_forward", familyIPv6: "net/ipv6/conf/all/forwarding"}

// readNeeds looks for what kube-proxy needs: in the kernel, and in its image.
func (n *Node) readNeeds(context.Context) error {
	n.mu.Lock()
	p, mode, before, unread := n.seen.process, n.seen.mode, n.seen.needs, n.seen.configUnread
	now := &cause.Needs{NoNFTables: n.seen.noNFTables}
	n.mu.Unlock()
	if r := n.runs.of(n.cfg.Name, n.lifeNow()); r != nil && r.Mode != "" {
		mode = r.Mode
	}
	if now.Mode = mode; mode == "" && !unread {
		now.Mode = "iptables" // kube-proxy's own choice on Linux
	}
	err := n.findNeeds(now, p, before)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seen.needs = nil
	if err == nil {
		n.seen.needs = now
	}
	return err
}

func (n *Node) findNeeds(now *cause.Needs, p *local.Process, before *cause.Needs) error {
	for name, missing := range map[string]*bool{
		"sys/net/netfilter/nf_conntrack_max": &now.NoConntrack, "net/ip_tables_names": &now.NoIPTables, "net/ip_vs": &now.NoIPVS,
	} {
		there, err := local.Exists(n.cfg.ProcPath, name)
		if err != nil {
			return err
		}
		*missing = !there
	}
	if n.cfg.VIPHost != "" { // it tells the family of the cluster's Services
		now.Forwarding = forwarding[familyOf(n.cfg.VIPHost)]
		zero, err := local.SysctlIsZero(n.cfg.ProcPath, now.Forwarding)
		if err != nil {
			return err
		}
		if zero {
			now.NoForwarding = time.Now()
			if before != nil && !before.NoForwarding.IsZero() {
				now.NoForwarding = before.NoForwarding
			}
		}
	}
	if p == nil {
		return nil
	}
	for _, program := range programs[now.Mode] {
		lacks, path, err := p.Lacks(program)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			return nil // it has ended meanwhile
		}
		if err != nil {
			return fmt.Errorf("kube-proxy's root file system (it needs CAP_SYS_PTRACE and the node's processes): %w", err)
		}
		if lacks {
			now.Programs = append(now.Programs, fmt.Sprintf("mode %s needs %s, and process %d finds none in %s", now.Mode, program, p.PID, path))
		}
	}
	return nil
}
