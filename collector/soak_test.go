package collector

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-kit/log"

	"github.com/kproxy-exporter/kproxy-exporter/prober"
)

// TestSoak makes KPROXY_SOAK attempts, 20,000 unless set, at targets of which
// half are dead, some refused and some silent: what they took must be given back.
func TestSoak(t *testing.T) {
	attempts := int64(20_000)
	if text := os.Getenv("KPROXY_SOAK"); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		attempts = n
	}
	const hosts = 100 // an address has a port for a minute to each other
	p := newProbes(ProbeConfig{Interval: time.Minute, Timeout: 10 * time.Millisecond, Only: true}, "n1", newDesired(&NodeConfig{}), &contact{logger: log.NewNopLogger()})
	var targets []prober.ServiceTarget
	for i := range hosts {
		host := fmt.Sprintf("127.0.%d.%d", 1+i/250, 1+i%250)
		live, err := net.Listen("tcp", host+":0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { live.Close() })
		go func() {
			_ = http.Serve(live, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
		}()
		silent, err := net.ListenPacket("udp", host+":0") // it takes what is sent, and says nothing
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { silent.Close() })
		at := netip.MustParseAddrPort(live.Addr().String())
		dead := netip.AddrPortFrom(at.Addr(), 1)
		endpoint := func(a netip.AddrPort) prober.Endpoint { return prober.Endpoint{Address: a, Node: "n2"} }
		service := fmt.Sprintf("soak/s%d", i)
		targets = append(targets,
			prober.ServiceTarget{Service: service, Port: 80, Module: prober.ModuleTCP, VIP: at, Endpoints: []prober.Endpoint{endpoint(dead)}},
			prober.ServiceTarget{Service: service, Port: 80, Module: prober.ModuleHTTP, VIP: at, Endpoints: []prober.Endpoint{endpoint(dead)}})
		if i%10 == 0 {
			targets = append(targets, prober.ServiceTarget{Service: service, Port: 53, Module: prober.ModuleUDP, VIP: netip.MustParseAddrPort(silent.LocalAddr().String())})
		}
	}
	var made, well atomic.Int64
	walk := func(until int64) {
		var wg sync.WaitGroup
		for first := range 16 {
			wg.Go(func() {
				for i := first; made.Load() < until; i += 16 {
					r := p.asker.Ask(context.Background(), &targets[i%len(targets)], i, nil)
					p.note(r)
					made.Add(int64(len(r.Attempts)))
					for k := range r.Attempts {
						if r.Attempts[k].OK() {
							well.Add(1)
						}
					}
				}
			})
		}
		wg.Wait()
	}
	// A collector closes what was forgotten, so first without one.
	before := taken(t)
	percent := debug.SetGCPercent(-1)
	walk(2000)
	var open []os.DirEntry
	for began := time.Now(); time.Since(began) < 10*time.Second; time.Sleep(50 * time.Millisecond) {
		var err error
		if open, err = os.ReadDir("/proc/self/fd"); err != nil {
			t.Fatal(err)
		}
		if len(open) <= before.descriptors+5 { // servers have closed their sides
			break
		}
	}
	debug.SetGCPercent(percent)
	if len(open) > before.descriptors+5 {
		t.Fatalf("%d descriptors were open, %d are after 2,000 attempts", before.descriptors, len(open))
	}
	walk(attempts / 4) // buffers, metrics, and what is kept of each target
	before = taken(t)
	walk(attempts)
	after := taken(t)
	t.Logf("%d attempts, %d answered: before %+v, after %+v", made.Load(), well.Load(), before, after)
	if share := float64(well.Load()) / float64(made.Load()); share < .1 || share > .6 {
		t.Errorf("%.2f of the attempts were answered; half of the targets are dead", share)
	}
	if after.goroutines > before.goroutines+5 || after.descriptors > before.descriptors+5 || after.heap > before.heap+before.heap/10+1<<20 {
		t.Errorf("it grows: before %+v, after %+v", before, after)
	}
}

type taking struct {
	goroutines, descriptors int
	heap                    uint64
}

// taken is what the process holds once what was closed is closed.
func taken(t *testing.T) taking {
	t.Helper()
	var out taking
	for last := -1; ; {
		runtime.GC()
		open, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		out.goroutines, out.descriptors = runtime.NumGoroutine(), len(open)
		if now := out.goroutines + out.descriptors; now == last {
			break
		} else {
			last = now
		}
		time.Sleep(100 * time.Millisecond) // servers see that clients have gone
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	out.heap = m.HeapAlloc
	return out
}
