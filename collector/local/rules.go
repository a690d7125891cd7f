package local

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
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
	rules, err := conn.GetRules(c.Table, c)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil // it has gone meanwhile
	}
	if err != nil {
		return false, fmt.Errorf("list the rules of chain %s of nf_tables: %w", c.Name, err)
	}
	for _, r := range rules {
		for _, e := range r.Exprs {
			if v, ok := e.(*expr.Verdict); ok && v.Kind == expr.VerdictJump && v.Chain == target {
				return true, nil
			}
		}
	}
	return false, nil
}

// The old iptables' way to be asked (include/uapi/linux/netfilter_ipv4/ip_tables.h).
const (
	getInfo    = 64 // IPT_SO_GET_INFO
	getEntries = 65 // IPT_SO_GET_ENTRIES
	tableName  = 32 // XT_TABLE_MAXNAMELEN
	infoSize   = tableName + 4 + 5*4 + 5*4 + 4 + 4
	sizeOffset = infoSize - 4
	headSize   = 40       // the name, the size, and what alignment adds
	maxEntries = 64 << 20 // bytes
)

// legacyHas is whether the old iptables' table nat of IPv4 has a chain of that
// name. Where the kernel has no such table, or nobody has used it, it has none.
func legacyHas(chain string) (bool, error) {
	names, err := os.ReadFile("/proc/net/ip_tables_names")
	if errors.Is(err, os.ErrNotExist) || err == nil && !bytes.Contains(names, []byte("nat\n")) {
		return false, nil // asking would make the kernel create it
	}
	if err != nil {
		return false, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return false, fmt.Errorf("ask the old iptables (it needs CAP_NET_RAW): %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	info := make([]byte, infoSize)
	copy(info, "nat")
	if err := getsockopt(fd, getInfo, info); err != nil {
		return false, fmt.Errorf("ask the old iptables: %w", err)
	}
	size := int(binary.NativeEndian.Uint32(info[sizeOffset:]))
	if size <= 0 || size > maxEntries {
		return false, fmt.Errorf("the old iptables' table nat has %d bytes", size)
	}
	entries := make([]byte, headSize+size)
	copy(entries, "nat")
	binary.NativeEndian.PutUint32(entries[tableName:], uint32(size))
	err = getsockopt(fd, getEntries, entries)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINVAL) {
		return false, fmt.Errorf("the old iptables' table nat changed meanwhile: %w", err)
	}
	if err != nil {
		return false, fmt.Errorf("read the old iptables' table nat: %w", err)
	}
	// A chain's name stands, with a zero behind it, where the chain begins.
	return bytes.Contains(entries[headSize:], append([]byte(chain), 0)), nil
}

func getsockopt(fd, option int, into []byte) error {
	length := uint32(len(into))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_IP, uintptr(option),
		uintptr(unsafe.Pointer(&into[0])), uintptr(unsafe.Pointer(&length)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}
