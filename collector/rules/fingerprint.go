package rules

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Fingerprint is what kube-proxy's own table is known again by, without the elements of
// the sets that have no name, which take the kernel longest to hand over: they never
// change while a rule uses them, and another set has another handle.
type Fingerprint struct {
	table uint64 // its handle, which no other table ever had
	frame *Frame
	// chains are the rules of each chain, 0 for none; sets what those that have a name are;
	// elements what each key leads to, by the set's name.
	chains   map[string]uint64
	sets     map[string]uint64
	elements map[string]map[string]uint64
}

// Frame is that of the table.
func (p *Fingerprint) Frame() *Frame { return p.frame }

// seed is of the hashes of all fingerprints, which are compared with each other.
var seed = maphash.MakeSeed()

// Fingerprint takes one, and says what is not as in an earlier; all may be if that is
// nil. What changed and changed back is not seen. ErrChanged is for what changes
// meanwhile, ErrUnsupported for a kernel without nf_tables, or without the table.
func (r *Reader) Fingerprint(f Family, earlier *Fingerprint) (*Fingerprint, *Changes, error) {
	p := &Fingerprint{frame: &Frame{}, chains: map[string]uint64{}, sets: map[string]uint64{}, elements: map[string]map[string]uint64{}}
	err := p.readTable(r, f)
	if err == nil {
		err = p.read(r, f)
	}
	switch {
	case errors.Is(err, unix.ENOENT): // what was there a moment ago
		return nil, nil, fmt.Errorf("%w: %w", ErrChanged, err)
	case err != nil:
		return nil, nil, err
	}
	return p, p.since(earlier), nil
}

func (p *Fingerprint) readTable(r *Reader, f Family) error {
	s := &partSource{nftSource{r, f}}
	there, err := s.one(unix.NFT_MSG_GETTABLE, "table "+ownTable, func(b []byte) error {
		const handle = 4 // NFTA_TABLE_HANDLE
		d, err := fieldsOf(b)
		if err == nil && len(d[handle]) < 8 {
			err = malformed("a table has no handle")
		}
		p.table = u64(d[handle])
		return err
	}, attribute{kind: unix.NFTA_TABLE_NAME, text: ownTable})
	if err == nil && !there {
		err = fmt.Errorf("%w: no table %s", ErrUnsupported, ownTable)
	}
	return err
}

// read reads what is in the table.
func (p *Fingerprint) read(r *Reader, f Family) error {
	handles := map[string]uint64{}
	r.c.ask(f, unix.NFT_MSG_GETSET, unix.NLM_F_DUMP, attribute{kind: unix.NFTA_SET_TABLE, text: ownTable})
	if err := r.c.run(true, func(m message) error { return p.addSet(m.attrs, handles) }); err != nil {
		return fmt.Errorf("list the sets of table %s: %w", ownTable, err)
	}
	r.c.ask(f, unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, attribute{kind: unix.NFTA_RULE_TABLE, text: ownTable})
	if err := r.c.run(true, func(m message) error { return p.addRule(m.attrs, handles) }); err != nil {
		return fmt.Errorf("list the rules of table %s: %w", ownTable, err)
	}
	if err := r.chains(f, func(c *Chain) {
		if c.Table != ownTable {
			return
		}
		if _, known := p.chains[c.Name]; !known {
			p.chains[c.Name] = 0
		}
		if c.Base() {
			p.frame.bases = append(p.frame.bases, *c)
		}
	}); err != nil {
		return err
	}
	for set := range p.elements {
		r.c.ask(f, unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP, attribute{kind: unix.NFTA_SET_ELEM_LIST_TABLE, text: ownTable}, attribute{kind: unix.NFTA_SET_ELEM_LIST_SET, text: set})
		if err := r.c.run(true, func(m message) error { return addPrints(p.elements[set], m.attrs) }); err != nil {
			return fmt.Errorf("list the elements of set %s: %w", set, err)
		}
	}
	return nil
}

// since says what is not as in an earlier one.
func (p *Fingerprint) since(earlier *Fingerprint) *Changes {
	changes := &Changes{}
	if earlier == nil || earlier.table != p.table || !slices.EqualFunc(earlier.frame.bases, p.frame.bases, sameBase) {
		changes.all()
		return changes
	}
	differ(p.chains, earlier.chains, changes.chain)
	differ(p.sets, earlier.sets, func(set string) {
		if strings.HasPrefix(set, affinity) {
			changes.chain(set)
		} else {
			changes.all()
		}
	})
	for set, now := range p.elements {
		differ(now, earlier.elements[set], func(k string) { changes.element(set, k) })
	}
	return changes
}

// differ does something for each key that two maps do not have alike.
func differ(now, was map[string]uint64, do func(k string)) {
	for k, h := range now {
		if before, known := was[k]; !known || before != h {
			do(k)
		}
	}
	for k := range was {
		if _, known := now[k]; !known {
			do(k)
		}
	}
}

func sameBase(a, b Chain) bool {
	return a.Name == b.Name && a.Hook == b.Hook && a.Priority == b.Priority && a.NAT == b.NAT && a.Drops == b.Drops
}

// addSet adds one of a dump of sets, and notes its handle.
func (p *Fingerprint) addSet(b []byte, handles map[string]uint64) error {
	const handle = 16 // NFTA_SET_HANDLE
	d, err := fieldsOf(b)
	if err == nil && len(d[handle]) < 8 {
		err = malformed("a set has no handle")
	}
	if err != nil {
		return err
	}
	s, err := setOf(b)
	if err != nil {
		return err
	}
	handles[s.Name] = u64(d[handle])
	if s.Anonymous {
		return nil
	}
	p.sets[s.Name] = hashOf(d[handle], d[unix.NFTA_SET_FLAGS], d[unix.NFTA_SET_KEY_LEN], d[unix.NFTA_SET_TIMEOUT], d[unix.NFTA_SET_DESC])
	if !s.Dynamic {
		p.elements[s.Name] = map[string]uint64{}
	}
	return nil
}

// addRule adds one of a dump of rules, which come in the order of their chain's. One in
// the place of another may have its handle.
func (p *Fingerprint) addRule(b []byte, handles map[string]uint64) error {
	d, err := fieldsOf(b)
	if err == nil && len(d[unix.NFTA_RULE_HANDLE]) < 8 {
		err = malformed("a rule has no handle")
	}
	if err != nil {
		return err
	}
	chain := text(d[unix.NFTA_RULE_CHAIN])
	var h maphash.Hash
	h.SetSeed(seed)
	var word [8]byte
	number := func(n uint64) {
		binary.NativeEndian.PutUint64(word[:], n)
		_, _ = h.Write(word[:])
	}
	number(p.chains[chain])
	_, _ = h.Write(d[unix.NFTA_RULE_HANDLE])
	err = attrs(d[unix.NFTA_RULE_EXPRESSIONS], func(_ uint16, expr []byte) error {
		e, err := fieldsOf(expr)
		if err != nil {
			return err
		}
		number(hashOf(e[unix.NFTA_EXPR_NAME]))
		f, err := fieldsOf(e[unix.NFTA_EXPR_DATA])
		if err != nil {
			return err
		}
		switch text(e[unix.NFTA_EXPR_NAME]) {
		case "counter", "last": // they change with packets
			return nil
		case "quota": // and so does what of it is used
			number(hashOf(f[unix.NFTA_QUOTA_BYTES], f[unix.NFTA_QUOTA_FLAGS]))
			return nil
		case "lookup":
			number(handles[text(f[unix.NFTA_LOOKUP_SET])])
		case "dynset":
			number(handles[text(f[unix.NFTA_DYNSET_SET_NAME])])
		case "objref":
			const set = 4 // NFTA_OBJREF_SET_NAME
			number(handles[text(f[set])])
		}
		number(hashOf(e[unix.NFTA_EXPR_DATA]))
		return nil
	})
	p.chains[chain] = h.Sum64()
	return err
}

// addPrints adds the elements of one message of a dump: where one key is of two, as an
// interval ends and another begins, both.
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
		elements[string(k)] += hashOf(d[unix.NFTA_SET_ELEM_FLAGS], d[keyEnd], d[unix.NFTA_SET_ELEM_DATA])
		return nil
	})
}

// hashOf is of several values, each of which may be missing.
func hashOf(values ...[]byte) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	for _, v := range values {
		_ = h.WriteByte(byte(len(v) >> 8))
		_ = h.WriteByte(byte(len(v)))
		_, _ = h.Write(v)
	}
	return h.Sum64()
}
