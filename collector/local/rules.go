package local

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/kproxy-exporter/kproxy-exporter/collector/rules"
)

// Names that kube-proxy gives (pkg/proxy of Kubernetes): its own table in mode
// nftables, and its first chain in the modes that write by iptables.
const (
	proxyTable    = "kube-proxy"
	servicesChain = "KUBE-SERVICES"
)

// RuleWorlds says where rules of kube-proxy are that packets meet.
type RuleWorlds struct {
	// NFTables is its own table; IPTables are chains by iptables on nf_tables;
	// Legacy are chains by the old iptables.
	NFTables, IPTables, Legacy bool
}

// ErrNoNFTables says that the kernel has no nf_tables.
var ErrNoNFTables = errors.New("the kernel has no nf_tables")

// ReadRuleWorlds asks the kernel. It needs CAP_NET_ADMIN: the kernel asks for it
// even to show.
func ReadRuleWorlds() (RuleWorlds, error) {
	var w RuleWorlds
	conn, err := nftables.New()
	if err != nil {
		return w, err
	}
	for _, family := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6} {
		chains, err := conn.ListChainsOfTableFamily(family)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPROTONOSUPPORT) { // nfnetlink without that subsystem, or none
			return w, fmt.Errorf("%w: %w", ErrNoNFTables, err)
		}
		if err != nil {
			return w, fmt.Errorf("list the chains of nf_tables (it needs CAP_NET_ADMIN): %w", err)
		}
		for _, c := range chains {
			if c.Hooknum == nil {
				continue // only base chains are met by packets
			}
			switch {
			case c.Table.Name == proxyTable:
				w.NFTables = true
			case c.Table.Name == "nat" && !w.IPTables:
				if w.IPTables, err = jumpsTo(conn, c, servicesChain); err != nil {
					return w, err
				}
			}
		}
	}
	w.Legacy, err = legacyHas(servicesChain)
	return w, err
}

// jumpsTo is whether a rule of a chain jumps to another chain.
func jumpsTo(conn *nftables.Conn, c *nftables.Chain, target string) (bool, error) {
	list, err := conn.GetRules(c.Table, c)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil // it has gone meanwhile
	}
	if err != nil {
		return false, fmt.Errorf("list the rules of chain %s of nf_tables: %w", c.Name, err)
	}
	for _, r := range list {
		for _, e := range r.Exprs {
			if v, ok := e.(*expr.Verdict); ok && v.Kind == expr.VerdictJump && v.Chain == target {
				return true, nil
			}
		}
	}
	return false, nil
}

// legacyHas is whether the old iptables' table nat of IPv4 has a chain of that
// name. Where the kernel has no such table, or nobody has used it, it has none.
func legacyHas(chain string) (bool, error) {
	_, entries, err := rules.LegacyTable(rules.IPv4, "nat")
	// A chain's name stands, with a zero behind it, where the chain begins.
	return bytes.Contains(entries, append([]byte(chain), 0)), err
}
