package collector

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/collector/audit"
	"github.com/kproxy-exporter/kproxy-exporter/collector/rules"
)

// TestRuleAuditLost is of changes of which the messages were lost: they are found without
// a look at all Services, however things were in between.
func TestRuleAuditLost(t *testing.T) {
	const services = 240 // more than auditFew, and than four times auditSample
	const element = "element ip kube-proxy service-ips { 10.96.0.7 . tcp . 80"
	for name, do := range map[string]func(w *auditWorld, lose func(text string)){
		"a rule in the place of another": func(w *auditWorld, lose func(string)) {
			out, err := exec.Command("nft", "-a", "list", "chain", "ip", "kube-proxy", nftChain(9)).Output()
			_, handle, ok := strings.Cut(string(out), "dnat to 10.244.9.9:8080 # handle ")
			if handle, _, _ = strings.Cut(handle, "\n"); err != nil || !ok {
				w.t.Errorf("%v\n%s", err, out)
			}
			lose("replace rule ip kube-proxy " + nftChain(9) + " handle " + handle + " meta l4proto tcp dnat to 10.244.9.8:8080\n")
			w.want("it leads elsewhere", "wrong_backend 1", false)
		},
		"rules that came and went": func(w *auditWorld, lose func(string)) {
			w.service(services+1, 80)
			w.nft(nftService(services + 1))
			w.want("a Service came", "", false)
			lose("delete element ip kube-proxy service-ips { 10.96.0.241 . tcp . 80 }\ndelete element ip kube-proxy cluster-ips { 10.96.0.241 }\nflush chain ip kube-proxy " + nftChain(services+1) + "\ndelete chain ip kube-proxy " + nftChain(services+1) + "\n")
			w.want("its rules went", "missing 1", false)
		},
		"what was found and mended": func(w *auditWorld, lose func(string)) {
			w.nft("delete " + element + " }\n")
			w.a.families[rules.IPv4].whole = time.Time{}
			w.want("it lacks when all is looked at", "missing 1", true)
			w.nft("add " + element + " : goto " + nftChain(7) + " }\n")
			w.want("it is back", "", false)
			lose("delete " + element + " }\n")
			w.want("it lacks again", "missing 1", false)
		},
		"elements of a new set": func(w *auditWorld, lose func(string)) {
			w.nft("add set ip kube-proxy some { type ipv4_addr; flags interval; }\ninsert rule ip kube-proxy " + nftChain(9) + " ip saddr @some drop\n")
			w.want("a set came", "", true)
			lose("add element ip kube-proxy some { 0.0.0.0/1, 128.0.0.0/1 }\n")
			w.want("it has all addresses", "missing 1", true) // a set that nobody knows may be of all
		},
		"what concerns all": func(w *auditWorld, lose func(string)) {
			w.a.wholes.left = -time.Hour
			lose("add chain ip kube-proxy filter-output { policy drop; }\n")
			if got, l := w.look(); got != fmt.Sprintf("missing %d", auditSample) || l.whole > 0 || !l.owed {
				w.t.Errorf("a sample: %q %+v", got, l)
			}
			lose("add table ip other\n")
			if _, l := w.look(); !l.owed {
				w.t.Error("it is forgotten that all is to be looked at")
			}
			w.a.wholes.left = auditBurst
			w.want("all are looked at", fmt.Sprintf("missing %d", services), true)
		},
		"what may concern all": func(w *auditWorld, lose func(string)) {
			w.a.wholes.left = -time.Hour
			for _, text := range []string{"add set ip kube-proxy another { type ipv4_addr; }\n", "add table ip other\n"} {
				lose(text)
				if got, l := w.look(); got != "" || l.whole > 0 || !l.owed {
					w.t.Errorf("%s: %q %+v", text, got, l)
				}
			}
		},
		"a rule for nobody": func(w *auditWorld, lose func(string)) {
			w.nft("add element ip kube-proxy service-ips { 10.96.0.250 . tcp . 80 : goto " + nftChain(1) + " }\n")
			w.want("it is told", "stale 1", false)
			for range 10 {
				lose("delete element ip kube-proxy service-ips { 10.96.0.250 . tcp . 80 }\nadd element ip kube-proxy service-ips { 10.96.0.250 . tcp . 80 : goto " + nftChain(2) + " }\n")
				w.want("it leads to another Service", "stale 1", false)
			}
			lose("delete element ip kube-proxy service-ips { 10.96.0.250 . tcp . 80 }\n")
			w.want("it went", "", false)
		},
		"most Services": func(w *auditWorld, lose func(string)) {
			var text strings.Builder
			for i := 1; i <= services/2; i++ {
				text.WriteString("flush chain ip kube-proxy " + nftChain(i) + "\n")
			}
			lose(text.String())
			w.want("so many have no rules", fmt.Sprintf("missing %d", services/2), true)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inAuditWorld(t, audit.ModeNFTables, func(w *auditWorld) {
				for i := 1; i <= services; i++ {
					w.service(i, 80)
				}
				w.nft(nftTable(services))
				w.want("the first look", "", true)
				do(w, func(text string) {
					w.nft(text)
					w.a.told.lost()
				})
			})
		})
	}
}
