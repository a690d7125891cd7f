package audit

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Mutate changes one thing in rules as a program prints them, and says what, and whether
// in a chain that packets meet first; what is empty if there was nothing of the kind that
// was chosen.
func (r *Random) Mutate(text string) (mutated, what string, base bool) {
	lines := strings.Split(text, "\n")
	mine := r.pick(lines, isRule)
	if len(mine) == 0 {
		return text, "", false
	}
	i := mine[r.IntN(len(mine))]
	old := lines[i]
	base = isBase(chainOf(lines, i))
	switch r.IntN(9) {
	case 0, 1:
		lines = slices.Delete(lines, i, i+1)
		return strings.Join(lines, "\n"), "removed: " + old, base
	case 2:
		j := mine[r.IntN(len(mine))]
		if chainOf(lines, i) != chainOf(lines, j) || i == j {
			return text, "", false
		}
		lines[i], lines[j] = lines[j], lines[i]
		return strings.Join(lines, "\n"), fmt.Sprintf("swapped: %s and %s", old, lines[i]), base
	case 3:
		lines = slices.Insert(lines, i, old)
		return strings.Join(lines, "\n"), "twice: " + old, base
	case 4:
		lines[i] = r.number(old, regexp.MustCompile(`(dport |: ?|\. )(\d{2,5})\b`))
	case 5:
		lines[i] = r.number(old, regexp.MustCompile(`((?:10|198|203)\.\d+\.\d+\.)(\d+)\b`))
	case 6:
		lines[i] = r.number(old, regexp.MustCompile(`(--probability 0\.|mod )(\d+)`))
	case 7:
		for _, verdict := range [][2]string{{"-j REJECT", "-j DROP"}, {"-j DROP", "-j ACCEPT"}, {"goto reject-chain", "drop"}, {" drop", " accept"}, {"masquerade", "accept"}, {"! -s", "-s"}, {"saddr != ", "saddr "}, {"-j KUBE-MARK-MASQ", "-j RETURN"}} {
			if strings.Contains(old, verdict[0]) {
				lines[i] = strings.Replace(old, verdict[0], verdict[1], 1)
				break
			}
		}
	case 8:
		mutated, what = r.element(text)
		return mutated, what, false
	}
	if lines[i] == old {
		return text, "", false
	}
	return strings.Join(lines, "\n"), fmt.Sprintf("changed: %s to %s", old, lines[i]), base
}

// element takes an element out of a set or map of nft's output.
func (r *Random) element(text string) (mutated, what string) {
	all := regexp.MustCompile(`[\[\w:.]+ \. (tcp|udp|sctp) \. \d+( \.|) ?(: (goto [^,}\s]+|drop))?( comment "[^"]*")?,`).FindAllStringIndex(text, -1)
	if len(all) == 0 {
		return text, ""
	}
	at := all[r.IntN(len(all))]
	return text[:at[0]] + text[at[1]:], "removed element: " + text[at[0]:at[1]]
}

func (r *Random) pick(lines []string, ok func(string) bool) (out []int) {
	for i, l := range lines {
		if ok(l) {
			out = append(out, i)
		}
	}
	return out
}

// isRule is of a rule in one line.
func isRule(l string) bool {
	t := strings.TrimSpace(l)
	if strings.HasPrefix(t, "-A ") {
		return strings.Contains(t, "KUBE-")
	}
	for _, p := range []string{"type ", "elements", "comment ", "flags", "timeout", "size", "set ", "map ", "chain ", "table ", "}", "*", ":", "#", "COMMIT"} {
		if strings.HasPrefix(t, p) {
			return false
		}
	}
	return t != "" && !strings.HasSuffix(t, ",") && !strings.HasSuffix(t, " }") || strings.Contains(t, "dnat") || strings.Contains(t, " vmap {")
}

// isBase is of a chain that packets meet first, as chainOf names it.
func isBase(chain string) bool {
	if name, ok := strings.CutPrefix(chain, "chain "); ok {
		return strings.HasPrefix(name, "nat-") || strings.HasPrefix(name, "filter-")
	}
	return !strings.Contains(chain, "KUBE-")
}

// chainOf is the chain that a line belongs to.
func chainOf(lines []string, i int) string {
	if f := strings.Fields(lines[i]); len(f) > 1 && f[0] == "-A" {
		for ; i >= 0; i-- {
			if strings.HasPrefix(lines[i], "*") {
				return lines[i] + f[1]
			}
		}
		return f[1]
	}
	for ; i >= 0; i-- {
		if t := strings.TrimSpace(lines[i]); strings.HasPrefix(t, "chain ") {
			return t
		}
	}
	return ""
}

// number changes one number in a line.
func (r *Random) number(line string, at *regexp.Regexp) string {
	all := at.FindAllStringSubmatchIndex(line, -1)
	if len(all) == 0 {
		return line
	}
	m := all[r.IntN(len(all))]
	return line[:m[4]] + fmt.Sprint(1+r.IntN(200)) + line[m[5]:]
}
