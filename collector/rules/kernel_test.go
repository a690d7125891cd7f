package rules

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kproxy-exporter/kproxy-exporter/collector/rules/rulestest"
)

var update = flag.Bool("update", false, "write what the kernel answers into testdata")

const nftText = `add table ip kube-proxy
add set ip kube-proxy aff { type ipv4_addr; flags dynamic,timeout; timeout 3h; }
add chain ip kube-proxy service-X-a/b/tcp/
add chain ip kube-proxy endpoint-Y-a/b/tcp/__10.0.0.3/80
add chain ip kube-proxy services
add chain ip kube-proxy firewall
add map ip kube-proxy service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
add element ip kube-proxy service-ips { 10.96.0.1 . tcp . 443 : goto service-X-a/b/tcp/ }
add element ip kube-proxy service-ips { 10.96.0.3 . tcp . 80 : goto endpoint-Y-a/b/tcp/__10.0.0.3/80 }
add rule ip kube-proxy service-X-a/b/tcp/ meta l4proto tcp dnat ip addr . port to numgen random mod 2 map { 0 : 10.0.0.1 . 6443, 1 : 10.0.0.2 . 6443 }
add rule ip kube-proxy endpoint-Y-a/b/tcp/__10.0.0.3/80 update @aff { ip saddr }
add rule ip kube-proxy endpoint-Y-a/b/tcp/__10.0.0.3/80 meta l4proto tcp dnat to 10.0.0.3:80
add rule ip kube-proxy firewall ip saddr != { 10.0.0.0/8, 172.16.0.9 } drop
add rule ip kube-proxy services iifname "cali*" return
add rule ip kube-proxy services ip saddr != 10.244.0.0/16 mark set mark or 0x4000
add rule ip kube-proxy services ip daddr . meta l4proto . th dport vmap @service-ips
add chain ip kube-proxy nat-prerouting { type nat hook prerouting priority dstnat; }
add rule ip kube-proxy nat-prerouting jump services
add chain ip kube-proxy filter-prerouting { type filter hook prerouting priority -110; }
add rule ip kube-proxy filter-prerouting ip daddr 10.96.0.9 ct state new jump firewall
add chain ip kube-proxy nat-postrouting { type nat hook postrouting priority srcnat; }
add rule ip kube-proxy nat-postrouting mark and 0x4000 != 0 mark set mark xor 0x4000 masquerade fully-random
`

const iptablesText = `*nat
:KUBE-SERVICES - [0:0]
:KUBE-SVC-A - [0:0]
:KUBE-SEP-A - [0:0]
:KUBE-SEP-B - [0:0]
:KUBE-MARK-MASQ - [0:0]
-A PREROUTING -m comment --comment "x" -j KUBE-SERVICES
-A POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A POSTROUTING -j MARK --xor-mark 0x4000
-A POSTROUTING -j MASQUERADE --random-fully
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A KUBE-SERVICES -m comment --comment "x y" -m tcp -p tcp -d 10.96.0.1 --dport 443 -j KUBE-SVC-A
-A KUBE-SERVICES -m sctp -p sctp -d 10.96.0.2 --dport 3000 -j KUBE-SEP-A
-A KUBE-SERVICES -m addrtype --dst-type LOCAL ! -d 127.0.0.0/8 -j KUBE-SEP-B
-A KUBE-SVC-A ! -s 10.244.0.0/16 -j KUBE-MARK-MASQ
-A KUBE-SVC-A -m recent --name KUBE-SEP-A --rcheck --seconds 100 --reap -j KUBE-SEP-A
-A KUBE-SVC-A -m statistic --mode random --probability 0.25 -j KUBE-SEP-A
-A KUBE-SVC-A -j KUBE-SEP-B
-A KUBE-SEP-A -s 10.0.0.1 -j KUBE-MARK-MASQ
-A KUBE-SEP-A -m recent --name KUBE-SEP-A --set -p tcp -m tcp -j DNAT --to-destination 10.0.0.1:6443
-A KUBE-SEP-B -p tcp -m tcp -j DNAT --to-destination 10.0.0.2:6443
COMMIT
*filter
-A FORWARD -m conntrack --ctstate NEW -p tcp -d 10.96.0.7 -j REJECT
-A FORWARD -m conntrack --ctstate INVALID -j DROP
COMMIT
`

// ways renders outcomes for comparison.
func ways(t *testing.T, m *Machine, p Packet) []string {
	t.Helper()
	out, err := m.Run(p)
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, o := range out {
		s := fmt.Sprintf("%.2f kind %d", o.Weight, o.Kind)
		if o.To.IsValid() {
			s += " to " + o.To.String()
		}
		if o.Masqueraded {
			s += " masqueraded"
		}
		if o.From.IsValid() {
			s += " from " + o.From.String()
		}
		if o.Known != "" {
			s += fmt.Sprintf(" known %s %d", o.Known, o.KnownFor)
		}
		if o.Records != "" {
			s += " records " + o.Records
		}
		texts = append(texts, s)
	}
	slices.Sort(texts)
	return texts
}

func to(text string) netip.AddrPort { return netip.MustParseAddrPort(text) }

// TestKernel reads rules that programs wrote into the real kernel, and runs
// packets over them. What the kernel does with packets is compared in lab/audit.
func TestKernel(t *testing.T) {
	pod, outside := netip.MustParseAddr("10.244.3.4"), netip.MustParseAddr("192.0.2.1")
	type row = struct {
		name, text string
		program    []string
		read       func(*Reader) (*Ruleset, error)
		packet     Packet
		want       []string
	}
	table := []row{
		{"nft", nftText, []string{"nft", "-f", "-"}, readNFT, Packet{Proto: 6, Src: pod, Dst: to("10.96.0.1:443")}, []string{"0.50 kind 1 to 10.0.0.1:6443", "0.50 kind 1 to 10.0.0.2:6443"}},
		{"nft", nftText, []string{"nft", "-f", "-"}, readNFT, Packet{Proto: 6, Src: outside, Dst: to("10.96.0.1:443")}, []string{"0.50 kind 1 to 10.0.0.1:6443 masqueraded", "0.50 kind 1 to 10.0.0.2:6443 masqueraded"}},
		{"nft", nftText, []string{"nft", "-f", "-"}, readNFT, Packet{Proto: 17, Src: pod, Dst: to("10.96.0.1:443")}, []string{"1.00 kind 1"}},
		{"nft", nftText, []string{"nft", "-f", "-"}, readNFT, Packet{Proto: 6, Src: pod, Iif: "cali1", Dst: to("10.96.0.1:443")}, []string{"1.00 kind 1"}},
		{"nft", nftText, []string{"nft", "-f", "-"}, readNFT, Packet{Proto: 6, Src: pod, Dst: to("10.96.0.3:80")}, []string{"1.00 kind 1 to 10.0.0.3:80 records aff"}},
		{"nft", nftText, []string{"nft", "-f", "-"}, readNFT, Packet{Proto: 6, Src: outside, Dst: to("10.96.0.9:80")}, []string{"1.00 kind 2"}},
		{"nft", nftText, []string{"nft", "-f", "-"}, readNFT, Packet{Proto: 6, Src: netip.MustParseAddr("172.16.0.9"), Dst: to("10.96.0.9:80")}, []string{"1.00 kind 1 masqueraded"}},
		{"nft", nftText, []string{"nft", "-f", "-"}, readNFT, Packet{Proto: 6, Src: outside, Dst: to("10.96.0.9:80"), State: StateEstablished}, []string{"1.00 kind 1 masqueraded"}},
		{"iptables", iptablesText, []string{"iptables-nft-restore"}, readIPT, Packet{Proto: 6, Src: pod, Dst: to("10.96.0.1:443")}, []string{
			"0.25 kind 1 to 10.0.0.1:6443 records KUBE-SEP-A", "0.75 kind 1 to 10.0.0.2:6443", "1.00 kind 1 to 10.0.0.1:6443 known KUBE-SEP-A 100000 records KUBE-SEP-A"}},
		{"iptables", iptablesText, []string{"iptables-nft-restore"}, readIPT, Packet{Proto: 6, Src: pod, AnyPod: true, Dst: to("10.96.0.1:443")}, []string{
			"0.25 kind 1 to 10.0.0.1:6443 masqueraded from 10.0.0.1 records KUBE-SEP-A", "0.25 kind 1 to 10.0.0.1:6443 records KUBE-SEP-A", "0.75 kind 1 to 10.0.0.2:6443",
			"1.00 kind 1 to 10.0.0.1:6443 known KUBE-SEP-A 100000 records KUBE-SEP-A", "1.00 kind 1 to 10.0.0.1:6443 masqueraded from 10.0.0.1 known KUBE-SEP-A 100000 records KUBE-SEP-A"}},
		{"iptables", iptablesText, []string{"iptables-nft-restore"}, readIPT, Packet{Proto: 132, Src: outside, Dst: to("10.96.0.2:3000")}, []string{"1.00 kind 1"}},
		{"iptables", iptablesText, []string{"iptables-nft-restore"}, readIPT, Packet{Proto: 6, Src: outside, Dst: to("10.1.1.1:9")}, []string{"1.00 kind 1 to 10.0.0.2:6443"}},
		{"iptables", iptablesText, []string{"iptables-nft-restore"}, readIPT, Packet{Proto: 6, Src: outside, Dst: to("10.96.0.7:9")}, []string{"1.00 kind 3"}},
		{"iptables", iptablesText, []string{"iptables-nft-restore"}, readIPT, Packet{Proto: 6, Src: outside, Dst: to("10.96.0.7:9"), State: StateInvalid}, []string{"1.00 kind 2"}},
	}
	// A rule that asks the same again changes nothing.
	twice := strings.Replace(iptablesText, "--rcheck --seconds 100 --reap -j KUBE-SEP-A\n", "--rcheck --seconds 100 --reap -j KUBE-SEP-A\n-A KUBE-SVC-A -m recent --name KUBE-SEP-A --rcheck --seconds 100 --reap -j KUBE-SEP-A\n", 1)
	table = append(table, row{"iptables", twice, []string{"iptables-nft-restore"}, readIPT, Packet{Proto: 6, Src: pod, Dst: to("10.96.0.1:443")}, []string{
		"0.25 kind 1 to 10.0.0.1:6443 records KUBE-SEP-A", "0.75 kind 1 to 10.0.0.2:6443", "1.00 kind 1 to 10.0.0.1:6443 known KUBE-SEP-A 100000 records KUBE-SEP-A"}})
	for _, tc := range table { // the old iptables does the same
		if tc.name == "iptables" {
			tc.name, tc.program, tc.read = "legacy", []string{"iptables-legacy-restore"}, func(*Reader) (*Ruleset, error) { return ReadLegacy(IPv4) }
			table = append(table, tc)
		}
	}
	for _, tc := range table { // and so does what is read when a packet comes to it
		if tc.name == "nft" {
			tc.name, tc.read = "part", readPart
			table = append(table, tc)
		}
	}
	for _, tc := range table {
		t.Run(tc.name+" "+tc.packet.Src.String()+" to "+tc.packet.Dst.String(), func(t *testing.T) {
			rulestest.InNamespace(t, func() {
				if !rulestest.Load(t, tc.text, tc.program...) {
					return
				}
				r, err := NewReader()
				if err != nil {
					t.Error(err)
					return
				}
				defer r.Close()
				rs, err := tc.read(r)
				if err != nil {
					t.Error(err)
					return
				}
				m := NewMachine(rs, Host{Local: func(a netip.Addr) bool { return a.String() == "10.1.1.1" }})
				if got := ways(t, m, tc.packet); !slices.Equal(got, tc.want) {
					t.Errorf("got  %q\nwant %q", got, tc.want)
				}
			})
		})
	}
}

func readPart(r *Reader) (*Ruleset, error) {
	rs, err := r.ReadNFTables(IPv4)
	if err != nil {
		return nil, err
	}
	return r.ReadPart(IPv4, rs.Frame()), nil
}

func readNFT(r *Reader) (*Ruleset, error) { return r.ReadNFTables(IPv4) }
func readIPT(r *Reader) (*Ruleset, error) { return r.ReadIPTables(IPv4) }

// TestListen is that every change is told, and nothing else.
func TestListen(t *testing.T) {
	rulestest.InNamespace(t, func() {
		l, err := Listen()
		if err != nil {
			t.Error(err)
			return
		}
		defer l.Close()
		before, err := Generation()
		if err != nil {
			t.Error(err)
			return
		}
		rulestest.Load(t, nftText, "nft", "-f", "-")
		of, changed, err := l.Wait()
		if err != nil || !changed || !of[IPv4].All {
			t.Errorf("told %t, %+v, %v", changed, of[IPv4], err)
		}
		after, err := Generation()
		if err != nil || after == before || of[IPv4].Generation != after || of[IPv6].Generation != after {
			t.Errorf("generation %d, then %d, %v; told %+v", before, after, err, of[IPv4])
		}
		if !of[IPv6].Empty() {
			t.Errorf("nothing of IPv6 changed: %+v", of[IPv6])
		}
		ips := addresseeKey("10.96.0.8", 6, 80)
		for _, tc := range []struct {
			text string
			want Changes
		}{
			{"add rule ip kube-proxy service-X-a/b/tcp/ meta l4proto udp drop\n", Changes{Chains: set("service-X-a/b/tcp/")}},
			{"flush chain ip kube-proxy service-X-a/b/tcp/\nadd rule ip kube-proxy service-X-a/b/tcp/ meta l4proto tcp dnat ip addr . port to numgen random mod 2 map { 0 : 10.0.0.1 . 1, 1 : 10.0.0.5 . 1 }\n", Changes{Chains: set("service-X-a/b/tcp/")}},
			{"add chain ip kube-proxy service-Z\nadd element ip kube-proxy service-ips { 10.96.0.8 . tcp . 80 : goto service-Z }\n", Changes{Chains: set("service-Z"), Elements: map[string]map[string]bool{"service-ips": set(ips)}}},
			{"delete element ip kube-proxy service-ips { 10.96.0.8 . tcp . 80 }\ndelete chain ip kube-proxy service-Z\n", Changes{Chains: set("service-Z"), Elements: map[string]map[string]bool{"service-ips": set(ips)}}},
			{"add set ip kube-proxy affinity-Q { type ipv4_addr; flags dynamic,timeout; timeout 3h; }\n", Changes{Chains: set("affinity-Q")}},
			{"add set ip kube-proxy another { type ipv4_addr; }\n", Changes{All: true}},
			{"add table ip other\nadd chain ip other x\n", Changes{}},
			{"add rule ip other x drop\n", Changes{}},
			{"add table inet other\nadd chain inet other x\n", Changes{}},
			{"add chain ip kube-proxy nat-output { type nat hook output priority -100; }\n", Changes{All: true}},
			{"delete table ip kube-proxy\n", Changes{All: true}},
		} {
			rulestest.Load(t, tc.text, "nft", "-f", "-")
			of, _, err := l.Wait()
			got := of[IPv4]
			tc.want.Generation, tc.want.count = got.Generation, got.count
			if g, err2 := Generation(); err != nil || err2 != nil || g != got.Generation || !reflect.DeepEqual(*got, tc.want) {
				t.Errorf("%s: got %+v, want %+v, %v", tc.text, *got, tc.want, err)
			}
		}
	})
}

// TestFingerprint is that it tells every change from none, without being told.
func TestFingerprint(t *testing.T) {
	rulestest.InNamespace(t, func() {
		r, err := NewReader()
		if err != nil {
			t.Error(err)
			return
		}
		defer r.Close()
		if _, _, err := r.Fingerprint(IPv4, nil); !errors.Is(err, ErrUnsupported) {
			t.Errorf("without a table: %v", err)
		}
		rulestest.Load(t, nftText, "nft", "-f", "-")
		p, changes, err := r.Fingerprint(IPv4, nil)
		if err != nil || !changes.All {
			t.Errorf("the first: %+v, %v", changes, err)
			return
		}
		ips := addresseeKey("10.96.0.8", 6, 80)
		elements := map[string]map[string]bool{"service-ips": set(ips)}
		const b = "service-X-a/b/tcp/"
		for _, tc := range []struct {
			text string
			want Changes
		}{
			{"", Changes{}},
			{"add rule ip kube-proxy " + b + " meta l4proto udp drop\n", Changes{Chains: set(b)}},
			{"insert rule ip kube-proxy " + b + " meta l4proto udp drop\n", Changes{Chains: set(b)}},
			{"flush chain ip kube-proxy " + b + "\nadd rule ip kube-proxy " + b + " meta l4proto tcp dnat ip addr . port to numgen random mod 2 map { 0 : 10.0.0.1 . 1, 1 : 10.0.0.5 . 1 }\n", Changes{Chains: set(b)}},
			{"flush chain ip kube-proxy " + b + "\nadd rule ip kube-proxy " + b + " meta l4proto tcp dnat ip addr . port to numgen random mod 2 map { 0 : 10.0.0.1 . 1, 1 : 10.0.0.5 . 1 }\n", Changes{Chains: set(b)}},
			{"replace rule ip kube-proxy " + b + " handle $H meta l4proto tcp dnat ip addr . port to numgen random mod 2 map { 0 : 10.0.0.1 . 1, 1 : 10.0.0.6 . 1 }\n", Changes{Chains: set(b)}},
			{"replace rule ip kube-proxy " + b + " handle $H meta l4proto tcp dnat to 10.0.0.1:1\n", Changes{Chains: set(b)}},
			{"replace rule ip kube-proxy " + b + " handle $H counter meta l4proto tcp dnat to 10.0.0.2:1\n", Changes{Chains: set(b)}},
			{"replace rule ip kube-proxy " + b + " handle $H counter packets 5 bytes 7 meta l4proto tcp dnat to 10.0.0.2:1\n", Changes{}},
			{"add set ip kube-proxy affinity-Q { type ipv4_addr; flags dynamic,timeout; timeout 3h; }\n", Changes{Chains: set("affinity-Q")}},
			{"add set ip kube-proxy affinity-Q { type ipv4_addr; flags dynamic,timeout; timeout 2h; }\n", Changes{Chains: set("affinity-Q")}},
			{"delete set ip kube-proxy affinity-Q\n", Changes{Chains: set("affinity-Q")}},
			{"add set ip kube-proxy another { type ipv4_addr; }\n", Changes{All: true}},
			{"add element ip kube-proxy another { 10.0.0.1 }\n", Changes{Elements: map[string]map[string]bool{"another": set("\x0a\x00\x00\x01")}}},
			{"delete set ip kube-proxy another\n", Changes{All: true}},
			{"add chain ip kube-proxy service-Z\nadd rule ip kube-proxy service-Z drop\nadd element ip kube-proxy service-ips { 10.96.0.8 . tcp . 80 : goto service-Z }\n", Changes{Chains: set("service-Z"), Elements: elements}},
			{"delete element ip kube-proxy service-ips { 10.96.0.8 . tcp . 80 }\nadd element ip kube-proxy service-ips { 10.96.0.8 . tcp . 80 : goto " + b + " }\n", Changes{Elements: elements}},
			{"flush chain ip kube-proxy service-Z\n", Changes{Chains: set("service-Z")}},
			{"rename chain ip kube-proxy service-Z service-Q\n", Changes{Chains: set("service-Z", "service-Q")}},
			{"delete element ip kube-proxy service-ips { 10.96.0.8 . tcp . 80 }\ndelete chain ip kube-proxy service-Q\n", Changes{Chains: set("service-Q"), Elements: elements}},
			{"add rule ip kube-proxy " + b + " quota over 5 mbytes drop\n", Changes{Chains: set(b)}},
			{"replace rule ip kube-proxy " + b + " handle $H quota over 7 mbytes drop\n", Changes{Chains: set(b)}},
			{"replace rule ip kube-proxy " + b + " handle $H ct count over 5 drop\n", Changes{Chains: set(b)}},
			{"replace rule ip kube-proxy " + b + " handle $H ct count over 6 drop\n", Changes{Chains: set(b)}},
			{"delete element ip kube-proxy service-ips { 10.96.0.1 . tcp . 443 }\nadd element ip kube-proxy service-ips { 10.96.0.1 . tcp . 443 : goto " + b + " }\n", Changes{}},
			{"add table ip other\nadd chain ip other x\nadd rule ip other x drop\n", Changes{}},
			{"add chain ip kube-proxy nat-output { type nat hook output priority -100; }\n", Changes{All: true}},
			{"add rule ip kube-proxy nat-output jump services\n", Changes{Chains: set("nat-output")}},
			{"add table ip kube-proxy { flags dormant; }\n", Changes{All: true}},
			{"add table ip kube-proxy\n", Changes{All: true}},
			{"delete table ip kube-proxy\n" + nftText, Changes{All: true}},
			{"delete table ip kube-proxy\n" + nftText, Changes{All: true}}, // with the same numbers in it
		} {
			rulestest.Load(t, strings.ReplaceAll(tc.text, "$H", handleOf(t, b)), "nft", "-f", "-")
			if p, changes, err = r.Fingerprint(IPv4, p); err != nil {
				t.Errorf("%s: %v", tc.text, err)
				return
			}
			if tc.want.count = changes.count; !reflect.DeepEqual(*changes, tc.want) {
				t.Errorf("%s: got %+v, want %+v", tc.text, *changes, tc.want)
			}
		}
		for _, ranges := range []string{"10.0.0.0-10.0.0.3, 10.0.0.4-10.0.0.9", "10.0.0.0-10.0.0.3, 10.0.0.4-10.0.0.8"} {
			rulestest.Load(t, "add set ip kube-proxy ranges { type ipv4_addr; flags interval; }\nflush set ip kube-proxy ranges\nadd element ip kube-proxy ranges { "+ranges+" }\n", "nft", "-f", "-")
			if ranges[len(ranges)-1] == '9' {
				p, _, err = r.Fingerprint(IPv4, nil)
			} else {
				_, changes, err = r.Fingerprint(IPv4, p)
			}
			if err != nil {
				t.Error(err)
			}
		}
		if ends := changes.Elements["ranges"]; !ends["\x0a\x00\x00\x0a"] || !ends["\x0a\x00\x00\x09"] || ends["\x0a\x00\x00\x04"] {
			t.Errorf("another end of a range: %q", slices.Collect(maps.Keys(ends)))
		}
		const pairs = "add set ip kube-proxy pairs { type ipv4_addr . inet_service; flags interval; }\nflush set ip kube-proxy pairs\nadd element ip kube-proxy pairs { 10.0.0.1 . "
		rulestest.Load(t, pairs+"80-90 }\n", "nft", "-f", "-")
		if p, _, err = r.Fingerprint(IPv4, nil); err != nil {
			t.Error(err)
			return
		}
		rulestest.Load(t, pairs+"80-91 }\n", "nft", "-f", "-")
		if _, changes, err = r.Fingerprint(IPv4, p); err != nil || len(changes.Elements["pairs"]) != 1 {
			t.Errorf("another end of a range in two fields: %+v, %v", changes, err)
		}
	})
}

// handleOf is that of the last rule of a chain of kube-proxy's table, 0 if there is none.
func handleOf(t *testing.T, chain string) string {
	t.Helper()
	out, err := exec.Command("nft", "-a", "list", "table", "ip", "kube-proxy").Output()
	if err != nil {
		t.Error(err)
	}
	_, body, _ := strings.Cut(string(out), "chain "+chain+" {")
	body, _, _ = strings.Cut(body, "\n\t}")
	if i := strings.LastIndex(body, "# handle "); i >= 0 {
		return strings.TrimSpace(body[i+len("# handle "):])
	}
	return "0"
}

func set(names ...string) map[string]bool {
	out := map[string]bool{}
	for _, n := range names {
		out[n] = true
	}
	return out
}

// addresseeKey is the key of an element of three fields.
func addresseeKey(ip string, proto uint8, port uint16) string {
	return Addressee{string(netip.MustParseAddr(ip).AsSlice()), proto, port}.key()
}

// TestRecord writes answers of the kernel, one file for each kind of request.
func TestRecord(t *testing.T) {
	if !*update {
		t.Skip("it writes testdata: with -update only")
	}
	rulestest.InNamespace(t, func() {
		rulestest.Load(t, nftText, "nft", "-f", "-")
		rulestest.Load(t, iptablesText, "iptables-nft-restore")
		rulestest.Load(t, iptablesText, "iptables-legacy-restore")
		info, entries, err := LegacyTable(IPv4, "nat")
		if err == nil {
			err = os.WriteFile("testdata/nat.legacy", append(info, entries...), 0o600)
		}
		if err != nil {
			t.Error(err)
		}
		c, err := open()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.close()
		for name, ask := range map[string]func(){
			"chains": func() { c.ask(IPv4, unix.NFT_MSG_GETCHAIN, unix.NLM_F_DUMP) },
			"sets": func() {
				c.ask(IPv4, unix.NFT_MSG_GETSET, unix.NLM_F_DUMP, attribute{kind: unix.NFTA_SET_TABLE, text: "kube-proxy"})
			},
			"rules": func() { c.ask(IPv4, unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP) },
			"elements": func() {
				c.ask(IPv4, unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP, attribute{kind: unix.NFTA_SET_ELEM_LIST_TABLE, text: "kube-proxy"}, attribute{kind: unix.NFTA_SET_ELEM_LIST_SET, text: "service-ips"})
			},
			"interval": func() {
				c.ask(IPv4, unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP, attribute{kind: unix.NFTA_SET_ELEM_LIST_TABLE, text: "kube-proxy"}, attribute{kind: unix.NFTA_SET_ELEM_LIST_SET, text: "__set0"})
			},
		} {
			ask()
			if err := unix.Sendto(c.fd, c.out, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
				t.Error(err)
			}
			c.out = c.out[:0]
			var all bytes.Buffer
			for {
				n, _, err := unix.Recvfrom(c.fd, c.buf, unix.MSG_DONTWAIT)
				if errors.Is(err, unix.EAGAIN) {
					break
				}
				if err != nil {
					t.Error(err)
					break
				}
				all.Write(c.buf[:n])
			}
			if err := os.WriteFile(filepath.Join("testdata", name+".netlink"), all.Bytes(), 0o600); err != nil {
				t.Error(err)
			}
		}
	})
}
