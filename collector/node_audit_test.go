package collector

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"

	"github.com/kproxy-exporter/kproxy-exporter/collector/audit"
	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
	"github.com/kproxy-exporter/kproxy-exporter/collector/rules"
	"github.com/kproxy-exporter/kproxy-exporter/collector/rules/rulestest"
)

// auditWorld is a network namespace with rules, and an audit in it.
type auditWorld struct {
	t       *testing.T
	a       *ruleAudit
	heard   *rules.Listener
	sync    audit.Sync
	objects map[string]*wish
	listed  bool // that is how what the API wants comes, not as a change
	// patience is how long what may be on its way is waited for.
	patience time.Duration
}

// inAuditWorld runs a test in a network namespace of its own.
func inAuditWorld(t *testing.T, mode string, do func(*auditWorld)) {
	t.Helper()
	rulestest.InNamespace(t, func() {
		n := &Node{cfg: NodeConfig{Name: "n1", Audit: AuditAll}}
		n.desired = newDesired(&n.cfg)
		w := &auditWorld{t: t, a: newRuleAudit(n), objects: map[string]*wish{}, patience: 20 * time.Second}
		before := time.Now().Add(-time.Hour)
		w.sync = audit.Sync{Known: true, Started: before, Synced: before, Queued: before}
		w.a.config = func() (*nodeAuditConfig, string) {
			return &nodeAuditConfig{Config: audit.Config{Mode: mode, Node: "n1"}, detect: "ClusterCIDR", cidrs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}}, ""
		}
		w.a.served = func(f rules.Family) bool { return f == rules.IPv4 }
		w.a.says = func(context.Context, string, rules.Family, audit.Asks) audit.Sync { return w.sync }
		var err error
		if w.heard, err = rules.Listen(); err != nil {
			t.Error(err)
			return
		}
		defer w.heard.Close()
		do(w)
	})
}

// run gives a program its input; what it changed is heard of.
func (w *auditWorld) run(text string, program ...string) {
	w.t.Helper()
	rulestest.Load(w.t, text, program...)
	if strings.Contains(program[0], "legacy") {
		return // nobody tells of it
	}
	said, _, err := w.heard.Wait()
	if err != nil {
		w.t.Error(err)
	}
	w.a.told.add(said)
}

func (w *auditWorld) nft(text string) { w.t.Helper(); w.run(text, "nft", "-f", "-") }

// service is one of the API's: its port 80 leads to an endpoint; none without a port.
func (w *auditWorld) service(i int, port int32) {
	d := w.a.n.desired
	name := fmt.Sprintf("s%d", i)
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: name}, Spec: corev1.ServiceSpec{ClusterIP: fmt.Sprintf("10.96.0.%d", i), Ports: []corev1.ServicePort{{Protocol: corev1.ProtocolTCP, Port: port}}}}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name}}, AddressType: discoveryv1.AddressTypeIPv4,
		Ports: []discoveryv1.EndpointPort{{Name: new(""), Protocol: new(corev1.ProtocolTCP), Port: new(int32(8080))}}, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{fmt.Sprintf("10.244.9.%d", i)}}},
	}
	one, _ := d.convertService(service)
	two, _ := d.convertSlice(slice)
	for _, is := range []*wish{&one, &two} {
		var now *wish
		if port != 0 {
			now = is
		}
		d.mu.Lock()
		d.audit.keep(w.objects[is.what], now, w.listed, time.Now())
		d.mu.Unlock()
		w.objects[is.what] = now
	}
}

// look looks once, as often as it says that something is pending, and returns what
// differs, by kind, and the extents of all that was spent.
func (w *auditWorld) look() (drift string, l looked) {
	w.t.Helper()
	for deadline := time.Now().Add(w.patience); ; {
		one, err := w.a.lookSafely(w.t.Context())
		if err != nil {
			w.t.Error(err)
			return "", l
		}
		l.whole, l.part, l.owed = l.whole+one.whole, l.part+one.part, one.owed
		if !one.pending || time.Now().After(deadline) {
			break
		}
		select {
		case <-w.t.Context().Done():
			return "", l
		case <-time.After(auditLeast): // as it does itself
		}
	}
	s := w.a.snapshot(time.Now())
	if s.Lacks != "" {
		return "unknown: " + s.Lacks, l
	}
	var out []string
	for _, k := range audit.Kinds {
		if n := s.Drift[string(k)]; n > 0 {
			out = append(out, fmt.Sprintf("%s %d", k, n))
		}
	}
	if len(s.Flushed) > 0 {
		out = append(out, "flushed")
	}
	return strings.Join(out, " "), l
}

// want wants a drift, found by looks at all Services or by none such.
func (w *auditWorld) want(what, drift string, whole bool) {
	w.t.Helper()
	got, l := w.look()
	if got != drift || whole != (l.whole > 0) {
		w.t.Errorf("%s: %q, of all: %t, owed %t; want %q, of all: %t", what, got, l.whole > 0, l.owed, drift, whole)
	}
}

// TestRuleAuditFirstLook is of rules that are missing before anybody looked: unknown
// until it is clear that kube-proxy cannot be about to write them, which is soon where
// the API server's own clock says that they have been wanted for long.
func TestRuleAuditFirstLook(t *testing.T) {
	for name, tc := range map[string]struct {
		written time.Duration // ago; by nobody's word if it is 0
		want    string
	}{
		"wanted for long":             {time.Hour, "missing 1"},
		"just wanted":                 {time.Second, "unknown: time: what has differed since the first look may be on its way"},
		"nobody says since when":      {0, "unknown: time: what has differed since the first look may be on its way"},
		"nobody says of its endpoint": {-1, "unknown: time: what has differed since the first look may be on its way"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inAuditWorld(t, audit.ModeNFTables, func(w *auditWorld) {
				w.listed, w.patience = true, 7*time.Second
				w.nft(nftTable(2))
				w.nft("delete element ip kube-proxy service-ips { 10.96.0.2 . tcp . 80 }")
				for i := 1; i <= 2; i++ {
					w.service(i, 80)
				}
				wants := w.a.n.desired.audit
				if tc.written != 0 {
					at := time.Now().Add(-tc.written).Unix()
					wants.services["a/s2"].Written = at
					if tc.written > 0 {
						wants.slices["a/s2"][0].Written = at
					}
				}
				w.sync.Synced = time.Now()
				began := time.Now()
				drift, _ := w.look()
				if drift != tc.want {
					t.Errorf("%q, want %q", drift, tc.want)
				}
				if took := time.Since(began); took < 5*time.Second {
					t.Errorf("said after %s", took)
				}
			})
		})
	}
}

func nftTable(services int) string {
	var out, elements strings.Builder
	out.WriteString(`add table ip kube-proxy
add set ip kube-proxy cluster-ips { type ipv4_addr; }
add map ip kube-proxy service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
add map ip kube-proxy no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict; }
add chain ip kube-proxy services
add chain ip kube-proxy masquerading
add chain ip kube-proxy cluster-ips-check
add chain ip kube-proxy mark-for-masquerade
add rule ip kube-proxy mark-for-masquerade mark set mark or 0x4000
add rule ip kube-proxy services ip daddr . meta l4proto . th dport vmap @service-ips
add rule ip kube-proxy masquerading mark and 0x4000 != 0 mark set mark xor 0x4000 masquerade fully-random
add rule ip kube-proxy cluster-ips-check ip daddr @cluster-ips reject
add chain ip kube-proxy nat-prerouting { type nat hook prerouting priority dstnat; }
add chain ip kube-proxy nat-output { type nat hook output priority -100; }
add chain ip kube-proxy nat-postrouting { type nat hook postrouting priority srcnat; }
add chain ip kube-proxy filter-forward { type filter hook forward priority -110; }
add chain ip kube-proxy filter-output { type filter hook output priority -90; }
add rule ip kube-proxy nat-prerouting jump services
add rule ip kube-proxy nat-output jump services
add rule ip kube-proxy nat-postrouting jump masquerading
add rule ip kube-proxy filter-forward ct state new jump cluster-ips-check
add rule ip kube-proxy filter-output ct state new jump cluster-ips-check
`)
	for i := 1; i <= services; i++ {
		out.WriteString(nftService(i))
	}
	return out.String() + elements.String()
}

func nftChain(i int) string { return fmt.Sprintf("service-ABCDEFGH-a/s%d/tcp/", i) }

func nftService(i int) string {
	c := nftChain(i)
	return fmt.Sprintf(`add chain ip kube-proxy %s
add rule ip kube-proxy %s ip daddr 10.96.0.%d tcp dport 80 ip saddr != 10.244.0.0/16 jump mark-for-masquerade
add rule ip kube-proxy %s meta l4proto tcp dnat to 10.244.9.%d:8080
add element ip kube-proxy service-ips { 10.96.0.%d . tcp . 80 : goto %s }
add element ip kube-proxy cluster-ips { 10.96.0.%d }
`, c, c, i, c, i, i, c, i)
}

// TestAuditAsksTheProcess is that whether kube-proxy is stopped is asked for now.
func TestAuditAsksTheProcess(t *testing.T) {
	n := newTestNode(t, fakeProc(t, netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddrPort("127.0.0.1:1")))
	n.desired = newDesired(&n.cfg)
	if err := n.readProcess(t.Context()); err != nil {
		t.Fatal(err)
	}
	stat := filepath.Join(n.cfg.ProcPath, "7/stat")
	is, err := os.ReadFile(stat)
	if err != nil {
		t.Fatal(err)
	}
	a := newRuleAudit(n)
	for _, state := range []string{"S", "T", "R"} {
		if err := os.WriteFile(stat, []byte(strings.Replace(string(is), ") S ", ") "+state+" ", 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := a.sync(t.Context(), audit.ModeNFTables, rules.IPv4, audit.Asks{}).Halted; got != (state == "T") {
			t.Errorf("state %s: stopped %t", state, got)
		}
	}
}

// TestAuditBelieved is that an outcome is believed until there may be a next one: what
// was found would seem to be gone for a while.
func TestAuditBelieved(t *testing.T) {
	for _, tc := range []struct{ took, cost time.Duration }{{time.Second, time.Second}, {time.Second, 4 * time.Second}, {7 * time.Second, 3 * time.Second}, {time.Millisecond, 0}} {
		for families := 1; families <= 2; families++ {
			began := time.Now()
			wholes := allowance{share: wholeShare, at: began}
			var s auditSeen
			took := time.Duration(0)
			for range families {
				s.add(rules.IPv4, &familyAudit{at: began, wholeTook: tc.took, wholeCost: tc.cost})
				took += tc.took
			}
			wholes.spend(began.Add(took), time.Duration(families)*tc.cost)
			if next := took + wholes.wait(began.Add(took)) + took; s.believable() < next {
				t.Errorf("%+v, %d families: believed for %s, the next look ends after %s", tc, families, s.believable(), next)
			}
		}
	}
	a := ruleAudit{seen: auditSeen{result: cause.Audit{At: time.Now().Add(-time.Hour), Since: time.Now().Add(-2 * time.Hour)}}}
	if got := a.snapshot(time.Now()); got.Lacks == "" || !got.Found {
		t.Errorf("an hour without a look: %+v", got)
	}
	a.lose("no")
	a.lose("nor now")
	if got := a.snapshot(time.Now()); got.Lacks != "nor now" || !got.Found {
		t.Errorf("looks that fail: %+v", got)
	}
}

// TestAuditOneFamily is that rules of one IP family that nobody understands do not hide
// what is found in the other's, nor are looked at again and again at any price.
func TestAuditOneFamily(t *testing.T) {
	inAuditWorld(t, audit.ModeNFTables, func(w *auditWorld) {
		w.service(1, 80)
		w.nft(nftTable(1))
		w.want("at first", "", true)
		d := w.a.n.desired
		d.mu.Lock()
		d.audit.keep(nil, &wish{auditService: &audit.Service{Name: "a/six", ClusterIPs: []netip.Addr{netip.MustParseAddr("fd00::1")}, Ports: []audit.Port{{Protocol: audit.TCP, Port: 80}}}}, true, time.Now())
		d.mu.Unlock()
		w.a.served = func(rules.Family) bool { return true }
		w.nft("add table ip6 kube-proxy\nadd chain ip6 kube-proxy nat-output { type nat hook output priority -100; }\nadd chain ip6 kube-proxy services\nadd rule ip6 kube-proxy nat-output jump services\nadd rule ip6 kube-proxy services meta cpu 1 socket transparent 1 accept\n")
		is := func(what string, fails bool, state cause.State) {
			t.Helper()
			for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
				_, err := w.a.lookSafely(t.Context())
				got := w.a.snapshot(time.Now())
				v := verdictOf(got)
				if (err != nil) == fails && (got.Lacks != "") == fails && v.State == state {
					return
				}
				if time.Since(began) > w.patience {
					t.Errorf("%s: %v, %+v, rules_stale is %v", what, err, got, v)
					return
				}
			}
		}
		is("nobody understands the other", true, cause.Inactive) // by kube-proxy's own word
		w.nft("flush chain ip kube-proxy services\n")
		is("flushed beside it", true, cause.Active)
		w.a.config = func() (*nodeAuditConfig, string) { return nil, "what the API wants" }
		if _, err := w.a.lookSafely(t.Context()); err != nil || !w.a.snapshot(time.Now()).Found || verdictOf(w.a.snapshot(time.Now())).State != cause.Unknown {
			t.Errorf("what was found, and cannot be looked at: %v, %+v", err, w.a.snapshot(time.Now()))
		}
	})
}

// verdictOf is what rules_stale makes of an audit, where kube-proxy says that it is well.
func verdictOf(a *cause.Audit) cause.Verdict {
	now := time.Now()
	i := slices.IndexFunc(cause.All, func(c cause.Cause) bool { return c.Name == "rules_stale" })
	return cause.All[i].Node(&cause.Snapshot{Now: now, Name: "n1", Local: &cause.Local{Audit: a, Proxy: &cause.Proxy{
		Seen: true, Started: now.Add(-time.Hour), Families: []cause.Family{{Name: "IPv4", Queued: now.Add(-time.Minute), Synced: now.Add(-time.Minute)}},
	}}})
}

// TestAuditCanary is that only the exporter's own and the probed Services are compared
// where nothing else is to be.
func TestAuditCanary(t *testing.T) {
	inAuditWorld(t, audit.ModeNFTables, func(w *auditWorld) {
		w.a.n.cfg.Audit, w.a.n.desired.canary = AuditCanary, "a/s1"
		w.service(1, 80)
		w.service(2, 80)
		w.nft(nftTable(2))
		w.want("at first", "", true)
		w.nft("delete element ip kube-proxy service-ips { 10.96.0.2 . tcp . 80 }\nadd element ip kube-proxy service-ips { 10.96.0.200 . tcp . 80 : goto " + nftChain(1) + " }\n")
		w.want("another's rule is gone, and there is one for nobody", "", true)
		w.nft("delete element ip kube-proxy service-ips { 10.96.0.1 . tcp . 80 }\n")
		w.want("its own is gone", "missing 1 flushed", true)
		if n := w.a.snapshot(time.Now()).Services; n != 1 {
			t.Errorf("%d Services are compared", n)
		}
	})
}

// TestAuditFailingCost is that looks which fail take no more than those that do not.
func TestAuditFailingCost(t *testing.T) {
	inAuditWorld(t, audit.ModeNFTables, func(w *auditWorld) {
		w.service(1, 80)
		w.nft("add table ip kube-proxy\nadd chain ip kube-proxy nat-output { type nat hook output priority -100; }\nadd rule ip kube-proxy nat-output meta cpu 1 socket transparent 1 accept\n")
		if l, err := w.a.lookSafely(t.Context()); err == nil || l.whole == 0 {
			t.Errorf("the first look: %+v, %v", l, err)
		}
		w.a.wholes.left, w.a.parts.left = -time.Hour, -time.Hour
		if l, err := w.a.lookSafely(t.Context()); err != nil || l.whole+l.part > 0 || !l.owed {
			t.Errorf("a look that may not be made: %+v, %v", l, err)
		}
	})
}

// TestRuleAudit is of the kernel's own rules, changed one way after the other.
func TestRuleAudit(t *testing.T) {
	inAuditWorld(t, audit.ModeNFTables, func(w *auditWorld) {
		const services = 120 // more than auditFew
		for i := 1; i <= services; i++ {
			w.service(i, 80)
		}
		w.nft(nftTable(services))
		w.want("the first look", "", true)
		w.want("nothing changed", "", false)
		element := "element ip kube-proxy service-ips { 10.96.0.7 . tcp . 80"
		w.nft("delete " + element + " }\n")
		w.want("an element was deleted", "missing 1", false)
		w.nft("add " + element + " : goto " + nftChain(8) + " }\n")
		w.want("it leads to another Service", "wrong_backend 1", false)
		w.nft("delete " + element + " }\nadd " + element + " : goto " + nftChain(7) + " }\n")
		w.want("it is as it was", "", false)
		w.nft("flush chain ip kube-proxy " + nftChain(9) + "\n")
		w.want("a chain is empty", "missing 1", false)
		w.nft("add table ip other\nadd chain ip other x { type filter hook forward priority 0; }\n")
		w.want("another table came", "missing 1", false)
		w.nft("add rule ip kube-proxy " + nftChain(9) + " ip daddr 10.96.0.9 tcp dport 80 ip saddr != 10.244.0.0/16 jump mark-for-masquerade\nadd rule ip kube-proxy " + nftChain(9) + " meta l4proto tcp dnat to 10.244.9.9:8080\n")
		w.want("the chain has its rule", "", false)
		w.nft("add element ip kube-proxy service-ips { 10.96.0.200 . tcp . 80 : goto " + nftChain(1) + " }\n")
		w.want("a rule for nobody", "stale 1", false)
		w.nft("delete element ip kube-proxy service-ips { 10.96.0.200 . tcp . 80 }\n")
		w.want("it went", "", false)

		w.service(services+1, 80)
		w.sync.Halted = true // nobody will write it
		w.want("the API has another Service", "missing 1", false)
		w.nft(nftService(services + 1))
		w.want("and so has the kernel", "", false)
		w.service(services+1, 0)
		w.want("the API has it no more", "stale 2", false) // its port and its address
		w.nft("delete element ip kube-proxy service-ips { 10.96.0.121 . tcp . 80 }\ndelete element ip kube-proxy cluster-ips { 10.96.0.121 }\ndelete chain ip kube-proxy " + nftChain(services+1) + "\n")
		w.want("nor has the kernel", "", false)
		w.sync.Halted = false

		w.nft("flush chain ip kube-proxy nat-output\n")
		w.want("the hook of what the node sends", fmt.Sprintf("unlinked %d", services), true)
		w.nft("add rule ip kube-proxy nat-output jump services\n")
		w.want("it is back", "", true)
		w.nft("flush ruleset\n")
		w.want("all is gone", fmt.Sprintf("missing %d flushed", services), true)
		w.nft(nftTable(services))
		w.want("all is back", "", true)

		// All cannot be looked at for hours: some say that they are gone, and it stays owed.
		w.a.wholes.left = -time.Hour
		w.nft("flush chain ip kube-proxy nat-output\n")
		if got, l := w.look(); got != fmt.Sprintf("unlinked %d", auditSample) || l.whole > 0 || !l.owed {
			t.Errorf("a sample: %q %+v", got, l)
		}
		w.nft("add rule ip kube-proxy nat-output jump services\n")
		for i := range 3 { // however often nobody knows what changed
			if got, l := w.look(); got != "" || l.whole > 0 || !l.owed {
				t.Errorf("a sample, mended, look %d: %q %+v", i, got, l)
			}
			w.a.told.lost()
			w.nft("add table ip other\n")
		}
		// That of which the API says something new is part of the sample.
		for i := 1; i <= 10; i++ {
			w.service(services+i, 80)
		}
		cfg, _ := w.a.config()
		c := cfg.Config
		c.Family = rules.IPv4
		w.a.families[rules.IPv4].told.All = true // what the kernel's rules are is not clear
		w.a.n.desired.mu.Lock()
		p, ok := w.a.plan(w.a.families[rules.IPv4], &c, &auditSeen{at: time.Now(), generation: w.a.families[rules.IPv4].generation + 1})
		w.a.n.desired.mu.Unlock()
		if !ok || len(p.scope.Services) != auditSample || !p.owed {
			t.Errorf("a sample: %t %+v", ok, p)
		}
		for i := 1; i <= 10; i++ {
			if name := fmt.Sprintf("a/s%d", services+i); !p.scope.Services[name] {
				t.Errorf("%s is new and no part of the sample", name)
			}
			w.service(services+i, 0)
		}
		w.a.wholes.left = auditBurst
		w.want("all can be looked at again", "", true)

		w.a.told.lost()
		w.nft("delete " + element + " }\n")
		w.want("messages were lost", "missing 1", false)
		w.nft("add " + element + " : goto " + nftChain(7) + " }\nflush chain ip kube-proxy " + nftChain(9) + "\n")
		w.a.told.lost()
		w.want("and are again", "missing 1", false)
		w.nft("add rule ip kube-proxy " + nftChain(9) + " meta l4proto tcp dnat to 10.244.9.9:8080\n")
		w.a.told.lost()
		w.nft("flush chain ip kube-proxy nat-output\n")
		w.want("what all Services need, too", fmt.Sprintf("unlinked %d missing 1", services), true)
		w.nft("add rule ip kube-proxy nat-output jump services\n")
		w.want("all is as it was", "missing 1", true) // without masquerade
		// What was not told of is found when all is looked at again.
		one := w.a.families[rules.IPv4]
		one.whole = one.whole.Add(-2 * auditWhole)
		rulestest.Load(t, "flush chain ip kube-proxy "+nftChain(11)+"\n", "nft", "-f", "-")
		w.a.told.add(map[rules.Family]*rules.Changes{rules.IPv4: {Generation: one.generation + 1}})
		w.want("it was not told of", "missing 2", true)
	})
}

// TestRuleAuditUnlinked is that rules are called unlinked where packets do not meet them,
// and only then.
func TestRuleAuditUnlinked(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"nothing leads to them":           {"flush chain ip kube-proxy nat-prerouting\n", "unlinked 3"},
		"half of the packets go before":   {"insert rule ip kube-proxy nat-prerouting numgen random mod 2 0 accept\n", "unlinked 3"},
		"one is refused before them":      {"add chain ip kube-proxy filter-early { type filter hook prerouting priority -110; }\nadd rule ip kube-proxy filter-early ip daddr 10.96.0.2 drop\n", "missing 1"},
		"some packets go before":          {"insert rule ip kube-proxy nat-prerouting ip daddr 10.96.0.3 accept\n", "unlinked 1"},
		"nothing leads to masquerading":   {"flush chain ip kube-proxy nat-postrouting\n", "unlinked 3"},
		"masquerading is empty":           {"flush chain ip kube-proxy masquerading\n", "missing 3"},
		"one asks for no masquerading":    {"flush chain ip kube-proxy " + nftChain(3) + "\nadd rule ip kube-proxy " + nftChain(3) + " meta l4proto tcp dnat to 10.244.9.3:8080\n", "missing 1"},
		"packets are dropped behind them": {"add chain ip kube-proxy filter-output { policy drop; }\n", "missing 3"},
	} {
		t.Run(name, func(t *testing.T) {
			inAuditWorld(t, audit.ModeNFTables, func(w *auditWorld) {
				for i := 1; i <= 3; i++ {
					w.service(i, 80)
				}
				w.nft(nftTable(3))
				w.want("the first look", "", true)
				w.nft(tc.text)
				w.want(name, tc.want, true)
			})
		})
	}
}

// TestRuleAuditNearest is that of several answers that would be right, as the API
// contradicts itself, what is there is held against the nearest.
func TestRuleAuditNearest(t *testing.T) {
	inAuditWorld(t, audit.ModeNFTables, func(w *auditWorld) {
		w.nft(nftTable(3))
		r, err := rules.NewReader()
		if err != nil {
			t.Error(err)
			return
		}
		defer r.Close()
		cfg, _ := w.a.config()
		cfg.Family = rules.IPv4
		cfg.detector()
		ports := []audit.Port{{Protocol: audit.TCP, Port: 8080}}
		ready := func(last byte) audit.Endpoint {
			return audit.Endpoint{Address: netip.AddrFrom4([4]byte{10, 244, 9, last}), Ready: true, Serving: true}
		}
		for _, tc := range []struct {
			endpoints []audit.Endpoint // of which the first is also said not to be ready
			want      string
		}{
			{[]audit.Endpoint{ready(3), ready(4)}, "it is never sent to 10.244.9.4:8080"},
			{[]audit.Endpoint{ready(5), ready(4)}, "it may be sent to 10.244.9.3:8080 and never to 10.244.9.4:8080"},
		} {
			state := &audit.State{
				Services: map[string]*audit.Service{"a/s3": {Name: "a/s3", ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.3")}, Ports: []audit.Port{{Protocol: audit.TCP, Port: 80}}}},
				Slices: map[string][]*audit.Slice{"a/s3": {
					{Service: "a/s3", Ports: ports, Endpoints: tc.endpoints},
					{Service: "a/s3", Ports: ports, Endpoints: []audit.Endpoint{{Address: tc.endpoints[0].Address}}},
				}},
			}
			rs, err := r.ReadNFTables(rules.IPv4)
			if err != nil {
				t.Error(err)
				return
			}
			result, err := audit.Check(rs, state, &cfg.Config, &audit.Scope{Services: map[string]bool{"a/s3": true}})
			if err != nil || len(result.Drifts) != 1 || !strings.HasSuffix(result.Drifts[0].What, ": "+tc.want) {
				t.Errorf("%+v, %v; want %q", result.Drifts, err, tc.want)
			}
		}
	})
}

// TestRuleAuditLegacy is of rules that nobody tells of.
func TestRuleAuditLegacy(t *testing.T) {
	inAuditWorld(t, audit.ModeIPTables, func(w *auditWorld) {
		w.service(1, 80)
		const text = `*nat
:KUBE-SERVICES - [0:0]
:KUBE-SVC-A - [0:0]
:KUBE-MARK-MASQ - [0:0]
-A PREROUTING -j KUBE-SERVICES
-A OUTPUT -j KUBE-SERVICES
-A POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A POSTROUTING -j MARK --xor-mark 0x4000
-A POSTROUTING -j MASQUERADE --random-fully
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A KUBE-SERVICES -m tcp -p tcp -d 10.96.0.1 --dport 80 -j KUBE-SVC-A
-A KUBE-SVC-A ! -s 10.244.0.0/16 -j KUBE-MARK-MASQ
-A KUBE-SVC-A -m tcp -p tcp -j DNAT --to-destination 10.244.9.1:8080
COMMIT
*filter
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
`
		w.run(text, "iptables-legacy-restore")
		w.want("the first look", "", true)
		w.run("*nat\n-D KUBE-SERVICES -m tcp -p tcp -d 10.96.0.1 --dport 80 -j KUBE-SVC-A\nCOMMIT\n", "iptables-legacy-restore", "--noflush")
		w.want("a rule went", "missing 1 flushed", true)
		w.run(text, "iptables-legacy-restore")
		w.want("it is back", "", true)
	})
}

// TestRuleAuditForeign is of rules that others wrote beside kube-proxy's: they are not
// its drift, whatever they do.
func TestRuleAuditForeign(t *testing.T) {
	const kube = `*nat
:KUBE-SERVICES - [0:0]
:KUBE-SVC-A - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-POSTROUTING - [0:0]
-A PREROUTING -j KUBE-SERVICES
-A OUTPUT -j KUBE-SERVICES
-A POSTROUTING -j KUBE-POSTROUTING
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A KUBE-SERVICES -m tcp -p tcp -d 10.96.0.1 --dport 80 -j KUBE-SVC-A
-A KUBE-SVC-A ! -s 10.244.0.0/16 -j KUBE-MARK-MASQ
-A KUBE-SVC-A -m tcp -p tcp -j DNAT --to-destination 10.244.9.1:8080
COMMIT
*filter
:KUBE-FORWARD - [0:0]
-A FORWARD -j KUBE-FORWARD
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
`
	for name, foreign := range map[string][]string{
		"a network plugin's masquerading":                  {"*nat\n:FLANNEL-POSTRTG - [0:0]\n-A POSTROUTING -j FLANNEL-POSTRTG\n-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -j RETURN\n-A FLANNEL-POSTRTG -s 10.244.0.0/16 -j MASQUERADE --random-fully\nCOMMIT\n"},
		"a policy, and exceptions that are not understood": {"*filter\n:FORWARD DROP [0:0]\n-A FORWARD -o eth0 -j ACCEPT\nCOMMIT\n"},
		"a firewall of the host":                           {"*filter\n:INPUT DROP [0:0]\n-A INPUT -s 10.0.0.0/8 -j ACCEPT\n-I OUTPUT -d 10.96.0.0/16 -m limit --limit 1/s -j REJECT\n-A FORWARD -s 192.0.2.0/24 -j DROP\nCOMMIT\n"},
	} {
		t.Run(name, func(t *testing.T) {
			inAuditWorld(t, audit.ModeIPTables, func(w *auditWorld) {
				w.t = t
				w.service(1, 80)
				w.run(kube, "iptables-nft-restore")
				w.want("kube-proxy's own rules", "", true)
				for _, text := range foreign {
					w.run(text, "iptables-nft-restore", "--noflush")
				}
				w.want("others' too", "", true)
				w.run("*nat\n-D KUBE-SVC-A -m tcp -p tcp -j DNAT --to-destination 10.244.9.1:8080\nCOMMIT\n", "iptables-nft-restore", "--noflush")
				w.want("and one of kube-proxy's went", "missing 1 flushed", true)
			})
		})
	}
	inAuditWorld(t, audit.ModeIPTables, func(w *auditWorld) {
		w.service(1, 80)
		w.run(kube, "iptables-nft-restore")
		w.nft("add rule ip filter FORWARD ip saddr . tcp dport { 10.0.0.0/8 . 1-100 } accept\n")
		w.want("a set of ranges of several fields", "", true)
	})
	inAuditWorld(t, audit.ModeNFTables, func(w *auditWorld) {
		w.service(1, 80)
		w.nft(nftTable(1))
		w.want("rules", "", true)
		w.nft("add table ip kube-proxy { flags dormant; }\n")
		w.want("switched off", "unlinked 1", true)
		w.nft("add table ip kube-proxy { }\n")
		w.want("switched on", "", true)
	})
}

// TestRuleAuditNodePorts is of a Service without endpoints whose node port is served at
// none of the node's addresses: mode iptables refuses it there all the same.
func TestRuleAuditNodePorts(t *testing.T) {
	const kube = `*filter
:KUBE-SERVICES - [0:0]
:KUBE-EXTERNAL-SERVICES - [0:0]
-A INPUT -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES
-A FORWARD -m conntrack --ctstate NEW -j KUBE-SERVICES
-A FORWARD -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES
-A OUTPUT -m conntrack --ctstate NEW -j KUBE-SERVICES
-A KUBE-SERVICES -m tcp -p tcp -d 10.96.0.9 --dport 80 -j REJECT
-A KUBE-EXTERNAL-SERVICES -p tcp -m addrtype --dst-type LOCAL -m tcp --dport 30080 -j REJECT
COMMIT
*nat
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
-A PREROUTING -j KUBE-SERVICES
-A OUTPUT -j KUBE-SERVICES
COMMIT
`
	inAuditWorld(t, audit.ModeIPTables, func(w *auditWorld) {
		config := w.a.config
		w.a.config = func() (*nodeAuditConfig, string) {
			c, lacks := config()
			c.NodePortAddresses, c.Addresses = []string{"203.0.113.0/24"}, []netip.Addr{netip.MustParseAddr("10.0.0.1")}
			return c, lacks
		}
		d := w.a.n.desired
		s := &audit.Service{Name: "a/none", ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.9")}, Ports: []audit.Port{{Protocol: audit.TCP, Port: 80, NodePort: 30080}}}
		d.mu.Lock()
		d.audit.keep(nil, &wish{what: "Service a/none", auditService: s}, false, time.Now())
		d.mu.Unlock()
		w.run(kube, "iptables-nft-restore")
		w.want("as kube-proxy writes them", "", true)
		w.run("*nat\n-A KUBE-NODEPORTS -m tcp -p tcp --dport 30080 -j DNAT --to-destination 10.244.9.9:80\n-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\nCOMMIT\n", "iptables-nft-restore", "--noflush")
		w.want("it leads somewhere", "stale 1", true)
	})
}

// TestRuleAuditOthers is of packets that are for no Service, where there is none: rules
// that change them are nobody's, and wrong.
func TestRuleAuditOthers(t *testing.T) {
	const guard = "KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN"
	inAuditWorld(t, audit.ModeIPTables, func(w *auditWorld) {
		w.run(`*nat
:KUBE-SERVICES - [0:0]
:KUBE-POSTROUTING - [0:0]
-A PREROUTING -j KUBE-SERVICES
-A OUTPUT -j KUBE-SERVICES
-A POSTROUTING -j KUBE-POSTROUTING
-A `+guard+`
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
COMMIT
`, "iptables-nft-restore")
		w.want("as kube-proxy writes them", "", true)
		w.run("*nat\n:PROXY - [0:0]\n-I PREROUTING -p tcp --dport 80 -j PROXY\n-A PROXY -p tcp -j DNAT --to-destination 10.9.9.9:3128\n-A POSTROUTING -j MASQUERADE\nCOMMIT\n", "iptables-nft-restore", "--noflush")
		w.want("a proxy and a masquerade of others", "", true)
		w.run("*nat\n-D PREROUTING -p tcp --dport 80 -j PROXY\n-A KUBE-SERVICES -p tcp -j DNAT --to-destination 10.9.9.9:3128\nCOMMIT\n", "iptables-nft-restore", "--noflush")
		w.want("kube-proxy's chain sends everything away", "stale 1", true)
		w.run("*nat\n-D KUBE-SERVICES -p tcp -j DNAT --to-destination 10.9.9.9:3128\n-D POSTROUTING -j MASQUERADE\n-D "+guard+"\nCOMMIT\n", "iptables-nft-restore", "--noflush")
		w.want("everything is masqueraded", "stale 1", true)
	})
}

// pinged is an API server that answers, or does not.
type pinged struct {
	Watcher
	err   error
	asked int
}

func (p *pinged) Version(context.Context) (version.Info, error) {
	p.asked++
	return version.Info{}, p.err
}

// TestAuditAnswers is of whether what the API wants is heard.
func TestAuditAnswers(t *testing.T) {
	for name, tc := range map[string]struct {
		err  error
		want bool
	}{
		"it answers": {nil, true}, "it refuses": {apierrors.NewForbidden(schema.GroupResource{}, "", nil), true},
		"nobody is there": {errors.New("connection refused"), false}, "it is silent": {context.DeadlineExceeded, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := &pinged{err: tc.err}
			a := &ruleAudit{n: &Node{cfg: NodeConfig{API: p}}}
			for range 3 {
				if got := a.answers(t.Context()); got != tc.want {
					t.Errorf("%t", got)
				}
			}
			a.askedAt = a.askedAt.Add(-answersFor)
			if a.answers(t.Context()); p.asked != 2 {
				t.Errorf("it was asked %d times", p.asked)
			}
		})
	}
	if a := (&ruleAudit{n: &Node{}}); !a.answers(t.Context()) {
		t.Error("without an API server there is nothing to ask")
	}
}

// TestAllowance is what may be spent, and when again.
func TestAllowance(t *testing.T) {
	now := time.Now()
	l := newAllowance(100)
	l.at = now
	l.spend(now, auditBurst)
	if w := l.wait(now); w != 0 {
		t.Errorf("the burst alone makes it wait %s", w)
	}
	l.spend(now, time.Second)
	if w := l.wait(now.Add(10 * time.Second)); w != 90*time.Second {
		t.Errorf("it waits %s", w)
	}
	l.spend(now.Add(200*time.Second), 0)
	if l.left != time.Second {
		t.Errorf("%s are left", l.left)
	}
	l.spend(now.Add(time.Hour), 0)
	if l.left != auditBurst {
		t.Errorf("%s are saved", l.left)
	}
}

// TestRulesTold is what the kernel said, once, and up to a generation.
func TestRulesTold(t *testing.T) {
	told := newRulesTold()
	if c := told.take(t.Context(), rules.IPv4, 7); !c.All {
		t.Error("before anything was heard all may have changed")
	}
	say := func(generation uint32, chain string) {
		told.add(map[rules.Family]*rules.Changes{rules.IPv4: {Chains: map[string]bool{chain: true}, Generation: generation}, rules.IPv6: {Generation: generation}})
	}
	say(8, "a")
	if c := told.take(t.Context(), rules.IPv4, 8); c.All || !c.Chains["a"] {
		t.Errorf("%+v", c)
	}
	go say(9, "b")
	if c := told.take(t.Context(), rules.IPv4, 9); c.All || c.Chains["a"] || !c.Chains["b"] {
		t.Errorf("said a moment later: %+v", c)
	}
	if c := told.take(t.Context(), rules.IPv4, 10); !c.All {
		t.Errorf("nobody says it: %+v", c)
	}
	if c := told.take(t.Context(), rules.IPv6, 9); !c.All {
		t.Error("what was never heard of IPv6 before is lost")
	}
}
