package collector

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
	"github.com/kproxy-exporter/kproxy-exporter/prober"
)

// The pages of kube-proxy's metrics port that tell what it runs with. That does
// not change in its life, so they are read once.
const (
	configzPage = "/configz"
	modePage    = "/proxyMode"
)

// modes are those that kube-proxy answers: a closed set.
var modes = []string{"iptables", "ipvs", "nftables", "userspace", "kernelspace"}

// runningConfigs is what the kube-proxies said that they run with.
type runningConfigs struct {
	mu sync.Mutex
	// mu protects following.
	nodes map[string]runningConfig
	// shared are settings that several nodes have: nearly all nodes have the same.
	shared []*cause.RunningSettings
}

type runningConfig struct {
	life string // the container that said so
	cause.Running
}

func newRunningConfigs() *runningConfigs { return &runningConfigs{nodes: map[string]runningConfig{}} }

// page notes a page that was answered.
func (r *runningConfigs) page(t prober.PortTarget, path string, status int, body []byte) (understood bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.nodes[t.Node]
	if now.life != t.Life {
		now = runningConfig{life: t.Life}
	}
	switch path {
	case modePage:
		mode := strings.TrimSpace(string(body))
		understood = status == http.StatusOK && slices.Contains(modes, mode)
		now.Foreign = status == http.StatusNotFound
		now.Mode = ""
		if understood {
			now.Mode = mode
		}
	case configzPage:
		var settings cause.Settings
		var versioned bool
		now.Settings = nil
		if status == http.StatusOK {
			settings, versioned, understood = parseConfigz(body)
		}
		if understood {
			now.Hostname = strings.ToLower(strings.TrimSpace(settings["hostnameoverride"])) // as kube-proxy does
			delete(settings, "hostnameoverride")
			now.Settings = r.share(cause.NewRunningSettings(settings, versioned))
		}
	}
	r.nodes[t.Node] = now
	return understood
}

// share returns settings that are held already, if these are the same.
func (r *runningConfigs) share(s *cause.RunningSettings) *cause.RunningSettings {
	for _, known := range r.shared {
		if known.Versioned == s.Versioned && maps.Equal(known.Settings, s.Settings) {
			return known
		}
	}
	const few = 16
	if len(r.shared) == few {
		r.shared = r.shared[1:]
	}
	r.shared = append(r.shared, s)
	return s
}

// of is what a container on a node said; nil if it said nothing.
func (r *runningConfigs) of(node, life string) *cause.Running {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.nodes[node]
	if !ok || life == "" || c.life != life {
		return nil
	}
	out := c.Running
	return &out
}

func (r *runningConfigs) forget(node string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.nodes, node)
}
