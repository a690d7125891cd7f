package cause

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Settings are the leaves of a KubeProxyConfiguration: the path in lower case,
// "iptables.masqueradeall", and the value as text, durations as Go writes them.
type Settings map[string]string

// RunningSettings are those of a process.
type RunningSettings struct {
	Settings
	// Versioned reports whether they have the form of the ConfigMap. Before
	// Kubernetes 1.36 /configz shows an internal form without some of them.
	Versioned bool
	// DetectLocal is detectLocalMode, and ClusterCIDRs are the ranges of
	// clusterCIDR that could be parsed.
	DetectLocal  string
	ClusterCIDRs []netip.Prefix
}

// NewRunningSettings reads what is needed often.
func NewRunningSettings(s Settings, versioned bool) *RunningSettings {
	out := &RunningSettings{Settings: s, Versioned: versioned, DetectLocal: s["detectlocalmode"]}
	out.ClusterCIDRs, _ = ParseCIDRs(s["clustercidr"])
	return out
}

// ParseCIDRs parses ranges separated by commas, such as clusterCIDR. It returns
// them without host bits, and the parts that are not ranges.
func ParseCIDRs(text string) (ranges []netip.Prefix, bad []string) {
	for _, part := range strings.Split(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		p, err := netip.ParsePrefix(part)
		if err != nil {
			bad = append(bad, part)
			continue
		}
		ranges = append(ranges, p.Masked())
	}
	return ranges, bad
}

// Running is what a kube-proxy process says that it runs with.
type Running struct {
	// Mode is what /proxyMode says; empty if it does not.
	Mode string
	// Settings is what /configz says; nil if it does not.
	Settings *RunningSettings
	// Differs are the paths of settings on which it differs from the ConfigMap
	// and should not: see Settings.Differs.
	Differs []string
	// Hostname is the name by which it looks for its Node; empty if not told.
	Hostname string
	// Foreign says that the metrics port has no /proxyMode: somebody else answers.
	Foreign bool
}

// editing is how long a ConfigMap may differ from what runs: who changes it
// restarts the pods next.
const editing = 2 * time.Minute

// notApplied compares the ConfigMap with what the node's kube-proxy runs with,
// by content: dates prove nothing.
func notApplied(s *Snapshot) Verdict {
	c, r := s.Config, s.Running
	p := s.runningPod()
	if c == nil || c.Missing || c.Error != "" || r == nil || p == nil || s.Placement == nil || p.ConfigFrom != c.Name || s.Windows {
		return inactive() // not that pod's configuration, or nobody can compare
	}
	if s.Placement.RollingOut || s.Now.Sub(c.Since) < editing {
		return inactive()
	}
	want := strings.ToLower(c.Mode)
	if r.Mode != "" && want != "" && want != r.Mode && (r.Settings == nil || r.Settings.Settings["mode"] != r.Mode) {
		return active(time.Time{}, Finding{"mode", []string{fmt.Sprintf("pod %s: mode in %s is %s, and /proxyMode answers %s", p.Name, c.Name, want, r.Mode)}})
	}
	if r.Settings == nil {
		return inactive()
	}
	var evidence []string
	for _, path := range r.Differs {
		has, told := r.Settings.Settings[path]
		if !told {
			has = "none"
		}
		evidence = append(evidence, fmt.Sprintf("pod %s: %s in %s is %s, and /configz answers %s", p.Name, path, c.Name, quote(c.Settings[path]), quote(has)))
	}
	if len(evidence) == 0 {
		return inactive()
	}
	return active(time.Time{}, Finding{"not_applied", evidence[:min(len(evidence), 5)]})
}

// Differs are the paths of settings on which a ConfigMap and a process differ
// although they should not, in order.
func (s Settings) Differs(running *RunningSettings) []string {
	var out []string
	mode := running.Settings["mode"]
	for path, want := range s {
		has, told := running.Settings[path]
		gate := strings.HasPrefix(path, "featuregates.")
		if !told && (!gate || !running.Versioned) {
			continue // a form that does not show it
		}
		if want != has && !byDefault(want) && !elsewhere(path, mode) && !sameAddress(path, want, has) {
			out = append(out, path)
		}
	}
	slices.Sort(out)
	return out
}

// byDefault is whether a value stands for kube-proxy's own choice, or is filled
// in by whoever starts it.
func byDefault(want string) bool {
	switch want {
	case "", "0", "0s", "[]", "{}", "null":
		return true
	}
	return strings.Contains(want, "$") || strings.Contains(want, "{{")
}

// elsewhere is whether a setting may rightly differ: flags override it, or it
// belongs to a mode that does not run and is not kept then.
func elsewhere(path, mode string) bool {
	section, _, nested := strings.Cut(path, ".")
	switch section {
	case "hostnameoverride", "logging", "winkernel", "portrange", "kind", "apiversion":
		return true
	case "iptables", "ipvs", "nftables":
		return nested && section != mode
	}
	return false
}

// sameAddress is whether an address to bind to lacks only the default port.
func sameAddress(path, want, has string) bool {
	if path != "metricsbindaddress" && path != "healthzbindaddress" {
		return false
	}
	bound, err := netip.ParseAddrPort(has)
	if err != nil {
		return false
	}
	alone, err := netip.ParseAddr(strings.Trim(want, "[]"))
	return err == nil && alone == bound.Addr()
}

// runningPod is the pod that does the job on a node, nil if none runs.
func (s *Snapshot) runningPod() *Pod {
	if s.Pods == nil {
		return nil
	}
	for i := range s.Pods.List {
		p := &s.Pods.List[i]
		if !p.Deleting && p.Container != nil && p.Container.Running() {
			return p
		}
	}
	return nil
}

// versioned is whether all settings of the process are known.
func (r *Running) versioned() bool { return r != nil && r.Settings != nil && r.Settings.Versioned }

// ranges are the pod ranges by which kube-proxy tells local traffic: those it
// runs with, else those of the ConfigMap; ok if it goes by them.
func (s *Snapshot) ranges() (_ []netip.Prefix, from string, ok bool) {
	if r := s.Running; r.versioned() {
		return r.Settings.ClusterCIDRs, "clusterCIDR of /configz", r.Settings.DetectLocal == "" || r.Settings.DetectLocal == "ClusterCIDR"
	}
	c := s.Config
	return c.ClusterCIDRs, "clusterCIDR in " + c.Name, c.DetectLocal == "" || c.DetectLocal == "ClusterCIDR"
}
