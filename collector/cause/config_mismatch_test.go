package cause

import (
	"net/netip"
	"testing"
)

func TestConfigMismatch(t *testing.T) {
	ranges := func(cluster, pods []string) func(*Snapshot) {
		return func(s *Snapshot) {
			s.Config.ClusterCIDRs, s.Node.PodCIDRs = nil, nil
			for _, c := range cluster {
				s.Config.ClusterCIDRs = append(s.Config.ClusterCIDRs, netip.MustParsePrefix(c))
			}
			for _, c := range pods {
				s.Node.PodCIDRs = append(s.Node.PodCIDRs, netip.MustParsePrefix(c))
			}
		}
	}
	atBoundary(t, configMismatch, []boundary{
		{"the same range", ranges([]string{"10.244.1.0/24"}, []string{"10.244.1.0/24"}), Inactive, ""},
		{"a range that is only a part", ranges([]string{"10.244.1.0/25"}, []string{"10.244.1.0/24"}), Active, "cluster_cidr"},
		{"beside", ranges([]string{"10.244.0.0/24"}, []string{"10.244.1.0/24"}), Active, "cluster_cidr"},
		{"beside, in a ConfigMap that was just changed", func(s *Snapshot) {
			ranges([]string{"10.244.0.0/24"}, []string{"10.244.1.0/24"})(s)
			s.Config.Since = now.Add(-editing + 1)
		}, Inactive, ""},
		{"beside, in a ConfigMap that was changed a while ago", func(s *Snapshot) {
			ranges([]string{"10.244.0.0/24"}, []string{"10.244.1.0/24"})(s)
			s.Config.Since = now.Add(-editing)
		}, Active, "cluster_cidr"},
		{"beside, and it runs with that, just changed", func(s *Snapshot) {
			ranges([]string{"10.244.0.0/24"}, []string{"10.244.1.0/24"})(s)
			s.Running.Settings, s.Config.Since = NewRunningSettings(Settings{"clustercidr": "10.244.0.0/24"}, true), now
		}, Active, "cluster_cidr"},
		{"dual-stack", ranges([]string{"10.244.0.0/16", "fd00::/48"}, []string{"10.244.1.0/24", "fd00:0:0:1::/64"}), Inactive, ""},
		{"dual-stack, one family beside", ranges([]string{"10.244.0.0/16", "fd01::/48"}, []string{"10.244.1.0/24", "fd00:0:0:1::/64"}), Active, "cluster_cidr"},
		{"a dual-stack node and one range", ranges([]string{"10.244.0.0/16"}, []string{"10.244.1.0/24", "fd00:0:0:1::/64"}), Inactive, ""},
		{"several ranges of one family", ranges([]string{"10.0.0.0/24", "10.244.0.0/16"}, []string{"10.244.1.0/24"}), Inactive, ""},
		{"no clusterCIDR", ranges(nil, []string{"10.244.1.0/24"}), Inactive, ""},
		{"no pod range: the network plugin gives addresses", ranges([]string{"10.0.0.0/8"}, nil), Inactive, ""},
		{"another way to tell local traffic", func(s *Snapshot) {
			ranges([]string{"10.0.0.0/24"}, []string{"10.244.1.0/24"})(s)
			s.Config.DetectLocal = "BridgeInterface"
		}, Inactive, ""},
		{"hostnameOverride in the configuration, and a flag that a variable fills", func(s *Snapshot) { s.Config.Hostname = "other" }, Inactive, ""},
		{"hostnameOverride in the configuration, and no flag", func(s *Snapshot) {
			s.Config.Hostname, s.Pods.List[0].HostnameFlag, s.Running = "other", false, nil
		}, Active, "hostname"},
		{"another name, and it says itself that it runs with the right one", func(s *Snapshot) { s.Pods.List[0].Hostname = "other" }, Inactive, ""},
		{"hostnameOverride in a configuration that it does not read", func(s *Snapshot) {
			s.Config.Hostname, s.Pods.List[0].HostnameFlag, s.Pods.List[0].ConfigFrom, s.Running = "other", false, "", nil
		}, Unknown, ""},
		{"a range in a configuration that it does not read", func(s *Snapshot) {
			ranges([]string{"10.0.0.0/24"}, []string{"10.244.1.0/24"})(s)
			s.Pods.List[0].ConfigFrom, s.Running = "", nil
		}, Unknown, ""},
		{"a range, and nobody knows what it reads", func(s *Snapshot) {
			ranges([]string{"10.0.0.0/24"}, []string{"10.244.1.0/24"})(s)
			s.Pods.List[0].ConfigFrom, s.Pods.List[0].ArgsKnown = "", false
		}, Active, "cluster_cidr"},
		{"a flag that says the node's name", func(s *Snapshot) { s.Pods.List[0].Hostname = "n1" }, Inactive, ""},
		{"no ConfigMap", func(s *Snapshot) { s.Config = &Config{Missing: true} }, Unknown, ""},
		{"a ConfigMap that cannot be read", func(s *Snapshot) { s.Config.Error = "yaml" }, Unknown, ""},
		{"the ConfigMap was not read", func(s *Snapshot) { s.Config = nil }, Unknown, ""},
	})
}
