package rules

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Frame is what a reading in part needs of a whole one: the base chains of kube-proxy's
// IP family, without their rules.
type Frame struct{ bases []Chain }

// Frame is that of a Ruleset.
func (r *Ruleset) Frame() *Frame {
	f := &Frame{}
	for _, c := range r.chains {
		if c.Base() {
			f.bases = append(f.bases, Chain{Table: c.Table, Name: c.Name, Hook: c.Hook, Priority: c.Priority, NAT: c.NAT, Drops: c.Drops})
		}
	}
	return f
}

// ReadFrame reads that of kube-proxy's own table. All chains of all tables are listed for
// it, of which there may be a hundred thousand.
func (r *Reader) ReadFrame(f Family) (*Frame, error) {
	out := &Frame{}
	err := r.chains(f, func(c *Chain) {
		if c.Base() && c.Table == ownTable {
			out.bases = append(out.bases, *c)
		}
	})
	return out, err
}

// builtIn are the chains that iptables hooks in, by their table. Others of these tables
// are somebody else's, and not read.
var builtIn = map[string][]string{
	"filter": {"INPUT", "FORWARD", "OUTPUT"},
	"nat":    {"PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"},
}

// ReadBuiltIn reads the frame of tables that iptables on nf_tables writes, filter or nat:
// it asks for their chains by name.
func (r *Reader) ReadBuiltIn(f Family, tables ...string) (*Frame, error) {
	out := &Frame{}
	dormant, err := r.dormant(f)
	if err != nil {
		return nil, err
	}
	for _, table := range tables {
		for _, name := range builtIn[table] {
			c, err := r.chain(f, table, name)
			if err != nil {
				return nil, err
			}
			if c == nil || !c.Base() {
				continue
			}
			if dormant[table] {
				c.Hook = noHook
			}
			out.bases = append(out.bases, *c)
		}
	}
	return out, nil
}

// HasOwn is whether packets meet kube-proxy's own table.
func (r *Reader) HasOwn(f Family) (bool, error) {
	s := &partSource{nftSource{r, f}}
	off := false
	there, err := s.one(unix.NFT_MSG_GETTABLE, "table "+ownTable, func(b []byte) error {
		d, err := fieldsOf(b)
		off = u32(d[unix.NFTA_TABLE_FLAGS])&flagDormant != 0
		return err
	}, attribute{kind: unix.NFTA_TABLE_NAME, text: ownTable})
	if err != nil || !there || off {
		return false, err
	}
	c, err := r.chain(f, ownTable, "nat-prerouting")
	if err != nil || c != nil && c.Base() {
		return err == nil, err
	}
	// One without this chain is none that kube-proxy wrote, and may have others.
	frame, err := r.ReadFrame(f)
	return err == nil && len(frame.bases) > 0, err
}

// chain asks for one by its name; nil if there is none.
func (r *Reader) chain(f Family, table, name string) (c *Chain, err error) {
	s := &partSource{nftSource{r, f}}
	_, err = s.one(unix.NFT_MSG_GETCHAIN, "chain "+name, func(b []byte) error {
		c, err = chainOf(b)
		return err
	}, attribute{kind: unix.NFTA_CHAIN_TABLE, text: table}, attribute{kind: unix.NFTA_CHAIN_NAME, text: name})
	return c, err
}

// ReadPart reads nothing yet: rules, sets, and single elements of sets that have a
// name, are asked for when a packet comes to them. A chain that is not there is as one
// without rules. The base chains must still be those of the frame.
func (r *Reader) ReadPart(f Family, frame *Frame) *Ruleset {
	s := &partSource{nftSource{r, f}}
	rs := newRuleset(f, s)
	rs.part = s
	for i := range frame.bases {
		c := frame.bases[i]
		rs.add(&c)
	}
	return rs
}

// partSource asks for what a Ruleset lacks by its name.
type partSource struct{ nftSource }

// one asks for one thing; found is false if there is none.
func (s *partSource) one(kind uint16, what string, do func(b []byte) error, attributes ...attribute) (found bool, err error) {
	c := s.r.c
	c.ask(s.f, kind, 0, attributes...)
	err = c.run(false, func(m message) error {
		found = true
		return do(m.attrs)
	})
	// Old kernels have no IP family of which nobody has used anything yet.
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EAFNOSUPPORT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("ask nf_tables for %s: %w", what, unsupported(err))
	}
	return found, nil
}

func (s *partSource) set(table, name string) (set *Set, err error) {
	_, err = s.one(unix.NFT_MSG_GETSET, "set "+name, func(b []byte) error {
		set, err = setOf(b)
		return err
	}, attribute{kind: unix.NFTA_SET_TABLE, text: table}, attribute{kind: unix.NFTA_SET_NAME, text: name})
	if set != nil && !set.Anonymous && !set.Intervals && !set.Dynamic {
		set.Elements, set.absent, set.single = map[string]Element{}, map[string]bool{}, s
	}
	return set, err
}

// element asks a set for one of its elements, and remembers the answer.
func (s *partSource) element(set *Set, k string) (e Element, found bool, err error) {
	found, err = s.one(unix.NFT_MSG_GETSETELEM, "an element of set "+set.Name, func(b []byte) error { return set.addElements(b) },
		attribute{kind: unix.NFTA_SET_ELEM_LIST_TABLE, text: set.Table}, attribute{kind: unix.NFTA_SET_ELEM_LIST_SET, text: set.Name},
		nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, nest(1, nest(unix.NFTA_SET_ELEM_KEY, attribute{kind: unix.NFTA_DATA_VALUE, raw: []byte(k)}))))
	if err != nil || !found {
		set.absent[k] = true
		return e, false, err
	}
	e, found = set.Elements[k]
	return e, found, nil
}
