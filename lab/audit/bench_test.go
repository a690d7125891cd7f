package audit

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kproxy-exporter/kproxy-exporter/collector/audit"
	"github.com/kproxy-exporter/kproxy-exporter/collector/rules"
)

// large is a cluster of so many Services with ten endpoints each, and the rules
// that kube-proxy 1.37 writes for it; the audit finds nothing in them.
func large(mode string, services int) (*audit.State, string) {
	s := &audit.State{Services: map[string]*audit.Service{}, Slices: map[string][]*audit.Slice{}}
	var chains, first, second, elements, ips strings.Builder
	for i := range services {
		w := &audit.Service{Name: fmt.Sprintf("default/s%d", i), ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})}, Ports: []audit.Port{{Name: "http", Protocol: audit.TCP, Port: 80}}}
		e := &audit.Slice{Service: w.Name, Ports: []audit.Port{{Name: "http", Protocol: audit.TCP, Port: 8080}}}
		for j := range 10 {
			n := i*10 + j
			e.Endpoints = append(e.Endpoints, audit.Endpoint{Address: netip.AddrFrom4([4]byte{10, 128 + byte(n>>16), byte(n >> 8), byte(n)}), Ready: true, Serving: true})
		}
		s.Services[w.Name], s.Slices[w.Name] = w, []*audit.Slice{e}
		if mode == audit.ModeNFTables {
			chain := w.Name + "/tcp/http"
			chain = "service-" + hashed(chain)[:8] + "-" + chain
			fmt.Fprintf(&chains, "add chain ip kube-proxy %s\n", chain)
			var to []string
			for j, p := range e.Endpoints {
				to = append(to, fmt.Sprintf("%d : %s . 8080", j, p.Address))
			}
			fmt.Fprintf(&first, "add rule ip kube-proxy %s meta l4proto tcp dnat ip addr . port to numgen random mod 10 map { %s }\n", chain, strings.Join(to, ", "))
			fmt.Fprintf(&elements, "add element ip kube-proxy service-ips { %s . tcp . 80 : goto %s }\n", w.ClusterIPs[0], chain)
			fmt.Fprintf(&ips, "add element ip kube-proxy cluster-ips { %s }\n", w.ClusterIPs[0])
			continue
		}
		svc := "KUBE-SVC-" + hashed(w.Name+":http"+"tcp")
		fmt.Fprintf(&chains, ":%s - [0:0]\n", svc)
		fmt.Fprintf(&first, "-A KUBE-SERVICES -m comment --comment \"%s:http cluster IP\" -m tcp -p tcp -d %s --dport 80 -j %s\n", w.Name, w.ClusterIPs[0], svc)
		fmt.Fprintf(&second, "-A %s -m comment --comment \"%s:http cluster IP\" -m tcp -p tcp -d %s --dport 80 ! -s 10.244.0.0/16 -j KUBE-MARK-MASQ\n", svc, w.Name, w.ClusterIPs[0])
		for j, p := range e.Endpoints {
			sep, odds := "KUBE-SEP-"+hashed(fmt.Sprintf("%s:httptcp%s:8080", w.Name, p.Address)), ""
			if j < 9 {
				odds = fmt.Sprintf("-m statistic --mode random --probability %0.10f ", 1/float64(10-j))
			}
			fmt.Fprintf(&chains, ":%s - [0:0]\n", sep)
			fmt.Fprintf(&second, "-A %s %s-j %s\n-A %s -s %s -j KUBE-MARK-MASQ\n-A %s -m tcp -p tcp -j DNAT --to-destination %s:8080\n", svc, odds, sep, sep, p.Address, sep, p.Address)
		}
	}
	if mode == audit.ModeNFTables {
		return s, "add table ip kube-proxy\nadd map ip kube-proxy service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }\nadd set ip kube-proxy cluster-ips { type ipv4_addr; }\n" +
			"add chain ip kube-proxy services\nadd chain ip kube-proxy masquerading\nadd chain ip kube-proxy check\n" + chains.String() + first.String() + elements.String() + ips.String() +
			`add rule ip kube-proxy services ip daddr @cluster-ips ip saddr != 10.244.0.0/16 mark set mark or 0x4000
add rule ip kube-proxy services ip daddr . meta l4proto . th dport vmap @service-ips
add rule ip kube-proxy masquerading mark and 0x4000 != 0 mark set mark xor 0x4000 masquerade fully-random
add rule ip kube-proxy check ip daddr @cluster-ips reject
add chain ip kube-proxy nat-prerouting { type nat hook prerouting priority dstnat; }
add chain ip kube-proxy nat-output { type nat hook output priority -100; }
add chain ip kube-proxy nat-postrouting { type nat hook postrouting priority srcnat; }
add chain ip kube-proxy filter-forward { type filter hook forward priority filter; }
add chain ip kube-proxy filter-output { type filter hook output priority filter; }
add rule ip kube-proxy nat-prerouting jump services
add rule ip kube-proxy nat-output jump services
add rule ip kube-proxy nat-postrouting jump masquerading
add rule ip kube-proxy filter-forward jump check
add rule ip kube-proxy filter-output jump check
`
	}
	return s, "*filter\n-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\nCOMMIT\n*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n" + chains.String() + `-A PREROUTING -j KUBE-SERVICES
-A OUTPUT -j KUBE-SERVICES
-A POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A POSTROUTING -j MARK --xor-mark 0x4000
-A POSTROUTING -j MASQUERADE --random-fully
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
` + first.String() + second.String() + "COMMIT\n"
}

// TestLarge is that what is measured is right: the audit finds nothing.
func TestLarge(t *testing.T) {
	for _, mode := range []string{audit.ModeNFTables, audit.ModeIPTables} {
		state, text := large(mode, 20)
		ns, err := NewNamespace()
		if err != nil {
			t.Fatal(err)
		}
		defer ns.Close()
		w := &Wire{Namespace: ns}
		if err := w.Load(t.Context(), programs[mode][0][1], text); err != nil {
			t.Fatal(err)
		}
		l := &look{ns: ns, mode: mode, runs: stock, zone: "a"}
		rs, end, err := l.read(ns, rules.IPv4)
		if err != nil {
			t.Fatal(err)
		}
		r, err := audit.Check(rs, state, l.config(rules.IPv4), nil)
		end()
		if err != nil || len(r.Drifts) > 0 || r.Services != 20 {
			t.Errorf("%s: %d Services compared, %v: %+v", mode, r.Services, err, r.Drifts[:min(1, len(r.Drifts))])
		}
	}
}

// hashed is how kube-proxy names chains.
func hashed(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base32.StdEncoding.EncodeToString(sum[:])[:16]
}

// peers print the same rules.
var peers = map[string][]string{audit.ModeNFTables: {"nft", "list", "table", "ip", "kube-proxy"}, audit.ModeIPTables: {"iptables-save", "-t", "nat"}}

// BenchmarkAudit compares a whole audit with a bare netlink dump of the same rules
// and with the program that prints them, in turn, and asks for nothing but whether
// anything changed. KPROXY_AUDIT_SERVICES has other numbers of Services.
func BenchmarkAudit(b *testing.B) {
	if at := os.Getenv("KPROXY_AUDIT_ONCE"); at != "" {
		once(b, at)
		return
	}
	for _, mode := range []string{audit.ModeNFTables, audit.ModeIPTables} {
		for _, n := range strings.Fields(firstOf(os.Getenv("KPROXY_AUDIT_SERVICES"), "100 1000 10000")) {
			services, err := strconv.Atoi(n)
			if err != nil {
				b.Fatal(err)
			}
			b.Run(fmt.Sprintf("%s/%d", mode, services), func(b *testing.B) { compare(b, mode, services) })
		}
	}
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func compare(b *testing.B, mode string, services int) {
	state, text := large(mode, services)
	ns, err := NewNamespace()
	if err != nil {
		b.Fatal(err)
	}
	defer ns.Close()
	w := &Wire{Namespace: ns}
	if err := w.Load(b.Context(), programs[mode][0][1], text); err != nil {
		b.Fatal(err)
	}
	l := &look{ns: ns, mode: mode, runs: stock, zone: "a"}
	var ours, next, again, bare, theirs, idle []float64
	var peak int64
	whole := func() float64 {
		began := spent(unix.RUSAGE_SELF)
		rs, end, err := l.read(ns, rules.IPv4)
		if err != nil {
			b.Fatal(err)
		}
		c := l.config(rules.IPv4)
		c.NodePortAddresses = nil
		result, err := audit.Check(rs, state, c, nil)
		end()
		if err != nil || len(result.Drifts) > 0 || result.Services != services {
			b.Fatalf("%d of %d Services compared, %d differ, %v: %+v", result.Services, services, len(result.Drifts), err, result.Drifts[:min(1, len(result.Drifts))])
		}
		return spent(unix.RUSAGE_SELF) - began
	}
	some := func() float64 { // what the node role looks at when the kernel says that one Service's rules changed
		claims := audit.NewClaims(state.Services, rules.IPv4)
		rs, end, err := l.read(ns, rules.IPv4)
		if err != nil {
			b.Fatal(err)
		}
		end()
		frame := rs.Frame()
		c := l.config(rules.IPv4)
		c.NodePortAddresses = nil
		began := spent(unix.RUSAGE_SELF)
		const times = 20
		for i := range times {
			var r *rules.Reader
			if err := ns.Do(func() (err error) { r, err = rules.NewReader(); return err }); err != nil {
				b.Fatal(err)
			}
			result, err := audit.Check(r.ReadPart(rules.IPv4, frame), state, c, &audit.Scope{Services: map[string]bool{fmt.Sprintf("default/s%d", i): true}, Claims: claims})
			r.Close()
			if err != nil || len(result.Drifts) > 0 || result.Services != 1 {
				b.Fatalf("%v %+v", err, result)
			}
		}
		return (spent(unix.RUSAGE_SELF) - began) / times
	}
	var print *rules.Fingerprint
	known := func() float64 { // where nobody knows what changed, and nothing did
		began := spent(unix.RUSAGE_SELF)
		var r *rules.Reader
		if err := ns.Do(func() (err error) { r, err = rules.NewReader(); return err }); err != nil {
			b.Fatal(err)
		}
		defer r.Close()
		now, changes, err := r.Fingerprint(rules.IPv4, print)
		if err != nil || print != nil && !changes.Empty() {
			b.Fatalf("%v %+v", err, changes)
		}
		print = now
		return spent(unix.RUSAGE_SELF) - began
	}
	for b.Loop() {
		ours = append(ours, whole())
		next = append(next, some())
		if mode == audit.ModeNFTables {
			known() // the first is another's
			again = append(again, known())
		}
		if err := ns.Do(func() error {
			began := spent(unix.RUSAGE_SELF)
			if err := dumpAll(mode); err != nil {
				return err
			}
			bare = append(bare, spent(unix.RUSAGE_SELF)-began)
			began = spent(unix.RUSAGE_CHILDREN)
			c := exec.Command(peers[mode][0], peers[mode][1:]...)
			if err := c.Run(); err != nil {
				return err
			}
			theirs = append(theirs, spent(unix.RUSAGE_CHILDREN)-began)
			peak = max(peak, c.ProcessState.SysUsage().(*syscall.Rusage).Maxrss<<10)
			asked := time.Now()
			if _, err := rules.Generation(); err != nil {
				return err
			}
			idle = append(idle, time.Since(asked).Seconds())
			return nil
		}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(ours), "cpu-s/audit")
	b.ReportMetric(1000*median(next), "cpu-ms/changed-service")
	b.ReportMetric(median(bare), "cpu-s/bare-dump")
	b.ReportMetric(median(theirs), "cpu-s/"+peers[mode][0])
	b.ReportMetric(median(ours)/median(bare), "x-bare-dump")
	b.ReportMetric(median(theirs)/median(ours), "times-less-than-"+peers[mode][0])
	b.ReportMetric(median(theirs)/median(next), "times-less-than-"+peers[mode][0]+"-where-one-changed")
	if again != nil {
		b.ReportMetric(median(again), "cpu-s/audit-again")
		b.ReportMetric(median(theirs)/median(again), "times-less-than-"+peers[mode][0]+"-again")
	}
	b.ReportMetric(1000*median(idle), "ms/unchanged")
	b.ReportMetric(float64(peak)/1e6, "MB-"+peers[mode][0])
	b.ReportMetric(alone(b, ns, mode, services), "MB-audit")
}

// spent is the CPU time of this process, or of those that it started and that have
// ended, in seconds: what else the machine does is not in it.
func spent(whose int) float64 {
	var u unix.Rusage
	if unix.Getrusage(whose, &u) != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

func median(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}

// alone is how much memory a process takes that has the state and makes an audit,
// beyond that of one that has only the state.
func alone(b *testing.B, ns *Namespace, mode string, services int) (mb float64) {
	err := ns.Do(func() error {
		c := exec.Command("/proc/self/exe", "-test.run", "^$", "-test.bench", "BenchmarkAudit", "-test.benchtime", "1x")
		c.Env = append(os.Environ(), fmt.Sprintf("KPROXY_AUDIT_ONCE=%s %d", mode, services), "GOGC=50")
		out, err := c.CombinedOutput()
		for line := range strings.Lines(string(out)) {
			if _, text, ok := strings.Cut(line, "MB-more "); ok {
				mb, err = strconv.ParseFloat(strings.TrimSpace(text), 64)
			}
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return mb
}

// once is what alone runs.
func once(b *testing.B, what string) {
	var mode string
	var services int
	if _, err := fmt.Sscan(what, &mode, &services); err != nil {
		b.Fatal(err)
	}
	state, _ := large(mode, services)
	before := resident(b, "VmRSS")
	r, err := rules.NewReader()
	if err != nil {
		b.Fatal(err)
	}
	var rs *rules.Ruleset
	if mode == audit.ModeIPTables {
		rs, err = r.ReadIPTables(rules.IPv4)
	} else {
		rs, err = r.ReadNFTables(rules.IPv4)
	}
	if err != nil {
		b.Fatal(err)
	}
	l := &look{mode: mode, runs: stock, zone: "a"}
	c := l.config(rules.IPv4)
	c.NodePortAddresses = nil
	if _, err := audit.Check(rs, state, c, nil); err != nil {
		b.Fatal(err)
	}
	fmt.Printf("MB-more %.1f\n", resident(b, "VmHWM")-before)
}

// resident is a line of /proc/self/status in MB.
func resident(b *testing.B, line string) float64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), line+":")
	kb, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		b.Fatal(err)
	}
	return float64(kb) / 1000
}

// dumpAll asks for all that an audit needs and throws it away: the least that it
// can take.
func dumpAll(mode string) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if mode == audit.ModeNFTables {
		if _, err := dump(fd, unix.NFT_MSG_GETCHAIN, 0, "kube-proxy"); err != nil {
			return err
		}
		if _, err := dump(fd, unix.NFT_MSG_GETRULE, 0, "kube-proxy"); err != nil {
			return err
		}
		sets, err := dump(fd, unix.NFT_MSG_GETSET, unix.NFTA_SET_NAME, "kube-proxy")
		for _, s := range sets {
			if err == nil {
				_, err = dump(fd, unix.NFT_MSG_GETSETELEM, 0, "kube-proxy", s)
			}
		}
		return err
	}
	chains, err := dump(fd, unix.NFT_MSG_GETCHAIN, unix.NFTA_CHAIN_NAME, "nat")
	for _, c := range chains {
		if err == nil {
			_, err = dump(fd, unix.NFT_MSG_GETRULE, 0, "nat", c)
		}
	}
	return err
}

var buffer = make([]byte, 1<<17)

// dump makes one; keep is the attribute whose texts are wanted.
func dump(fd int, message uint16, keep uint16, what ...string) (kept []string, err error) {
	host := binary.NativeEndian
	b := append(make([]byte, 16), unix.NFPROTO_IPV4, 0, 0, 0)
	for i, text := range what {
		b = host.AppendUint16(b, uint16(4+len(text)+1))
		b = host.AppendUint16(b, uint16(i+1))
		b = append(append(b, text...), 0)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
	}
	host.PutUint32(b, uint32(len(b)))
	host.PutUint16(b[4:], unix.NFNL_SUBSYS_NFTABLES<<8|message)
	host.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	if err := unix.Sendto(fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	for {
		n, _, err := unix.Recvfrom(fd, buffer, 0)
		if err != nil {
			return nil, err
		}
		for m := buffer[:n]; len(m) >= 16; {
			size, kind := int(host.Uint32(m)), host.Uint16(m[4:])
			switch kind {
			case unix.NLMSG_DONE:
				return kept, nil
			case unix.NLMSG_ERROR:
				return nil, fmt.Errorf("dump %d of %q: %w", message, what, unix.Errno(-int32(host.Uint32(m[16:]))))
			}
			for a := m[20:size]; keep != 0 && len(a) >= 4; {
				n := int(host.Uint16(a))
				if host.Uint16(a[2:])&0x3fff == keep {
					kept = append(kept, strings.TrimRight(string(a[4:n]), "\x00"))
				}
				a = a[min((n+3)&^3, len(a)):]
			}
			m = m[min((size+3)&^3, len(m)):]
		}
	}
}
