package rules

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Tables of nf_tables in which kube-proxy's rules are.
var (
	// TablesNFTables is of the mode nftables.
	TablesNFTables = []string{"kube-proxy"}
	// TablesIPTables are of iptables.
	TablesIPTables = []string{"filter", "nat"}
)

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
	// cache is nil if there is none.
	cache *Cache
}

// Cache holds the elements of sets without a name from one reading of kube-proxy's
// own table to the next: such a set belongs to one rule and never changes, and the
// kernel takes long to find one among many. The zero value is empty.
type Cache struct {
	table uint64 // its handle: another table's rules have the same numbers
	sets  map[ofRule]*Set
}

// ofRule is a set of a rule, which has that handle.
type ofRule struct {
	handle uint64
	name   string
}

// renew lets go of what is of another table, or of rules that are gone.
func (c *Cache) renew(rs *Ruleset, table uint64) {
	before := c.sets
	if c.table != table {
		before = nil
	}
	c.table, c.sets = table, map[ofRule]*Set{}
	for _, chain := range rs.chains {
		for i := range chain.Rules {
			for _, name := range chain.Rules[i].lookups() {
				if s := rs.sets[key(chain.Table, name)]; s != nil && s.Anonymous {
					s.rule = chain.Rules[i].Handle
					if known := before[ofRule{s.rule, name}]; known != nil {
						c.sets[ofRule{s.rule, name}] = known
					}
				}
			}
		}
	}
}

// ReadNFTables reads kube-proxy's own table whole: its chains, rules, sets and
// the elements of those that have a name. Other sets are read when a packet
// comes to them, or taken from the cache, which may be nil.
func (r *Reader) ReadNFTables(f Family, cache *Cache) (*Ruleset, error) {
	rs, err := r.read(f, TablesNFTables)
	if err != nil {
		return nil, err
	}
	for _, table := range TablesNFTables {
		if err := r.rules(rs, table); err != nil {
			return nil, err
		}
		if cache != nil {
			handle, err := r.tableHandle(f, table)
			if err != nil {
				return nil, err
			}
			cache.renew(rs, handle)
			rs.source = &nftSource{r, f, cache}
		}
		var named []string
		for _, s := range rs.sets {
			if s.Table == table && !s.Anonymous {
				named = append(named, s.Name)
			}
		}
		if err := rs.LoadSets(table, named...); err != nil {
			return nil, err
		}
	}
	return rs, nil
}

// ReadIPTables reads which chains iptables on nf_tables has; their rules are
// read when they are asked for: one dump of all takes the kernel a time that
// grows with the square of their number.
func (r *Reader) ReadIPTables(f Family) (*Ruleset, error) { return r.read(f, TablesIPTables) }

// tableHandle is a table's number, which no other has had; 0 if there is none.
func (r *Reader) tableHandle(f Family, table string) (handle uint64, err error) {
	const tableHandle = 4 // NFTA_TABLE_HANDLE
	r.c.ask(f, unix.NFT_MSG_GETTABLE, unix.NLM_F_DUMP)
	err = r.c.run(true, func(m message) error {
		d, err := fieldsOf(m.attrs)
		if err == nil && text(d[unix.NFTA_TABLE_NAME]) == table {
			handle = u64(d[tableHandle])
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("list the tables of nf_tables: %w", err)
	}
	return handle, nil
}

// read reads the chains and sets of tables.
func (r *Reader) read(f Family, tables []string) (*Ruleset, error) {
	rs := newRuleset(f, &nftSource{r, f, nil})
	r.c.ask(f, unix.NFT_MSG_GETCHAIN, unix.NLM_F_DUMP)
	err := r.c.run(true, func(m message) error {
		c, err := chainOf(m.attrs)
		if err == nil && slices.Contains(tables, c.Table) {
			rs.add(c)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the chains of nf_tables: %w", unsupported(err))
	}
	for _, table := range tables {
		r.c.ask(f, unix.NFT_MSG_GETSET, unix.NLM_F_DUMP, attribute{unix.NFTA_SET_TABLE, table})
		err = r.c.run(true, func(m message) error {
			s, err := setOf(m.attrs)
			if err == nil {
				rs.sets[key(s.Table, s.Name)] = s
			}
			return err
		})
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return nil, fmt.Errorf("list the sets of table %s: %w", table, err)
		}
	}
	return rs, nil
}

func unsupported(err error) error {
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPROTONOSUPPORT) {
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	return err
}

// rules reads all rules of a table in one dump.
func (r *Reader) rules(rs *Ruleset, table string) error {
	for _, c := range rs.chains {
		if c.Table == table {
			c.Rules = []Rule{}
		}
	}
	r.c.ask(rs.Family, unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, attribute{unix.NFTA_RULE_TABLE, table})
	err := r.c.run(true, func(m message) error {
		chain, rule, err := ruleOf(rs.Family, m.attrs)
		if c := rs.chains[key(table, chain)]; err == nil && c != nil {
			c.Rules = append(c.Rules, rule)
		}
		return err
	})
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("list the rules of table %s: %w", table, err)
	}
	return nil
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
		c.ask(s.f, unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, attribute{unix.NFTA_RULE_TABLE, table}, attribute{unix.NFTA_RULE_CHAIN, name})
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
	var unread []*Set
	for _, set := range sets {
		if s.cache != nil && set.Anonymous {
			if known := s.cache.sets[ofRule{set.rule, set.Name}]; known != nil {
				set.Elements, set.sorted = known.Elements, known.sorted
				continue
			}
		}
		unread = append(unread, set)
	}
	err := s.r.share(len(unread), func(c *conn, from, to int) error { return s.elementsInto(c, table, unread[from:to]) })
	for _, set := range unread {
		if err == nil && s.cache != nil && set.Anonymous && set.rule != 0 {
			s.cache.sets[ofRule{set.rule, set.Name}] = set
		}
	}
	return err
}

func (s *nftSource) elementsInto(c *conn, table string, sets []*Set) error {
	for _, set := range sets {
		set.Elements = map[string]Element{}
		c.ask(s.f, unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP, attribute{unix.NFTA_SET_ELEM_LIST_TABLE, table}, attribute{unix.NFTA_SET_ELEM_LIST_SET, set.Name})
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
			return malformed("an element of set " + s.Name + " is a range of several fields")
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
