package rules

import (
	"encoding/binary"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

func noted(b []byte) map[Family]*Changes {
	of := map[Family]*Changes{IPv4: {}, IPv6: {}}
	noteAll(b, of)
	return of
}

// FuzzChanges is that no message of the kernel, or of who says to be it, makes the
// listener panic, and that what it does not understand may mean anything.
func FuzzChanges(f *testing.F) {
	for _, b := range recorded(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for family, c := range noted(b) {
			if c.All && (c.Chains != nil || c.Elements != nil) {
				t.Errorf("%s: all, and %+v", family, c)
			}
			if len(b) > 0 && len(b) < nlHeader && !c.All {
				t.Errorf("%s: %x means nothing", family, b)
			}
			for set, keys := range c.Elements {
				for k := range keys {
					if k == "" {
						t.Errorf("%s: an element of %q without a key", family, set)
					}
				}
			}
		}
	})
}

// TestChangesTruncated is that a message that is cut off may mean anything.
func TestChangesTruncated(t *testing.T) {
	b := recorded(t)["elements.netlink"]
	ends, done := map[int]bool{}, 0
	for at := 0; at+nlHeader <= len(b); {
		if kind := binary.NativeEndian.Uint16(b[at+4:]); kind == unix.NLMSG_DONE {
			break // what ends a dump is no message of a listener's
		}
		at += int(binary.NativeEndian.Uint32(b[at:])+3) &^ 3
		ends[at], done = true, at
	}
	if c := noted(b[:done])[IPv4]; done == 0 || c.All || len(c.Elements["service-ips"]) == 0 {
		t.Fatalf("%d bytes are %+v", done, c)
	}
	for n := 1; n < done; n++ {
		if c := noted(b[:n])[IPv4]; !c.All && !ends[n] {
			t.Fatalf("cut off after %d of %d bytes: %+v", n, done, c)
		}
	}
}

// TestChangesBound is that more than there is room for may be anything.
func TestChangesBound(t *testing.T) {
	var c Changes
	for i := range most {
		c.Add(&Changes{Chains: map[string]bool{fmt.Sprint(i): true}})
	}
	if c.All || len(c.Chains) != most {
		t.Fatalf("%d are remembered, all %t", len(c.Chains), c.All)
	}
	c.Add(&Changes{Elements: map[string]map[string]bool{"a": {"b": true}}, Generation: 5})
	if !c.All || c.Chains != nil || c.Elements != nil || c.Generation != 5 {
		t.Errorf("%+v", c)
	}
}
