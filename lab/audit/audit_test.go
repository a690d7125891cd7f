package audit

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/kproxy-exporter/kproxy-exporter/collector/audit"
	"github.com/kproxy-exporter/kproxy-exporter/collector/rules"
	"github.com/kproxy-exporter/kproxy-exporter/lab/cluster"
)

const node = "n1"

// look is what is audited: a node of a lab.
type look struct {
	cluster *cluster.Cluster
	ns      *Namespace
	client  kubernetes.Interface
	mode    string
	runs    settings
	// parted is how many looks in part were compared with whole ones, differed of how
	// many something was found.
	parted, differed int
	// zone is the node's, missed how often kube-proxy did not hear of it.
	zone   string
	missed int
}

// state is what the API says now.
func (l *look) state(ctx context.Context) (*audit.State, error) {
	services, err := l.client.CoreV1().Services("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	list, err := l.client.DiscoveryV1().EndpointSlices("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	s := &audit.State{Services: map[string]*audit.Service{}, Slices: map[string][]*audit.Slice{}}
	for i := range services.Items {
		if w := audit.ServiceOf(&services.Items[i]); w != nil {
			s.Services[w.Name] = w
		}
	}
	keep := audit.Keeper{Node: node}
	for i := range list.Items {
		if w, _ := keep.SliceOf(&list.Items[i]); w != nil {
			s.Slices[w.Service] = append(s.Slices[w.Service], w)
		}
	}
	return s, nil
}

func (l *look) config(f rules.Family) *audit.Config {
	c := &audit.Config{
		Mode: l.mode, Family: f, Node: node, Zone: l.zone, ZoneKnown: true,
		Addresses: []netip.Addr{netip.MustParseAddr(cluster.NodeIP(1)), netip.MustParseAddr(cluster.NodeIP6(1))},
		Primary:   []netip.Addr{netip.MustParseAddr(cluster.NodeIP(1))},
		Detector:  audit.Detector{Known: true}, MasqueradeAll: l.runs.masqueradeAll, NodePortAddresses: l.runs.nodePortAddresses,
	}
	for _, p := range l.runs.clusterCIDRs {
		if p.Addr().Is6() == (f == rules.IPv6) {
			c.Detector.CIDR = p
		}
	}
	if l.mode == audit.ModeNFTables && len(c.NodePortAddresses) == 0 {
		c.NodePortAddresses = []string{"primary"}
	}
	return c
}

// audit compares both families in a namespace.
func (l *look) audit(ns *Namespace, s *audit.State) (out audit.Result, err error) {
	for _, f := range families {
		rs, end, err := l.read(ns, f)
		if err != nil {
			return out, err
		}
		one, err := audit.Check(rs, s, l.config(f), nil)
		end()
		if err != nil {
			return out, err
		}
		out.Services += one.Services
		out.Sent += one.Sent
		out.Wanted += one.Wanted
		out.Drifts = append(out.Drifts, one.Drifts...)
	}
	return out, nil
}

// settled waits until the rules are what the API wants.
func (l *look) settled(ctx context.Context, s *audit.State) (r audit.Result, err error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for {
		if r, err = l.audit(l.ns, s); err == nil && len(r.Drifts) == 0 {
			if err = l.begun(); err == nil {
				return r, nil
			}
		}
		select {
		case <-ctx.Done():
			return r, fmt.Errorf("%w: %+v", errors.Join(ctx.Err(), err), r.Drifts)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// begun reports as an error that kube-proxy has not written the tables of both
// families: while the API wants nothing of a family, rules that were never
// written are right.
func (l *look) begun() error {
	if l.mode != audit.ModeNFTables {
		return nil
	}
	return l.ns.Do(func() error {
		r, err := rules.NewReader()
		if err != nil {
			return err
		}
		defer r.Close()
		for _, f := range families {
			if _, _, err := r.Fingerprint(f, nil); err != nil {
				return fmt.Errorf("%v: %w", f, err)
			}
		}
		return nil
	})
}

// addresses are the node's own.
func addresses() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr(cluster.NodeIP(1)), netip.MustParseAddr(cluster.NodeIP6(1))}
}

// families that are looked at.
var families = []rules.Family{rules.IPv4, rules.IPv6}

// programs print and load rules.
var programs = map[string][][2][]string{
	audit.ModeNFTables: {{{"nft", "list", "ruleset"}, {"nft", "-f", "-"}}},
	audit.ModeIPTables: {{{"iptables-save"}, {"iptables-restore"}}, {{"ip6tables-save"}, {"ip6tables-restore"}}},
}

// counters are those outside of the rules; a copy has none.
var counters = regexp.MustCompile(`-m nfacct --nfacct-name +\S+ `)

// texts prints the node's rules, one text for each program.
func (l *look) texts(ctx context.Context) (out []string, err error) {
	for _, p := range programs[l.mode] {
		text, err := l.text(ctx, p[0])
		if err != nil { // the rules may have changed while it read them
			text, err = l.text(ctx, p[0])
		}
		if err != nil {
			return nil, err
		}
		out = append(out, text)
	}
	return out, nil
}

func (l *look) text(ctx context.Context, command []string) (out string, err error) {
	return out, l.ns.Do(func() error {
		var said bytes.Buffer
		c := exec.CommandContext(ctx, command[0], command[1:]...)
		c.Stderr = &said
		b, err := c.Output()
		if err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(command, " "), err, &said)
		}
		out = counters.ReplaceAllString(string(b), "")
		return nil
	})
}

// wire is a copy of the node with these rules.
func (l *look) wire(ctx context.Context, texts []string) (*Wire, error) {
	w, err := NewWire(addresses()...)
	if err != nil {
		return nil, err
	}
	for i, p := range programs[l.mode] {
		if err := w.Load(ctx, p[1], texts[i]); err != nil {
			w.Close()
			return nil, err
		}
	}
	return w, nil
}

// ways are all that may become of every packet, by packet, as the rules say.
func (l *look) ways(ns *Namespace, s *audit.State) (map[rules.Packet][]rules.Outcome, error) {
	var packets []rules.Packet
	for _, f := range families {
		packets = append(packets, audit.Packets(s, l.config(f))...)
	}
	return l.waysOf(ns, packets)
}

// waysOf is ways for some packets.
func (l *look) waysOf(ns *Namespace, packets []rules.Packet) (map[rules.Packet][]rules.Outcome, error) {
	out := map[rules.Packet][]rules.Outcome{}
	for _, f := range families {
		rs, end, err := l.read(ns, f)
		if err != nil {
			return nil, err
		}
		local := addresses()
		m := rules.NewMachine(rs, rules.Host{Local: func(a netip.Addr) bool { return slices.Contains(local, a) || a.IsLoopback() }})
		for _, p := range packets {
			if p.Dst.Addr().Is6() != (f == rules.IPv6) {
				continue
			}
			var ways []rules.Outcome
			if ways, err = m.Run(p); err != nil {
				break
			}
			out[p] = slices.Clone(ways)
		}
		end()
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// read reads the rules of a namespace.
func (l *look) read(ns *Namespace, f rules.Family) (rs *rules.Ruleset, end func(), err error) {
	var r *rules.Reader
	if err := ns.Do(func() (err error) { r, err = rules.NewReader(); return err }); err != nil {
		return nil, nil, err
	}
	if l.mode == audit.ModeIPTables {
		rs, err = r.ReadIPTables(f)
	} else {
		rs, err = r.ReadNFTables(f)
	}
	if err != nil {
		r.Close()
	}
	return rs, r.Close, err
}

// samples are how often a packet is sent, for each of its ways, to see all that
// may become of it: that one is not seen has a chance of e^-20.
const samples = 20

// faithful wants that the kernel does with packets what the rules were read to do.
func faithful(w *Wire, p rules.Packet, ways []rules.Outcome) error {
	local := addresses()
	predicted, sticky := map[Fate]float64{}, false
	for _, o := range ways {
		if o.From.IsValid() {
			continue
		}
		if o.Known != "" { // a packet before may have made it known
			o.Weight = 0
		}
		sticky = sticky || o.Records != ""
		f := Fate{Kind: o.Kind, To: o.To, Masqueraded: o.Masqueraded}
		if f.Kind == rules.Accept {
			if !f.To.IsValid() {
				f.To = p.Dst
			}
			if slices.Contains(local, f.To.Addr()) {
				return nil // nobody listens there: the answer is the host's
			}
		} else {
			f = Fate{Kind: f.Kind}
			if p.FromHost { // the answer does not leave the host
				f.Kind = rules.Drop
			}
		}
		predicted[f] += o.Weight
	}
	if len(predicted) == 0 {
		return errors.New("nothing becomes of it")
	}
	drops := false
	for f := range predicted {
		drops = drops || f.Kind == rules.Drop
	}
	times := 4
	if n := len(predicted); n > 1 && !sticky {
		times = n * samples
	}
	seen, err := w.Send(p, times, !drops)
	switch {
	case err != nil:
		return err
	case stays(ways) && places(seen) > 1:
		return fmt.Errorf("it should stay with one, and is sent to %+v", seen)
	}
	for f, n := range seen {
		if p.FromHost && f.Kind == rules.Reject {
			f.Kind = rules.Drop
		}
		other := f
		other.Masqueraded = !f.Masqueraded
		if _, ok := predicted[other]; ok && seen[other] >= 3*n {
			continue // a port that another connection had already by chance
		}
		if _, ok := predicted[f]; !ok {
			return fmt.Errorf("%d times %+v, predicted %+v", n, f, predicted)
		}
	}
	for f, weight := range predicted {
		if weight > 0.9/float64(len(predicted)) && seen[f] == 0 && !sticky {
			return fmt.Errorf("never %+v of %+v, but %+v", f, predicted, seen)
		}
	}
	return nil
}

// places are to how many packets were sent, whatever became of their source: the kernel
// may choose the port that was there.
func places(seen map[Fate]int) int {
	to := map[Fate]bool{}
	for f := range seen {
		f.Masqueraded = false
		to[f] = true
	}
	return len(to)
}

// stays is whether a source is sent to the same place each time.
func stays(ways []rules.Outcome) bool {
	for _, o := range ways {
		if o.From.IsValid() || o.Known != "" {
			continue
		}
		part := 0.0
		for _, k := range ways {
			if k.Known != "" && k.Known == o.Records && k.To == o.To {
				part += k.Weight
			}
		}
		if part < 0.99 {
			return false
		}
	}
	return true
}

// effect is the first packet of which something else becomes than before.
func (l *look) effect(before, after map[rules.Packet][]rules.Outcome, local map[netip.Addr]bool) string {
	for p, was := range before {
		is := after[p]
		if !l.serves(p.Dst.Addr()) { // it is nobody's whether it is refused there
			was, is = accepted(was), accepted(is)
		}
		if a, b := normal(p, was, local), normal(p, is, local); !slices.Equal(a, b) {
			return fmt.Sprintf("%+v: %v, before %v", p, b, a)
		}
	}
	return ""
}

// serves is whether Services' node ports are at an address, if it is the node's own.
func (l *look) serves(a netip.Addr) bool {
	if !slices.Contains(addresses(), a) {
		return true
	}
	none := true // of the family: then all are
	for _, text := range l.runs.nodePortAddresses {
		p, err := netip.ParsePrefix(text)
		if err == nil && p.Contains(a) {
			return true
		}
		none = none && (err != nil || p.Addr().Is6() != a.Is6())
	}
	return none
}

// accepted takes refusals for what is let through.
func accepted(ways []rules.Outcome) []rules.Outcome {
	ways = slices.Clone(ways)
	for i := range ways {
		if !ways[i].To.IsValid() {
			ways[i].Kind = rules.Accept
		}
	}
	return ways
}

// normal is what matters of the ways of a packet, in order. Endpoints elsewhere
// do not ask themselves by this node.
func normal(p rules.Packet, ways []rules.Outcome, local map[netip.Addr]bool) (out []string) {
	weights := map[string]float64{}
	endpoints := map[netip.AddrPort]bool{}
	always := map[netip.AddrPort]bool{} // from anybody, so from itself too
	for _, o := range ways {
		always[o.To] = always[o.To] || !o.From.IsValid() && o.Masqueraded
	}
	for _, o := range ways {
		if o.From.IsValid() && (o.From != o.To.Addr() || !local[o.From] || slices.Contains(addresses(), o.From) || o.Masqueraded && always[o.To]) {
			continue
		}
		if o.To.IsValid() && slices.Contains(addresses(), o.To.Addr()) {
			o.Masqueraded = false // it does not leave the host
		}
		if !o.From.IsValid() && o.Known == "" {
			endpoints[o.To] = true
		}
		o.Hairpin = o.Hairpin && local[o.To.Addr()]
		w := o.Weight
		o.Weight, o.Opaque = 0, false
		if o.From.IsValid() {
			w = 0
		}
		weights[fmt.Sprintf("%+v", o)] += w
	}
	for text, w := range weights {
		if len(endpoints) < 2 && strings.Contains(text, "Known:") && !strings.Contains(text, "Known: ") {
			continue // it stays with the only one anyway
		}
		out = append(out, fmt.Sprintf("%s %.2f", text, w))
	}
	slices.Sort(out)
	return out
}

// localEndpoints are addresses of endpoints on the node.
func localEndpoints(s *audit.State) map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	for _, list := range s.Slices {
		for _, one := range list {
			for _, e := range one.Endpoints {
				if e.Local {
					out[e.Address] = true
				}
			}
		}
	}
	return out
}

// number is how many of something a variable of the environment asks for.
func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TestRandom makes random clusters, which the real kube-proxy programs, and wants
// that the audit says nothing of them, and of random changes of the kernel's rules
// what the kernel then does with real packets. KPROXY_AUDIT_CLUSTERS says how many,
// KPROXY_AUDIT_SEED makes the same again, KPROXY_LAB_USE takes a lab that is up.
func TestRandom(t *testing.T) {
	for _, mode := range []string{audit.ModeNFTables, audit.ModeIPTables} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			l := lookAt(t, mode)
			seed := uint64(number(t, "KPROXY_AUDIT_SEED", int(time.Now().UnixNano())))
			t.Logf("KPROXY_AUDIT_SEED=%d", seed)
			r := l.random(t, seed)
			clusters := number(t, "KPROXY_AUDIT_CLUSTERS", 12)
			mutations, restarts := 0, 0
			for i := range clusters {
				if i%4 == 3 { // kube-proxy is started anew in the middle, with other settings
					if err := l.reconfigure(t.Context(), r); err != nil {
						t.Fatal(err)
					}
					restarts++
				}
				n, err := l.round(t.Context(), r)
				if mutations += n; err != nil {
					t.Errorf("cluster %d, %+v: %v", i, l.runs, err)
				}
			}
			t.Logf("%d clusters, %d restarts of kube-proxy, after %d of which it did not know its zone, %d changes of the rules; %d looks in part, of which %d found something", clusters, restarts, l.missed, mutations, l.parted, l.differed)
			if 4*l.missed > restarts+4 {
				t.Errorf("kube-proxy did not know its zone %d times", l.missed)
			}
			if err := l.withoutZone(t.Context(), r); err != nil {
				t.Errorf("a node without a zone: %v", err)
			}
			if mode == audit.ModeNFTables && clusters >= 10 && l.differed == 0 {
				t.Error("no look in part found anything")
			}
		})
	}
}

// lookAt is a lab of one node.
func lookAt(t *testing.T, mode string) *look {
	t.Helper()
	c := lab(t, mode)
	m, err := c.Node(node)
	if err != nil {
		t.Fatal(err)
	}
	ns, err := NamespaceOf(m.PID)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ns.Close)
	client, err := c.Client()
	if err != nil {
		t.Fatal(err)
	}
	l := &look{cluster: c, ns: ns, client: client, mode: mode, runs: stock}
	if err := l.isIn(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	_, err = client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "random"}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	return l
}

func lab(t *testing.T, mode string) *cluster.Cluster {
	t.Helper()
	if dir := os.Getenv("KPROXY_LAB_USE"); dir != "" {
		c, err := cluster.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		if c.Mode != mode {
			t.Skipf("the lab in use is in mode %s", c.Mode)
		}
		return c
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir, bin := filepath.Join(root, ".lab-audit-"+mode), filepath.Join(root, "lab/bin")
	down := func() {
		if err := cluster.Down(dir); err != nil {
			t.Errorf("lab down: %v", err)
		}
	}
	down()
	t.Cleanup(down)
	c, err := cluster.Up(t.Context(), cluster.Config{Dir: dir, Bin: bin, Nodes: 1, Mode: mode}, cluster.NewProgress(io.Discard, filepath.Join(bin, "timings.json")))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (l *look) random(t *testing.T, seed uint64) *Random {
	t.Helper()
	return &Random{
		Rand: rand.New(rand.NewPCG(seed, 0)), Client: l.client, Namespace: "random", Nodes: []string{node, "n2"}, Zones: []string{"a", "b"}, NodeIP: cluster.NodeIP(1),
		round: int(time.Now().Unix() % 1_000_000), // names of an earlier run's may still be going
	}
}

// round is one random cluster and some changes of its rules.
func (l *look) round(ctx context.Context, r *Random) (mutations int, err error) {
	if err := r.Cluster(ctx, 1+r.IntN(8)); err != nil {
		return 0, err
	}
	s, err := l.state(ctx)
	if err != nil {
		return 0, err
	}
	res, err := l.settled(ctx, s)
	if err != nil && zoneless(&res) { // it missed its zone when it began: then another does not
		l.missed++
		if err := l.reconfigure(ctx, r); err != nil {
			return 0, err
		}
		_, err = l.settled(ctx, s)
	}
	if err != nil {
		return 0, fmt.Errorf("what kube-proxy wrote: %w", err)
	}
	return l.mutations(ctx, r, s)
}

// mutations changes copies of the rules.
func (l *look) mutations(ctx context.Context, r *Random, s *audit.State) (done int, err error) {
	texts, err := l.texts(ctx)
	if err != nil {
		return 0, err
	}
	w, err := l.wire(ctx, texts)
	if err != nil {
		return 0, err
	}
	defer w.Close()
	before, err := l.ways(w.Namespace, s)
	if err != nil {
		return 0, err
	}
	if res, err := l.audit(w.Namespace, s); err != nil || len(res.Drifts) > 0 {
		return 0, fmt.Errorf("a copy of the rules: %w, %+v", err, res.Drifts)
	}
	if err := allFaithful(w, before); err != nil {
		return 0, err
	}
	if l.mode == audit.ModeIPTables {
		if err := l.legacy(ctx, texts, s); err != nil {
			return 0, fmt.Errorf("the same rules by the old iptables: %w", err)
		}
	}
	if l.mode == audit.ModeNFTables {
		if err := l.parts(ctx, r, w, s); err != nil {
			return 0, err
		}
	}
	for range 5 {
		changed := slices.Clone(texts)
		i := r.IntN(len(texts))
		var what string
		var base bool
		if changed[i], what, base = r.Mutate(texts[i]); what == "" {
			continue
		}
		is, err := l.mutation(ctx, changed, base, s, before)
		if err != nil {
			return done, fmt.Errorf("%s: %w", what, err)
		}
		if is {
			done++
		}
	}
	return done, nil
}

// legacy wants that the old iptables' copy of the rules is right too.
func (l *look) legacy(ctx context.Context, texts []string, s *audit.State) error {
	w, err := NewWire(addresses()...)
	if err != nil {
		return err
	}
	defer w.Close()
	for i, program := range [][]string{{"iptables-legacy-restore"}, {"ip6tables-legacy-restore"}} {
		// What other programs wrote for nf_tables alone is not kube-proxy's.
		if err := w.Load(ctx, program, texts[i]); err != nil {
			return err
		}
		var rs *rules.Ruleset
		if err := w.Do(func() (err error) { rs, err = rules.ReadLegacy(families[i]); return err }); err != nil {
			return err
		}
		r, err := audit.Check(rs, s, l.config(families[i]), nil)
		if err != nil || len(r.Drifts) > 0 {
			return fmt.Errorf("%w, %+v", err, r.Drifts)
		}
		local := addresses()
		m := rules.NewMachine(rs, rules.Host{Local: func(a netip.Addr) bool { return slices.Contains(local, a) || a.IsLoopback() }})
		ways := map[rules.Packet][]rules.Outcome{}
		for _, p := range audit.Packets(s, l.config(families[i])) {
			out, err := m.Run(p)
			if err != nil {
				return fmt.Errorf("%+v: %w", p, err)
			}
			ways[p] = slices.Clone(out)
		}
		if err := allFaithful(w, ways); err != nil {
			return err
		}
	}
	return nil
}

func allFaithful(w *Wire, ways map[rules.Packet][]rules.Outcome) error {
	for p, ways := range ways {
		err := faithful(w, p, ways)
		if err != nil { // packets may be lost on a busy machine
			err = faithful(w, p, ways)
		}
		if err != nil {
			time.Sleep(time.Second) // to tell what passes from what stays
			return fmt.Errorf("the kernel with %+v: %w; a second later: %w\n%s", p, err, cmp.Or(faithful(w, p, ways), errors.New("as predicted")), w.describe())
		}
	}
	return nil
}

// elsewhere is the effect on packets to addressees that no Service has, of which the
// audit says something.
func (l *look) elsewhere(w *Wire, before map[rules.Packet][]rules.Outcome, drifts []audit.Drift, local map[netip.Addr]bool) (string, error) {
	var packets []rules.Packet
	for _, d := range drifts {
		to, ok := netip.AddrFromSlice([]byte(d.Of.Dst))
		for p := range before {
			if ok && p.Dst.Addr().Is6() == to.Is6() {
				p.Proto, p.Dst = d.Of.Proto, netip.AddrPortFrom(to, d.Of.Port)
				packets = append(packets, p)
			}
		}
	}
	was, err := l.waysOf(l.ns, packets)
	if err != nil {
		return "", err
	}
	is, err := l.waysOf(w.Namespace, packets)
	if err != nil {
		return "", err
	}
	return l.effect(was, is, local), allFaithful(w, is)
}

// mutation wants that the audit finds a change if it has an effect, and only then, and
// calls it what it is; base says that it is in a chain that packets meet first.
func (l *look) mutation(ctx context.Context, texts []string, base bool, s *audit.State, before map[rules.Packet][]rules.Outcome) (is bool, err error) {
	w, err := l.wire(ctx, texts)
	if err != nil {
		return false, nil // the program does not take it
	}
	defer w.Close()
	after, err := l.ways(w.Namespace, s)
	if err != nil {
		return false, err
	}
	if err := allFaithful(w, after); err != nil {
		return true, err
	}
	res, err := l.audit(w.Namespace, s)
	if err != nil {
		return true, err
	}
	e := l.effect(before, after, localEndpoints(s))
	if e == "" {
		if e, err = l.elsewhere(w, before, res.Drifts, localEndpoints(s)); err != nil {
			return true, err
		}
	}
	switch {
	case e == "" && slices.ContainsFunc(res.Drifts, func(d audit.Drift) bool { return !strings.Contains(d.What, "of which its part is") }):
		// Of parts of the traffic the audit knows more digits than are compared here.
		return true, fmt.Errorf("it has no effect, but: %+v", res.Drifts)
	case e != "" && len(res.Drifts) == 0:
		return true, fmt.Errorf("nothing is said of %s", e)
	}
	return true, l.kinds(before, after, res.Drifts, base)
}
