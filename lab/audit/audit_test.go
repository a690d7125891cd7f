package audit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/kproxy-exporter/kproxy-exporter/collector/audit"
	"github.com/kproxy-exporter/kproxy-exporter/collector/rules"
	"github.com/kproxy-exporter/kproxy-exporter/lab/cluster"
)

const node = "n1"

// look is what is audited: a node of a lab.
type look struct {
	ns     *Namespace
	client kubernetes.Interface
	mode   string
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
		Mode: l.mode, Family: f, Node: node, Zone: "a", ZoneKnown: true,
		Addresses: []netip.Addr{netip.MustParseAddr(cluster.NodeIP(1)), netip.MustParseAddr(cluster.NodeIP6(1))},
		Primary:   []netip.Addr{netip.MustParseAddr(cluster.NodeIP(1))},
		Detector:  audit.Detector{Known: true},
	}
	if f == rules.IPv4 {
		c.Detector.CIDR = netip.MustParsePrefix(cluster.PodCIDR)
	}
	if l.mode == audit.ModeNFTables {
		c.NodePortAddresses = []string{"primary"}
	}
	return c
}

// audit compares both families in a namespace.
func (l *look) audit(ns *Namespace, s *audit.State) (out audit.Result, err error) {
	for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
		var r *rules.Reader
		if err := ns.Do(func() (err error) { r, err = rules.NewReader(); return err }); err != nil {
			return out, err
		}
		read := r.ReadNFTables
		if l.mode == audit.ModeIPTables {
			read = r.ReadIPTables
		}
		rs, err := read(f)
		if err == nil {
			var one audit.Result
			one, err = audit.Check(rs, s, l.config(f), nil)
			out.Services += one.Services
			out.Sent += one.Sent
			out.Wanted += one.Wanted
			out.Drifts = append(out.Drifts, one.Drifts...)
		}
		r.Close()
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// settled waits until the rules are what the API wants.
func (l *look) settled(ctx context.Context, s *audit.State) (r audit.Result, err error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for {
		if r, err = l.audit(l.ns, s); err == nil && len(r.Drifts) == 0 {
			return r, nil
		}
		select {
		case <-ctx.Done():
			return r, fmt.Errorf("%w: %v: %+v", ctx.Err(), err, r.Drifts)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func TestDev(t *testing.T) {
	c, err := cluster.Open(os.Getenv("KPROXY_LAB_USE"))
	if err != nil {
		t.Skip(err)
	}
	m, err := c.Node(node)
	if err != nil {
		t.Fatal(err)
	}
	ns, err := NamespaceOf(m.PID)
	if err != nil {
		t.Fatal(err)
	}
	client, err := c.Client()
	if err != nil {
		t.Fatal(err)
	}
	l := &look{ns, client, c.Mode}
	_, _ = client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "random"}}, metav1.CreateOptions{})
	seed := uint64(time.Now().UnixNano())
	fmt.Sscan(os.Getenv("SEED"), &seed)
	t.Log("seed", seed)
	r := &Random{Rand: rand.New(rand.NewPCG(seed, 1)), Client: client, Namespace: "random", Nodes: []string{"n1", "n2"}, Zones: []string{"a", "b"}, NodeIP: cluster.NodeIP(1), round: int(time.Now().Unix() % 100000)}
	n := 5
	fmt.Sscan(os.Getenv("N"), &n)
	for i := range n {
		if err := r.Cluster(t.Context(), 1+r.IntN(8)); err != nil {
			t.Fatal(err)
		}
		s, err := l.state(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		res, err := l.settled(t.Context(), s)
		if err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		if i%20 == 0 {
			t.Logf("%d: %d Services, %d of %d in %s", i, res.Services, res.Sent, res.Wanted, time.Since(began))
		}
	}
}
