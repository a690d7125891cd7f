package rules

import (
	"errors"
	"fmt"
	"hash/maphash"
	"slices"

	"golang.org/x/sys/unix"
)

// Fingerprint is what kube-proxy's own table is known again by, without a look at all
// that is in it. A rule never changes: another in its place has another handle. Nor does
// a set without a name, as long as a rule uses it. So what tells two states apart are the
// handles of each chain's rules and the elements of the sets that have a name.
type Fingerprint struct {
	table uint64   // its handle, which no other table ever had
	bases []string // the base chains, with all that they are
	// chains are the rules of each chain that has any, by a hash of its name.
	chains map[uint64]uint64
	// elements are what each key leads to, by the name of the set.
	elements map[string]map[string]uint64
}

const tableHandle = 4 // NFTA_TABLE_HANDLE

// seed is of the hashes of all fingerprints, which are compared with each other.
var seed = maphash.MakeSeed()

// Fingerprint takes one, and says what changed since an earlier; all may have if that is
// nil. What changes while it is taken may be in it or not. ErrUnsupported is for a
// kernel without nf_tables, or without the table.
func (r *Reader) Fingerprint(f Family, earlier *Fingerprint) (*Fingerprint, *Changes, error) {
	p := &Fingerprint{chains: map[uint64]uint64{}, elements: map[string]map[string]uint64{}}
	s := &partSource{nftSource{r, f}}
	there, err := s.one(unix.NFT_MSG_GETTABLE, "table "+ownTable, func(b []byte) error {
		d, err := fieldsOf(b)
		if err == nil && len(d[tableHandle]) < 8 {
			err = malformed("a table has no handle")
		}
		p.table = u64(d[tableHandle])
		return err
	}, attribute{kind: unix.NFTA_TABLE_NAME, text: ownTable})
	if err == nil && !there {
		err = fmt.Errorf("%w: no table %s", ErrUnsupported, ownTable)
	}
	if err != nil {
		return nil, nil, err
	}
	r.c.ask(f, unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, attribute{kind: unix.NFTA_RULE_TABLE, text: ownTable})
	if err := r.c.run(true, func(m message) error { return p.addRule(m.attrs) }); err != nil {
		return nil, nil, fmt.Errorf("list the rules of table %s: %w", ownTable, err)
	}
	changes := &Changes{}
	err = r.chains(f, func(c *Chain) {
		if c.Table != ownTable {
			return
		}
		if c.Base() {
			p.bases = append(p.bases, fmt.Sprint(c.Name, c.Hook, c.Priority, c.NAT, c.Drops))
		}
		// One that has gone led nowhere any more: what led to it changed.
		if h := maphash.String(seed, c.Name); earlier != nil && p.chains[h] != earlier.chains[h] {
			changes.chain(c.Name)
		}
	})
	if err != nil {
		return nil, nil, err
	}
	if err := p.readElements(r.c, f, earlier); err != nil {
		return nil, nil, err
	}
	if earlier == nil || earlier.table != p.table || !slices.Equal(earlier.bases, p.bases) {
		changes.all()
		return p, changes, nil
	}
	for set, now := range p.elements {
		was := earlier.elements[set]
		for k, e := range now {
			if before, known := was[k]; !known || before != e {
				changes.element(set, k)
			}
		}
		for k := range was {
			if _, known := now[k]; !known {
				changes.element(set, k)
			}
		}
	}
	return p, changes, nil
}

// addRule adds one of a dump of rules, which come in the order of their chain's.
func (p *Fingerprint) addRule(b []byte) error {
	d, err := fieldsOf(b)
	if err == nil && len(d[unix.NFTA_RULE_HANDLE]) < 8 {
		err = malformed("a rule has no handle")
	}
	if err != nil {
		return err
	}
	h := maphash.String(seed, text(d[unix.NFTA_RULE_CHAIN]))
	p.chains[h] = maphash.Comparable(seed, [2]uint64{p.chains[h], u64(d[unix.NFTA_RULE_HANDLE])})
	return nil
}

// readElements reads those of the sets that an earlier fingerprint has, or of all that
// have a name: no rule can use a new one that has not changed itself.
func (p *Fingerprint) readElements(c *conn, f Family, earlier *Fingerprint) error {
	if earlier != nil {
		for set := range earlier.elements {
			p.elements[set] = nil
		}
	} else {
		c.ask(f, unix.NFT_MSG_GETSET, unix.NLM_F_DUMP, attribute{kind: unix.NFTA_SET_TABLE, text: ownTable})
		err := c.run(true, func(m message) error {
			s, err := setOf(m.attrs)
			if err == nil && !s.Anonymous && !s.Dynamic {
				p.elements[s.Name] = nil
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("list the sets of table %s: %w", ownTable, err)
		}
	}
	for set := range p.elements {
		elements := map[string]uint64{}
		c.ask(f, unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP, attribute{kind: unix.NFTA_SET_ELEM_LIST_TABLE, text: ownTable}, attribute{kind: unix.NFTA_SET_ELEM_LIST_SET, text: set})
		err := c.run(true, func(m message) error { return addPrints(elements, m.attrs) })
		if err != nil && !errors.Is(err, unix.ENOENT) { // gone: all its elements are
			return fmt.Errorf("list the elements of set %s: %w", set, err)
		}
		p.elements[set] = elements
	}
	return nil
}

// addPrints adds the elements of one message of a dump: where one key is of two, where
// an interval ends and another begins, both.
func addPrints(elements map[string]uint64, b []byte) error {
	d, err := fieldsOf(b)
	if err != nil {
		return err
	}
	return attrs(d[unix.NFTA_SET_ELEM_LIST_ELEMENTS], func(_ uint16, elem []byte) error {
		d, err := fieldsOf(elem)
		if err != nil {
			return err
		}
		k, _, err := dataOf(d[unix.NFTA_SET_ELEM_KEY])
		if err == nil && len(k) == 0 {
			err = malformed("an element has no key")
		}
		if err != nil {
			return err
		}
		const keyEnd = 10 // NFTA_SET_ELEM_KEY_END
		var h maphash.Hash
		h.SetSeed(seed)
		for _, part := range [][]byte{d[unix.NFTA_SET_ELEM_FLAGS], d[keyEnd], d[unix.NFTA_SET_ELEM_DATA]} {
			_ = h.WriteByte(byte(len(part)))
			_, _ = h.Write(part)
		}
		elements[string(k)] += h.Sum64()
		return nil
	})
}
