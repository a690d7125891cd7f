package local

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/kproxy-exporter/kproxy-exporter/collector/rules"
)

// servicesChain is kube-proxy's first chain in the modes that write by iptables
// (pkg/proxy of Kubernetes).
const servicesChain = "KUBE-SERVICES"

// RuleWorlds says where rules of kube-proxy are that packets meet.
type RuleWorlds struct {
	// NFTables is its own table; IPTables are chains by iptables on nf_tables;
	// Legacy are chains by the old iptables.
	NFTables, IPTables, Legacy bool

	generation uint32 // of nf_tables; 0 if nothing was read
}

// ErrNoNFTables says that the kernel has no nf_tables.
var ErrNoNFTables = errors.New("the kernel has no nf_tables")

// ReadRuleWorlds asks the kernel; before is what it said last. It needs
// CAP_NET_ADMIN: the kernel asks for it even to show.
func ReadRuleWorlds(before RuleWorlds) (w RuleWorlds, err error) {
	r, err := rules.NewReader()
	if err != nil {
		return w, err
	}
	defer r.Close()
	if w.generation, err = r.Generation(); err == nil {
		if w.generation == before.generation {
			w.NFTables, w.IPTables = before.NFTables, before.IPTables
		} else {
			err = w.readNFTables(r)
		}
	}
	if errors.Is(err, rules.ErrUnsupported) {
		return w, fmt.Errorf("%w: %w", ErrNoNFTables, err)
	}
	if err != nil {
		return w, fmt.Errorf("%w (it needs CAP_NET_ADMIN)", err)
	}
	w.Legacy, err = legacyHas(servicesChain)
	return w, err
}

// readNFTables asks of both IP families.
func (w *RuleWorlds) readNFTables(r *rules.Reader) error {
	for _, family := range []rules.Family{rules.IPv4, rules.IPv6} {
		own, err := r.HasOwn(family)
		if err != nil {
			return err
		}
		w.NFTables = w.NFTables || own
		frame, err := r.ReadBuiltIn(family, "nat")
		if err != nil {
			return err
		}
		part := r.ReadPart(family, frame)
		for _, h := range []rules.Hook{rules.Prerouting, rules.Input, rules.Output, rules.Postrouting} {
			linked, err := part.Linked(h, "nat", servicesChain)
			if err != nil && !errors.Is(err, rules.ErrChanged) { // it has gone meanwhile
				return err
			}
			w.IPTables = w.IPTables || linked
		}
	}
	return nil
}

// legacyHas is whether the old iptables' table nat of IPv4 has a chain of that
// name. Where the kernel has no such table, or nobody has used it, it has none.
func legacyHas(chain string) (bool, error) {
	_, entries, err := rules.LegacyTable(rules.IPv4, "nat")
	// A chain's name stands, with a zero behind it, where the chain begins.
	return bytes.Contains(entries, append([]byte(chain), 0)), err
}
