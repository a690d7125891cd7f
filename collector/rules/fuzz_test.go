package rules

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

// recorded are the kernel's answers.
func recorded(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/*.netlink")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recorded answers: %v", err)
	}
	out := map[string][]byte{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(f)] = b
	}
	return out
}

// digest reads an answer as every kind, and runs packets over what came of it.
func digest(b []byte, keyLen int) (messages int, err error) {
	rs := newRuleset(IPv4, nil)
	set := &Set{Table: "kube-proxy", Name: "service-ips", KeyLen: keyLen, Intervals: keyLen == 4, Elements: map[string]Element{}}
	rs.sets[key(set.Table, set.Name)] = set
	_, err = parse(b, firstSeq(b), true, func(m message) error {
		messages++
		c, err := chainOf(m.attrs)
		if err == nil && c.Name != "" && rs.chains[key(c.Table, c.Name)] == nil {
			rs.add(c)
		}
		name, r, err2 := ruleOf(IPv4, m.attrs)
		for _, c := range rs.chains {
			if err2 == nil && (c.Name == name || c.Base()) {
				c.Rules = append(c.Rules, r)
			}
		}
		_, err3 := setOf(m.attrs)
		return errors.Join(err, err2, err3, set.addElements(m.attrs))
	})
	m := NewMachine(rs, Host{})
	for _, p := range []Packet{{Proto: 6, Dst: netip.MustParseAddrPort("10.96.0.1:443"), Src: netip.MustParseAddr("10.244.0.9"), AnyPod: true}, {Proto: 17, Dst: netip.MustParseAddrPort("10.1.1.1:9"), Src: netip.MustParseAddr("192.0.2.1"), FromHost: true}} {
		_, _ = m.Run(p) // an error is an answer
	}
	set.Targets(IPv4)
	return messages, err
}

// fingerprinted reads an answer as what a fingerprint is made of, by kind.
func fingerprinted(b []byte) (p *Fingerprint, elements map[string]uint64, errs map[string]error) {
	p, elements, errs = &Fingerprint{chains: map[string]uint64{}, sets: map[string]uint64{}, elements: map[string]map[string]uint64{}}, map[string]uint64{}, map[string]error{}
	handles := map[string]uint64{}
	for kind, add := range map[string]func([]byte) error{
		"rules.netlink": func(b []byte) error { return p.addRule(b, handles) }, "sets.netlink": func(b []byte) error { return p.addSet(b, handles) },
		"elements.netlink": func(b []byte) error { return addPrints(elements, b) },
	} {
		_, errs[kind] = parse(b, firstSeq(b), true, func(m message) error { return add(m.attrs) })
	}
	errs["interval.netlink"] = errs["elements.netlink"]
	return p, elements, errs
}

// firstSeq is the request that the first message answers.
func firstSeq(b []byte) uint32 {
	if len(b) < nlHeader {
		return 0
	}
	return binary.NativeEndian.Uint32(b[8:])
}

// endsOf are where the messages of an answer end.
func endsOf(b []byte) map[int]bool {
	ends := map[int]bool{}
	for at := 0; at+nlHeader <= len(b); {
		at += int(binary.NativeEndian.Uint32(b[at:])+3) &^ 3
		ends[at] = true
	}
	return ends
}

// FuzzAnswer is that no answer of the kernel, or of who says to be it, makes the
// reader panic or go on for ever.
func FuzzAnswer(f *testing.F) {
	for _, b := range recorded(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = digest(b, 12)
		_, _ = digest(b, 4)
		if _, elements, _ := fingerprinted(b); elements[""] != 0 {
			t.Error("an element without a key")
		}
	})
}

// TestFingerprintTruncated is that what is cut off is no fingerprint.
func TestFingerprintTruncated(t *testing.T) {
	for name, b := range recorded(t) {
		p, elements, errs := fingerprinted(b)
		err, ours := errs[name]
		if !ours {
			continue
		}
		if n := map[string]int{"rules.netlink": len(p.chains), "sets.netlink": len(p.sets), "elements.netlink": len(elements), "interval.netlink": len(elements)}[name]; err != nil || n == 0 {
			t.Errorf("%s: %d, %v", name, n, err)
		}
		ends := endsOf(b)
		for n := 1; n < len(b); n++ {
			if _, _, errs := fingerprinted(b[:n]); errs[name] == nil && !ends[n] {
				t.Fatalf("%s: cut off after %d of %d bytes it is no error", name, n, len(b))
			}
		}
	}
}

// TestTruncated is that what is cut off anywhere inside a message is an error.
func TestTruncated(t *testing.T) {
	for name, b := range recorded(t) {
		keyLen := 12
		if name == "interval.netlink" {
			keyLen = 4
		}
		whole, err := digest(b, keyLen)
		if name != "rules.netlink" && name != "chains.netlink" && name != "sets.netlink" && err != nil || whole == 0 {
			t.Fatalf("%s: %d messages, %v", name, whole, err)
		}
		ends := endsOf(b)
		for n := 1; n < len(b); n++ {
			if _, err := digest(b[:n], keyLen); err == nil && !ends[n] {
				t.Fatalf("%s: cut off after %d of %d bytes it is no error", name, n, len(b))
			}
		}
	}
}

// TestEndless is of rules that lead in a circle.
func TestEndless(t *testing.T) {
	rs := newRuleset(IPv4, nil)
	jump := func(to string) []Rule { return []Rule{{Ops: []op{{kind: opVerdict, verdict: Verdict{Jump, to}}}}} }
	rs.add(&Chain{Table: "nat", Name: "a", Hook: Prerouting, Rules: jump("b")})
	rs.add(&Chain{Table: "nat", Name: "b", Hook: noHook, Rules: jump("b")})
	if _, err := NewMachine(rs, Host{}).Run(Packet{Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddrPort("10.0.0.2:1")}); !errors.Is(err, ErrEndless) {
		t.Errorf("got %v", err)
	}
}

// legacy reads a table of the old iptables from what was recorded of it, and runs
// packets over it.
func legacy(b []byte) error {
	n := min(len(b), infoSize)
	rs := newRuleset(IPv4, nil)
	if err := rs.addLegacy("nat", b[:n], b[n:]); err != nil {
		return err
	}
	_, err := NewMachine(rs, Host{}).Run(Packet{Proto: 6, Dst: netip.MustParseAddrPort("10.96.0.1:443"), Src: netip.MustParseAddr("10.244.0.9"), AnyPod: true})
	return err
}

func recordedLegacy(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/nat.legacy")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// FuzzLegacy is that no table of the old iptables makes the reader panic.
func FuzzLegacy(f *testing.F) {
	f.Add(recordedLegacy(f))
	f.Fuzz(func(_ *testing.T, b []byte) { _ = legacy(b) })
}

// TestLegacyTruncated is that a table that is cut off inside an entry is an error.
func TestLegacyTruncated(t *testing.T) {
	b := recordedLegacy(t)
	if err := legacy(b); err != nil {
		t.Fatal(err)
	}
	ends, l := map[int]bool{infoSize: true}, layouts[IPv4]
	if err := l.each(b[infoSize:], func(_, next int, _ []byte) error { ends[infoSize+next] = true; return nil }); err != nil {
		t.Fatal(err)
	}
	for n := infoSize; n < len(b); n++ {
		if err := legacy(b[:n]); err == nil && !ends[n] {
			t.Fatalf("cut off after %d of %d bytes it is no error", n, len(b))
		}
	}
}
