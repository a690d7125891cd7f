package rules

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Tables in which kube-proxy's rules are: its own in mode nftables, those of iptables
// in the others.
const ownTable = "kube-proxy"

var iptablesTables = []string{"filter", "nat"}

// Reader reads rules of nf_tables in the network namespace in which it was opened.
type Reader struct {
	c *conn
	// other is for half of what many small dumps are asked for: the kernel makes
	// those of two sockets at the same time.
	other *conn
}

// NewReader opens one. It needs CAP_NET_ADMIN.
func NewReader() (*Reader, error) {
	c, err := open()
	if err != nil {
		return nil, err
	}
	other, err := open()
	if err != nil {
		c.close()
		return nil, err
	}
	return &Reader{c, other}, nil
}

// Close ends it.
func (r *Reader) Close() {
	r.c.close()
	r.other.close()
}

// few are dumps that are not worth to be shared.
const few = 8

// share does something n times, by both sockets.
func (r *Reader) share(n int, do func(c *conn, from, to int) error) error {
	if n < few {
		return do(r.c, 0, n)
	}
	half := make(chan error, 1)
	go func() { half <- do(r.other, n/2, n) }()
	return errors.Join(do(r.c, 0, n/2), <-half)
}

// Generation is the number of the rules' present state.
func (r *Reader) Generation() (uint32, error) { return r.c.generation() }

// nftSource reads what a Ruleset of nf_tables lacks.
type nftSource struct {
	r *Reader
	f Family
}

// ReadNFTables reads of kube-proxy's own table its chains, its sets, and the elements
// of those that have a name. Rules, and elements of other sets, are read when they are
// asked for.
func (r *Reader) ReadNFTables(f Family) (*Ruleset, error) {
	rs, err := r.read(f)
	if err != nil {
		return nil, err
	}
	var named []string
	for _, s := range rs.sets {
		if !s.Anonymous {
			named = append(named, s.Name)
		}
	}
	return rs, rs.LoadSets(ownTable, named...)
}

// ReadIPTables reads in part what iptables on nf_tables wrote: the rules of a chain
// are read when they are asked for, as one dump of all takes the kernel a time that
// grows with the square of their number.
func (r *Reader) ReadIPTables(f Family) (*Ruleset, error) {
	frame, err := r.ReadBuiltIn(f, iptablesTables...)
	if err != nil {
		return nil, err
	}
	return r.ReadPart(f, frame), nil
}

// read reads the chains and sets of kube-proxy's own table.
func (r *Reader) read(f Family) (*Ruleset, error) {
	rs := newRuleset(f, &nftSource{r, f})
	if err := r.chains(f, func(c *Chain) {
		if c.Table == ownTable {
			rs.add(c)
		}
	}); err != nil {
		return nil, err
	}
	r.c.ask(f, unix.NFT_MSG_GETSET, unix.NLM_F_DUMP, attribute{kind: unix.NFTA_SET_TABLE, text: ownTable})
	err := r.c.run(true, func(m message) error {
		s, err := setOf(m.attrs)
		if err == nil {
			rs.sets[key(s.Table, s.Name)] = s
		}
		return err
	})
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("list the sets of table %s: %w", ownTable, err)
	}
	return rs, nil
}

// chains lists the chains of all tables of an IP family.
func (r *Reader) chains(f Family, do func(*Chain)) error {
	r.c.ask(f, unix.NFT_MSG_GETCHAIN, unix.NLM_F_DUMP)
	var all []*Chain
	err := r.c.run(true, func(m message) error {
		c, err := chainOf(m.attrs)
		if err == nil && c.Base() {
			all = append(all, c)
		} else if err == nil {
			do(c)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("list the chains of nf_tables: %w", unsupported(err))
	}
	dormant, err := r.dormant(f)
	for _, c := range all {
		if dormant[c.Table] { // packets do not meet it
			c.Hook = noHook
		}
		do(c)
	}
	return err
}

const flagDormant = 1 // NFT_TABLE_F_DORMANT

// dormant are the tables that are switched off.
func (r *Reader) dormant(f Family) (map[string]bool, error) {
	out := map[string]bool{}
	r.c.ask(f, unix.NFT_MSG_GETTABLE, unix.NLM_F_DUMP)
	err := r.c.run(true, func(m message) error {
		d, err := fieldsOf(m.attrs)
		if err == nil && u32(d[unix.NFTA_TABLE_FLAGS])&flagDormant != 0 {
			out[text(d[unix.NFTA_TABLE_NAME])] = true
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the tables of nf_tables: %w", unsupported(err))
	}
	return out, nil
}

func unsupported(err error) error {
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPROTONOSUPPORT) {
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	return err
}

// rulesOf reads the rules of chains, each by a dump of its own: the kernel finds
// a chain's rules at once, and walks a whole table's anew for each part of a dump.
func (s *nftSource) rulesOf(table string, chains []string) ([][]Rule, error) {
	out := make([][]Rule, len(chains))
	return out, s.r.share(len(chains), func(c *conn, from, to int) error {
		return s.rulesInto(c, table, chains[from:to], out[from:to])
	})
}

func (s *nftSource) rulesInto(c *conn, table string, chains []string, out [][]Rule) error {
	for i, name := range chains {
		c.ask(s.f, unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, attribute{kind: unix.NFTA_RULE_TABLE, text: table}, attribute{kind: unix.NFTA_RULE_CHAIN, text: name})
		err := c.run(true, func(m message) error {
			_, rule, err := ruleOf(s.f, m.attrs)
			out[i] = append(out[i], rule)
			return err
		})
		if errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("list the rules of a chain that has gone: %w", ErrChanged)
		}
		if err != nil {
			return fmt.Errorf("list the rules of chain %s: %w", name, err)
		}
	}
	return nil
}

// elementsOf reads the elements of sets, each by a dump of its own.
func (s *nftSource) elementsOf(table string, sets []*Set) error {
	return s.r.share(len(sets), func(c *conn, from, to int) error { return s.elementsInto(c, table, sets[from:to]) })
}

func (s *nftSource) elementsInto(c *conn, table string, sets []*Set) error {
	for _, set := range sets {
		set.Elements = map[string]Element{}
		c.ask(s.f, unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP, attribute{kind: unix.NFTA_SET_ELEM_LIST_TABLE, text: table}, attribute{kind: unix.NFTA_SET_ELEM_LIST_SET, text: set.Name})
		err := c.run(true, func(m message) error { return set.addElements(m.attrs) })
		if errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("list the elements of a set that has gone: %w", ErrChanged)
		}
		if err != nil {
			return fmt.Errorf("list the elements of set %s: %w", set.Name, err)
		}
	}
	return nil
}

func chainOf(b []byte) (*Chain, error) {
	f, err := fieldsOf(b)
	if err != nil {
		return nil, err
	}
	c := &Chain{Table: text(f[unix.NFTA_CHAIN_TABLE]), Name: text(f[unix.NFTA_CHAIN_NAME]), Hook: noHook}
	c.Drops = f[unix.NFTA_CHAIN_POLICY] != nil && u32(f[unix.NFTA_CHAIN_POLICY]) == 0
	c.NAT = text(f[unix.NFTA_CHAIN_TYPE]) == "nat"
	if f[unix.NFTA_CHAIN_HOOK] != nil {
		h, err := fieldsOf(f[unix.NFTA_CHAIN_HOOK])
		if err != nil {
			return nil, err
		}
		if n := u32(h[unix.NFTA_HOOK_HOOKNUM]); n < uint32(noHook) {
			c.Hook, c.Priority = Hook(n), int32(u32(h[unix.NFTA_HOOK_PRIORITY]))
		}
	}
	return c, nil
}

// ruleOf keeps nothing of b, which the next answer overwrites.
func ruleOf(f Family, b []byte) (chain string, r Rule, err error) {
	d, err := fieldsOf(slices.Clone(b))
	if err != nil {
		return "", r, err
	}
	r.Handle = u64(d[unix.NFTA_RULE_HANDLE])
	r.Ops, err = opsOf(f, d[unix.NFTA_RULE_EXPRESSIONS])
	return text(d[unix.NFTA_RULE_CHAIN]), r, err
}

// Flags of sets (NFT_SET_*).
const (
	setAnonymous = 0x1
	setInterval  = 0x4
	setTimeout   = 0x10
	setEval      = 0x20
)

func setOf(b []byte) (*Set, error) {
	f, err := fieldsOf(b)
	if err != nil {
		return nil, err
	}
	flags := u32(f[unix.NFTA_SET_FLAGS])
	return &Set{
		Table: text(f[unix.NFTA_SET_TABLE]), Name: text(f[unix.NFTA_SET_NAME]), KeyLen: int(u32(f[unix.NFTA_SET_KEY_LEN])),
		Anonymous: flags&setAnonymous != 0, Intervals: flags&setInterval != 0,
		Dynamic: flags&(setTimeout|setEval) != 0, Timeout: u64(f[unix.NFTA_SET_TIMEOUT]),
	}, nil
}

// addElements adds those of one message of a dump.
func (s *Set) addElements(b []byte) error {
	f, err := fieldsOf(b)
	if err != nil {
		return err
	}
	return attrs(f[unix.NFTA_SET_ELEM_LIST_ELEMENTS], func(_ uint16, elem []byte) error {
		d, err := fieldsOf(elem)
		if err != nil {
			return err
		}
		const intervalEnd, keyEnd = 1, 10
		e := Element{End: u32(d[unix.NFTA_SET_ELEM_FLAGS])&intervalEnd != 0}
		k, _, err := dataOf(d[unix.NFTA_SET_ELEM_KEY])
		if err != nil {
			return err
		}
		if d[keyEnd] != nil {
			s.opaque = true // a range of several fields
			return nil
		}
		if len(k) < s.KeyLen {
			return malformed("an element of set " + s.Name + " has a short key")
		}
		e.Key = []byte(strings.Clone(string(k[:s.KeyLen])))
		v, verdict, err := dataOf(d[unix.NFTA_SET_ELEM_DATA])
		if err != nil {
			return err
		}
		e.Value, e.Verdict = slices.Clone(v), verdict
		if s.Intervals {
			i, _ := slices.BinarySearchFunc(s.sorted, e, compareElements)
			s.sorted = slices.Insert(s.sorted, i, e)
		}
		s.Elements[string(e.Key)] = e
		return nil
	})
}

// compareElements orders keys; where an interval ends and another begins the end
// comes first.
func compareElements(a, b Element) int {
	if c := strings.Compare(string(a.Key), string(b.Key)); c != 0 {
		return c
	}
	switch {
	case a.End == b.End:
		return 0
	case a.End:
		return -1
	}
	return 1
}
