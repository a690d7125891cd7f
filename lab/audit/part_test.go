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
// to have changed, and at what differed before.
type part struct {
	frame    *rules.Frame
	claims   *audit.Claims
	services map[string]bool
	nobody   []rules.Addressee
}

// parts changes the rules of a copy one after another, as they stand, and wants that
// looking at what the kernel says to have changed finds the same as looking at all.
func (l *look) parts(ctx context.Context, r *Random, w *Wire, s *audit.State) error {
	seen := map[rules.Family]*part{}
	for _, f := range families {
		seen[f] = &part{claims: audit.NewClaims(s.Services, f), services: map[string]bool{}}
		err := w.Do(func() error {
			reader, err := rules.NewReader()
			if err != nil {
				return err
			}
			defer reader.Close()
			seen[f].frame, err = reader.ReadFrame(f)
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
			touched, nobody, ok := seen[f].claims.Touched(changes[f], s)
			if !ok {
				return nil // all is to be looked at
			}
			for _, name := range touched {
				seen[f].services[name] = true
			}
			seen[f].nobody = append(seen[f].nobody, nobody...)
			if err := l.sameInPart(w.Namespace, s, f, seen[f]); err != nil {
				return fmt.Errorf("after %q: %w", done, err)
			}
		}
	}
	return nil
}

// sameInPart wants that a look in part finds what one at all does.
func (l *look) sameInPart(ns *Namespace, s *audit.State, f rules.Family, p *part) error {
	rs, end, err := l.read(ns, f)
	if err != nil {
		return err
	}
	whole, err := audit.Check(rs, s, l.config(f), nil)
	end()
	if err != nil {
		return err
	}
	var reader *rules.Reader
	if err := ns.Do(func() (err error) { reader, err = rules.NewReader(); return err }); err != nil {
		return err
	}
	defer reader.Close()
	some, err := audit.Check(reader.ReadPart(f, p.frame), s, l.config(f), &audit.Scope{Services: p.services, Nobody: p.nobody, Claims: p.claims})
	if err != nil {
		return err
	}
	a, b := named(some.Drifts), named(whole.Drifts)
	l.parted++
	if len(b) > 0 {
		l.differed++
	}
	if !slices.Equal(a, b) {
		return fmt.Errorf("in part %q is found, in all %q", a, b)
	}
	return nil
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
	switch r.IntN(8) {
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
