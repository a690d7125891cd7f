package rules

// index finds the rules of a long chain that may be for a packet.
type index struct {
	// exact are the rules that name a protocol and a port, and maybe an address;
	// others are all that may be for any packet.
	exact  map[Addressee][]int32
	others []int32
}

// long is how many rules a chain has before an index is made for it.
const long = 16

// candidates are the rules of a chain that may be for a packet to an address, in
// their order; nil and all if it has no index.
func (c *Chain) candidates(a Addressee) (some []int32, all bool) {
	if len(c.Rules) < long {
		return nil, true
	}
	if c.index == nil {
		c.index = &index{exact: map[Addressee][]int32{}}
		for i := range c.Rules {
			if to, ok := c.Rules[i].Addressee(); ok {
				c.index.exact[to] = append(c.index.exact[to], int32(i))
			} else {
				c.index.others = append(c.index.others, int32(i))
			}
		}
	}
	x := c.index
	return inOrder(inOrder(x.exact[a], x.exact[Addressee{Proto: a.Proto, Port: a.Port}]), x.others), false
}

// inOrder merges two sorted lists.
func inOrder(a, b []int32) []int32 {
	switch {
	case len(a) == 0:
		return b
	case len(b) == 0:
		return a
	}
	out := make([]int32, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if a[0] < b[0] {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return append(append(out, a...), b...)
}
