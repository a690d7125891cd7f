package rules

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Changes are what nf_tables said to have changed in kube-proxy's own table of an IP
// family.
type Changes struct {
	// All is whether anything may have: more was said than there was room for, or it
	// was of the table as a whole.
	All bool
	// Chains are those that came, went or have other rules, and sets of which a
	// chain's rules are the only users.
	Chains map[string]bool
	// Elements are the keys that came or went, by the name of the set or map.
	Elements map[string]map[string]bool
	// Generation is that of the rules behind the last of them.
	Generation uint32
	count      int
}

// most is how many changes are remembered one by one.
const most = 10_000

// Add puts others to them, which came later.
func (c *Changes) Add(later *Changes) {
	c.All = c.All || later.All
	for name := range later.Chains {
		c.chain(name)
	}
	for set, keys := range later.Elements {
		for k := range keys {
			c.element(set, k)
		}
	}
	c.Generation = later.Generation
}

// Empty is whether nothing was said.
func (c *Changes) Empty() bool { return !c.All && c.count == 0 }

func (c *Changes) bound() {
	if c.count++; c.count > most {
		c.all()
	}
}

// all lets go of what they are one by one.
func (c *Changes) all() { c.All, c.Chains, c.Elements = true, nil, nil }

func (c *Changes) chain(name string) {
	if c.All || c.Chains[name] {
		return
	}
	if c.Chains == nil {
		c.Chains = map[string]bool{}
	}
	c.Chains[name] = true
	c.bound()
}

func (c *Changes) element(set, key string) {
	if c.All || c.Elements[set][key] {
		return
	}
	if c.Elements == nil {
		c.Elements = map[string]map[string]bool{}
	}
	if c.Elements[set] == nil {
		c.Elements[set] = map[string]bool{}
	}
	c.Elements[set][key] = true
	c.bound()
}

// What names of sets begin with that only rules of one chain use: those without
// a name of their own, which never change, and lists of clients.
const (
	unnamedMap = "__map"
	unnamedSet = "__set"
	affinity   = "affinity-"
)

// note notes one message of the kernel's.
func (c *Changes) note(kind uint16, attrs []byte) error {
	f, err := fieldsOf(attrs)
	if err != nil {
		return err
	}
	const table = 1 // NFTA_*_TABLE, and NFTA_TABLE_NAME
	switch {
	case kind == unix.NFT_MSG_NEWGEN && len(f[unix.NFTA_GEN_ID]) < 4:
		return malformed("the generation has no number")
	case kind == unix.NFT_MSG_NEWGEN:
		c.Generation = u32(f[unix.NFTA_GEN_ID])
		return nil
	case f[table] == nil:
		return malformed("a change is of no table")
	case text(f[table]) != ownTable:
		return nil
	}
	switch kind {
	case unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN:
		if f[unix.NFTA_CHAIN_HOOK] == nil && f[unix.NFTA_CHAIN_NAME] != nil {
			c.chain(text(f[unix.NFTA_CHAIN_NAME]))
			return nil
		}
	case unix.NFT_MSG_NEWRULE, unix.NFT_MSG_DELRULE:
		if f[unix.NFTA_RULE_CHAIN] != nil {
			c.chain(text(f[unix.NFTA_RULE_CHAIN]))
			return nil
		}
	case unix.NFT_MSG_NEWSET, unix.NFT_MSG_DELSET:
		switch name := text(f[unix.NFTA_SET_NAME]); {
		case strings.HasPrefix(name, unnamedMap), strings.HasPrefix(name, unnamedSet):
			return nil // the rule that uses it comes with it
		case strings.HasPrefix(name, affinity):
			c.chain(name)
			return nil
		}
	case unix.NFT_MSG_NEWSETELEM, unix.NFT_MSG_DELSETELEM:
		if f[unix.NFTA_SET_ELEM_LIST_SET] != nil {
			return c.elements(text(f[unix.NFTA_SET_ELEM_LIST_SET]), f[unix.NFTA_SET_ELEM_LIST_ELEMENTS])
		}
	}
	c.all()
	return nil
}

func (c *Changes) elements(set string, list []byte) error {
	if strings.HasPrefix(set, unnamedMap) || strings.HasPrefix(set, unnamedSet) || strings.HasPrefix(set, affinity) {
		return nil
	}
	return attrs(list, func(_ uint16, elem []byte) error {
		d, err := fieldsOf(elem)
		if err != nil {
			return err
		}
		k, _, err := dataOf(d[unix.NFTA_SET_ELEM_KEY])
		if err == nil && len(k) == 0 {
			err = malformed("an element of set " + set + " has no key")
		}
		if err == nil {
			c.element(set, string(k))
		}
		return err
	})
}

// noteAll notes the messages of one datagram; what cannot be understood may mean
// anything.
func noteAll(b []byte, of map[Family]*Changes) {
	unclear := func() {
		for _, c := range of {
			c.all()
		}
	}
	host := binary.NativeEndian
	for len(b) > 0 {
		if len(b) < nlHeader {
			unclear()
			return
		}
		n := int(host.Uint32(b))
		if n < nlHeader+nfHeader || n > len(b) {
			unclear()
			return
		}
		kind, body := host.Uint16(b[4:]), b[nlHeader:n]
		b = b[min((n+3)&^3, len(b)):]
		if kind>>8 != unix.NFNL_SUBSYS_NFTABLES {
			unclear()
			return
		}
		for f, c := range of {
			if kind&0xff == unix.NFT_MSG_NEWGEN || Family(body[0]) == f {
				if c.note(kind&0xff, body[nfHeader:]) != nil {
					c.all()
				}
			}
		}
	}
}

// Listener is told of every change of nf_tables.
type Listener struct{ c *conn }

// Listen opens one in the caller's network namespace. It needs CAP_NET_ADMIN.
func Listen() (*Listener, error) {
	c, err := open()
	if err != nil {
		return nil, err
	}
	if err := unix.SetsockoptInt(c.fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, unix.NFNLGRP_NFTABLES); err != nil {
		c.close()
		return nil, fmt.Errorf("listen for changes of nf_tables: %w", err)
	}
	return &Listener{c}, nil
}

// Close ends it.
func (l *Listener) Close() { l.c.close() }

// Wait waits for changes, for five seconds at the most, and takes all that came
// with them; changed says whether there were any.
func (l *Listener) Wait() (of map[Family]*Changes, changed bool, err error) {
	of = map[Family]*Changes{IPv4: {}, IPv6: {}}
	for flags := 0; ; flags = unix.MSG_DONTWAIT {
		n, _, err := unix.Recvfrom(l.c.fd, l.c.buf, unix.MSG_TRUNC|flags)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return of, changed, nil
		case errors.Is(err, unix.ENOBUFS), err == nil && n > len(l.c.buf): // more than there was room for
			for _, c := range of {
				c.all()
			}
		case err != nil:
			return of, changed, fmt.Errorf("listen for changes of nf_tables: %w", err)
		default:
			noteAll(l.c.buf[:n], of)
		}
		changed = true
	}
}
