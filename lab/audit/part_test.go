package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"github.com/kproxy-exporter/kproxy-exporter/collector/audit"
	"github.com/kproxy-exporter/kproxy-exporter/collector/rules"
)

// part is what was found by looking, after each change, only at what the kernel said
// to have changed, or what its rules say by which they are known again, and at what
// differed before.
type part struct {
	frame     *rules.Frame
	print     *rules.Fingerprint
	claims    *audit.Claims
	of, known scope
}

// scope is what is looked at in part.
type scope struct {
	services map[string]bool
	nobody   []rules.Addressee
}

// add adds what changed; ok is false if all is to be looked at.
func (sc *scope) add(c *audit.Claims, changes *rules.Changes, s *audit.State) (ok bool) {
	touched, nobody, ok := c.Touched(changes, s)
	for _, name := range touched {
		sc.services[name] = true
	}
	sc.nobody = append(sc.nobody, nobody...)
	return ok
}

// parts changes the rules of a copy one after another, as they stand, and wants that
// looking at what the kernel says to have changed finds the same as looking at all.
func (l *look) parts(ctx context.Context, r *Random, w *Wire, s *audit.State) error {
	seen := map[rules.Family]*part{}
	for _, f := range families {
		seen[f] = &part{claims: audit.NewClaims(s.Services, f), of: scope{services: map[string]bool{}}, known: scope{services: map[string]bool{}}}
		err := w.Do(func() error {
			reader, err := rules.NewReader()
			if err != nil {
				return err
			}
			defer reader.Close()
			if seen[f].frame, err = reader.ReadFrame(f); err == nil {
				seen[f].print, _, err = reader.Fingerprint(f, nil)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	var listener *rules.Listener
	if err := w.Do(func() (err error) { listener, err = rules.Listen(); return err }); err != nil {
		return err
	}
	defer listener.Close()
	var done []string
	for range 8 {
		command, err := r.live(ctx, w)
		if err != nil || command == "" {
			return err
		}
		if w.Load(ctx, []string{"nft", "-f", "-"}, command) != nil {
			continue // a chain that others use
		}
		done = append(done, command)
		changes, _, err := listener.Wait()
		if err != nil {
			return err
		}
		for _, f := range families {
			if all, err := l.sameInPart(w.Namespace, s, f, seen[f], changes[f]); err != nil {
				return fmt.Errorf("after %q: %w", done, err)
			} else if all {
				return nil // all is to be looked at
			}
		}
	}
	return nil
}

// sameInPart wants that looks in part find what one at all does: at what the kernel said to
// have changed, and at what did by the fingerprints. all says that these concern all.
func (l *look) sameInPart(ns *Namespace, s *audit.State, f rules.Family, p *part, told *rules.Changes) (all bool, err error) {
	rs, end, err := l.read(ns, f)
	if err != nil {
		return false, err
	}
	whole, err := audit.Check(rs, s, l.config(f), nil)
	end()
	if err != nil {
		return false, err
	}
	var reader *rules.Reader
	if err := ns.Do(func() (err error) { reader, err = rules.NewReader(); return err }); err != nil {
		return false, err
	}
	defer reader.Close()
	print, changes, err := reader.Fingerprint(f, p.print)
	if err != nil {
		return false, err
	}
	p.print = print
	if a, b := p.of.add(p.claims, told, s), p.known.add(p.claims, changes, s); !a || !b {
		if told.All != changes.All && changes.All { // the other is of sets that are no more
			return true, fmt.Errorf("all changed by the fingerprint, and %+v was told", told)
		}
		return true, nil
	}
	for _, sc := range []*scope{&p.of, &p.known} {
		some, err := audit.Check(reader.ReadPart(f, p.frame), s, l.config(f), &audit.Scope{Services: sc.services, Nobody: sc.nobody, Claims: p.claims})
		if err != nil {
			return false, err
		}
		l.parted++
		if len(whole.Drifts) > 0 {
			l.differed++
		}
		if a, b := named(some.Drifts), named(whole.Drifts); !slices.Equal(a, b) {
			return false, fmt.Errorf("in part %q is found, in all %q; told %+v, known by the fingerprint %+v", a, b, told, changes)
		}
	}
	return false, nil
}

// named are the kinds of drift by Service, in order, each once.
func named(all []audit.Drift) (out []string) {
	for _, d := range all {
		text := d.Service + " " + string(d.Kind)
		if d.Service == "" {
			text += " " + d.What
		}
		out = append(out, text)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// live is a change of kube-proxy's own table as it stands, for nft; empty if there is
// nothing to change.
func (r *Random) live(ctx context.Context, w *Wire) (string, error) {
	family := r.one("ip", "ip", "ip6")
	var text []byte
	err := w.Do(func() (err error) {
		text, err = exec.CommandContext(ctx, "nft", "-j", "list", "table", family, "kube-proxy").Output()
		return err
	})
	if err != nil {
		return "", err
	}
	var list struct {
		Nftables []struct {
			Rule *struct {
				Chain  string
				Handle int
			}
			Map, Set *struct {
				Name string
				Elem []json.RawMessage
			}
		}
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return "", err
	}
	var rulesOf, chains, elements, targets []string
	for _, one := range list.Nftables {
		if one.Rule != nil {
			rulesOf = append(rulesOf, fmt.Sprintf("%s handle %d", one.Rule.Chain, one.Rule.Handle))
			if !slices.Contains(chains, one.Rule.Chain) {
				chains = append(chains, one.Rule.Chain)
			}
		}
		if one.Map != nil && one.Map.Name == "service-ips" {
			for _, e := range one.Map.Elem {
				if k, target := elementOf(e); k != "" {
					elements = append(elements, one.Map.Name+" { "+k)
					targets = append(targets, target)
				}
			}
		}
		if one.Set != nil && (one.Set.Name == "cluster-ips" || one.Set.Name == "hairpin-connections") {
			for _, e := range one.Set.Elem {
				if k, _ := elementOf(e); k != "" {
					elements = append(elements, one.Set.Name+" { "+k)
					targets = append(targets, "")
				}
			}
		}
	}
	if len(elements) == 0 || len(rulesOf) == 0 {
		return "", nil
	}
	i := r.IntN(len(elements))
	table := family + " kube-proxy "
	switch r.IntN(9) {
	case 8: // it keeps its handle
		return "replace rule " + table + r.one(rulesOf...) + " drop\n", nil
	case 0, 1, 2:
		return "delete rule " + table + r.one(rulesOf...) + "\n", nil
	case 3:
		return "insert rule " + table + r.one(chains...) + " drop\n", nil
	case 4:
		return "flush chain " + table + r.one(chains...) + "\n", nil
	case 5: // it leads to another Service
		if targets[i] == "" {
			break
		}
		return "delete element " + table + elements[i] + " }\nadd element " + table + elements[i] + " : goto " + r.one(slices.DeleteFunc(targets, func(t string) bool { return t == "" })...) + " }\n", nil
	case 6: // a port that nobody wants
		if targets[i] == "" {
			break
		}
		k := elements[i][:strings.LastIndex(elements[i], " ")] + " 60999"
		return "add element " + table + k + " : goto " + targets[i] + " }\n", nil
	}
	return "delete element " + table + elements[i] + " }\n", nil
}

// elementOf is an element of nft's JSON as nft reads it, and the chain to which it leads.
func elementOf(raw json.RawMessage) (k, target string) {
	var pair []json.RawMessage
	if json.Unmarshal(raw, &pair) == nil && len(pair) == 2 {
		var verdict struct{ Goto struct{ Target string } }
		if json.Unmarshal(pair[1], &verdict) != nil {
			return "", ""
		}
		k, _ := elementOf(pair[0])
		return k, verdict.Goto.Target
	}
	var wrapped struct {
		Elem   struct{ Val json.RawMessage }
		Concat []any
	}
	if json.Unmarshal(raw, &wrapped) == nil {
		if wrapped.Elem.Val != nil {
			return elementOf(wrapped.Elem.Val)
		}
		for i, part := range wrapped.Concat {
			if i > 0 {
				k += " . "
			}
			k += fmt.Sprint(part)
		}
		return k, ""
	}
	_ = json.Unmarshal(raw, &k)
	return k, ""
}
