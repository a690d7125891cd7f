package collector

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
	"github.com/kproxy-exporter/kproxy-exporter/collector/local"
	"github.com/kproxy-exporter/kproxy-exporter/prober"
)

// apiKey names an address of the API server.
type apiKey struct{ kind, address string }

// apiSeen is what became of the newest attempt at it.
type apiSeen struct {
	prober.APIResult
	local.Streak
}

// kubeconfig is what a kube-proxy read when it started.
type kubeconfig struct {
	life string
	text []byte
}

// readProxyAPI asks the API server at kube-proxy's own address, as kube-proxy.
func (n *Node) readProxyAPI(ctx context.Context) error {
	n.mu.Lock()
	p, life, kubeconfig := n.seen.process, n.life(), n.kubeconfig
	n.mu.Unlock()
	if p == nil {
		n.forgetAPI(func(k apiKey) bool { return k.kind == cause.KindKubeProxy })
		return nil // there is nobody whose address it could be
	}
	var err error
	if kubeconfig.life != life {
		if kubeconfig.text, err = local.Kubeconfig(p); err == nil {
			kubeconfig.life = life
			n.mu.Lock()
			n.kubeconfig = kubeconfig
			n.mu.Unlock()
		}
	}
	var t prober.APITarget
	if err == nil {
		t, err = local.APITargetOf(p, kubeconfig.text, n.cfg.Name)
	}
	if err != nil {
		n.forgetAPI(func(k apiKey) bool { return k.kind == cause.KindKubeProxy })
		return err
	}
	n.forgetAPI(func(k apiKey) bool { return k.kind == cause.KindKubeProxy && k.address != local.Address(t) })
	r := prober.AskAPI(ctx, t, apiTimeout)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.noteAPI(cause.KindKubeProxy, t, r)
	return nil
}

// readEndpoints asks every API server itself, and the Service kubernetes.
func (n *Node) readEndpoints(ctx context.Context) error {
	all := n.apiEndpoints()
	if len(all) == 0 {
		return errors.New("the addresses of the API servers are not known yet")
	}
	wanted := map[apiKey]bool{}
	results := make([]prober.APIResult, len(all))
	var wg sync.WaitGroup
	for i, t := range all {
		wanted[apiKey{t.Kind, local.Address(t.APITarget)}] = true
		wg.Go(func() {
			r := prober.AskAPI(ctx, t.APITarget, apiTimeout-500*time.Millisecond)
			if r.Class == prober.APIUnauthorized || r.Class == prober.APIForbidden {
				r.Class, r.Phase, r.Error = prober.APIOK, "", "" // it was asked as nobody: it answers
			}
			results[i] = r
		})
	}
	wg.Wait()
	n.mu.Lock()
	for i, t := range all { // together: they are compared
		n.noteAPI(t.Kind, t.APITarget, results[i])
	}
	n.mu.Unlock()
	n.forgetAPI(func(k apiKey) bool { return k.kind != cause.KindKubeProxy && !wanted[k] })
	return nil
}

// apiEndpoints are the Service kubernetes, and what it stands for.
func (n *Node) apiEndpoints() []APIEndpoint {
	all := n.desired.apiServers()
	if n.cfg.VIPHost != "" {
		all = append(all, APIEndpoint{cause.KindVIP, prober.APITarget{Host: n.cfg.VIPHost, Port: n.cfg.VIPPort, Roots: n.cfg.Roots, Path: livezPath}})
	}
	return all
}

// noteAPI notes an attempt; the caller holds mu.
func (n *Node) noteAPI(kind string, t prober.APITarget, r prober.APIResult) {
	if r.Class == prober.APICancelled {
		return
	}
	k := apiKey{kind, local.Address(t)}
	if n.api[k] == nil {
		n.api[k] = &apiSeen{}
	}
	n.api[k].APIResult = r
	n.api[k].Note(string(r.Class), time.Now())
}

func (n *Node) forgetAPI(which func(apiKey) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for k := range n.api {
		if which(k) {
			delete(n.api, k)
		}
	}
}

// endpointsRarer is how many times rarer the API servers themselves are asked:
// they are asked from every node.
const endpointsRarer = 4

func (n *Node) waitProxyAPI() time.Duration {
	if n.unconfirmed(true) {
		return confirmAfter
	}
	return n.cfg.APIInterval
}

func (n *Node) waitEndpoints() time.Duration {
	switch {
	case n.unconfirmed(false):
		return confirmAfter
	case n.proxyAPIFails(), len(n.apiEndpoints()) < 2: // they have not been learnt
		return n.cfg.APIInterval
	}
	return endpointsRarer * n.cfg.APIInterval
}

func (n *Node) proxyAPIFails() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for k, a := range n.api {
		if k.kind == cause.KindKubeProxy && a.Class != prober.APIOK {
			return true
		}
	}
	return false
}

// unconfirmed is whether an address failed once and was not asked again.
func (n *Node) unconfirmed(proxy bool) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for k, a := range n.api {
		if (k.kind == cause.KindKubeProxy) == proxy && a.Class != prober.APIOK && a.Times == 1 {
			return true
		}
	}
	return false
}

// apiAddresses are the attempts that still count; the caller holds mu.
func (n *Node) apiAddresses(now time.Time) []cause.APIAddress {
	var out []cause.APIAddress
	for k, a := range n.api {
		every := endpointsRarer * n.cfg.APIInterval
		if k.kind == cause.KindKubeProxy {
			every = n.cfg.APIInterval
		}
		if now.Sub(a.At) > believed*every+readLimit {
			continue
		}
		out = append(out, cause.APIAddress{
			Kind: k.kind, Address: k.address, Class: string(a.Class), Phase: string(a.Phase), Error: a.Error, Since: a.Since, At: a.At, Times: a.Times,
		})
	}
	slices.SortFunc(out, func(a, b cause.APIAddress) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Address, b.Address))
	})
	return out
}

var (
	apiExpiry = family{"kproxy_api_certificate_expiry_timestamp_seconds",
		"When the first certificate ends that the API server shows at this address, in seconds since the epoch.",
		[]string{"endpoint", "node"}}
	apiDuration = family{"kproxy_api_request_duration_seconds",
		"How long each phase of the newest attempt at an address of the API server took, over a new connection.",
		[]string{"endpoint", "node", "phase"}}
	apiUp = family{"kproxy_api_up",
		"1 if the API server answered the newest attempt at this address, 0 if not; the result says how.",
		[]string{"endpoint", "node", "result"}}
)

// endpointLabel is "kube-proxy" for the address in its kubeconfig, "vip" for the
// Service kubernetes, else the address of the API server.
func (k apiKey) endpointLabel() string {
	if k.kind == cause.KindEndpoint {
		return k.address
	}
	return k.kind
}

func (n *Node) writeAPI(e *exposition) {
	n.mu.Lock()
	defer n.mu.Unlock()
	keys := make([]apiKey, 0, len(n.api))
	for k := range n.api {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b apiKey) int { return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.address, b.address)) })
	e.begin(&apiExpiry)
	for _, k := range keys {
		if at := n.api[k].NotAfter; !at.IsZero() {
			e.sample(seconds(at), k.endpointLabel(), n.cfg.Name)
		}
	}
	e.begin(&apiDuration)
	for _, k := range keys {
		for _, p := range []prober.Phase{prober.PhaseAnswer, prober.PhaseConnect, prober.PhaseDNS, prober.PhaseTLS} {
			if took, begun := n.api[k].Took[p]; begun {
				e.sample(took.Seconds(), k.endpointLabel(), n.cfg.Name, string(p))
			}
		}
	}
	e.begin(&apiUp)
	for _, k := range keys {
		a := n.api[k]
		e.sample(number(a.Class == prober.APIOK), k.endpointLabel(), n.cfg.Name, string(a.Class))
	}
}
