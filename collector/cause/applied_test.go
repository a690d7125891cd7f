package cause

import "testing"

func TestNotApplied(t *testing.T) {
	// pair sets one setting as the ConfigMap and as /configz of 1.37 has it.
	pair := func(path, want, has string) func(*Snapshot) {
		return func(s *Snapshot) {
			s.Config.Settings[path] = want
			s.Running.Settings = NewRunningSettings(Settings{"mode": "nftables", "clustercidr": "10.244.0.0/16", path: has}, true)
		}
	}
	differs := func(change func(*Snapshot)) func(*Snapshot) {
		return func(s *Snapshot) {
			pair("oomscoreadj", "-998", "-999")(s)
			change(s)
		}
	}
	atBoundary(t, configMismatch, []boundary{
		{"a setting differs", differs(func(*Snapshot) {}), Active, "not_applied"},
		{"for just long enough", differs(func(s *Snapshot) { s.Config.Since = now.Add(-editing) }), Active, "not_applied"},
		{"for just not long enough", differs(func(s *Snapshot) { s.Config.Since = now.Add(-editing + 1) }), Inactive, ""},
		{"while a rollout replaces the pods", differs(func(s *Snapshot) { s.Placement.RollingOut = true }), Inactive, ""},
		{"in a ConfigMap that the pod does not mount", differs(func(s *Snapshot) { s.Pods.List[0].ConfigFrom = "kube-system/other" }), Inactive, ""},
		{"on Windows, where scripts write it anew", differs(func(s *Snapshot) { s.Windows = true }), Inactive, ""},
		{"in a ConfigMap that it does not read", differs(func(s *Snapshot) { s.Pods.List[0].ConfigFrom = "" }), Inactive, ""},
		{"of a pod that goes", differs(func(s *Snapshot) { s.Pods.List[0].Deleting = true }), Inactive, ""},
		{"and nobody asked the process", differs(func(s *Snapshot) { s.Running = nil }), Inactive, ""},
		{"and it did not tell its settings", differs(func(s *Snapshot) { s.Running.Settings = nil }), Inactive, ""},
		{"and its form does not show the setting", differs(func(s *Snapshot) { delete(s.Running.Settings.Settings, "oomscoreadj") }), Inactive, ""},

		{"left to kube-proxy, which chose", pair("conntrack.maxpercore", "0", "32768"), Inactive, ""},
		{"an empty duration", pair("configsyncperiod", "0s", "15m0s"), Inactive, ""},
		{"an empty list", pair("nodeportaddresses", "[]", `["primary"]`), Inactive, ""},
		{"a list", pair("nodeportaddresses", `["10.0.0.0/8"]`, `["primary"]`), Active, "not_applied"},
		{"false and true", pair("enableprofiling", "false", "true"), Active, "not_applied"},
		{"a template that an init container fills", pair("bindaddress", "${NODE_IP}", "10.0.0.1"), Inactive, ""},
		{"a flag overrides it", pair("logging.verbosity", "2", "4"), Inactive, ""},
		{"of a mode that does not run", pair("iptables.masqueradeall", "true", "false"), Inactive, ""},
		{"of the mode that runs", pair("nftables.masqueradeall", "true", "false"), Active, "not_applied"},
		{"an address without its port", pair("metricsbindaddress", "0.0.0.0", "0.0.0.0:10249"), Inactive, ""},
		{"an address without its port, v6", pair("healthzbindaddress", "::", "[::]:10256"), Inactive, ""},
		{"another address without its port", pair("metricsbindaddress", "10.0.0.1", "0.0.0.0:10249"), Active, "not_applied"},
		{"a feature gate that is not among those that run", func(s *Snapshot) {
			pair("clustercidr", "10.244.0.0/16", "10.244.0.0/16")(s)
			s.Config.Settings["featuregates.somenewgate"] = "true"
		}, Active, "not_applied"},
		{"a feature gate, in a form that may show none", func(s *Snapshot) { s.Config.Settings["featuregates.somenewgate"] = "true" }, Inactive, ""},

		{"a mode that was not applied", func(s *Snapshot) { s.Config.Mode, s.Config.Settings["mode"] = "iptables", "iptables" }, Active, "not_applied"},
		{"a mode that fell back to another", func(s *Snapshot) {
			s.Config.Mode, s.Running.Settings.Settings["mode"], s.Config.Settings["mode"] = "ipvs", "ipvs", "ipvs"
			s.Running.Mode = "iptables"
		}, Active, "mode"},
		{"another mode, and no word of the settings", func(s *Snapshot) { s.Config.Mode, s.Running.Settings = "iptables", nil }, Active, "mode"},
		{"the default mode", func(s *Snapshot) { s.Config.Mode, s.Config.Settings["mode"] = "", "" }, Inactive, ""},

		{"it looks for another Node", func(s *Snapshot) { s.Running.Hostname = "other" }, Active, "hostname"},
		{"the ranges that run count, not those of the ConfigMap", pair("clustercidr", "10.0.0.0/16", "10.244.0.0/16"), Active, "not_applied"},
		{"the ranges that run are beside", func(s *Snapshot) { pair("clustercidr", "10.0.0.0/16", "10.0.0.0/16")(s) }, Active, "cluster_cidr"},
		{"the ranges that run, without a ConfigMap", func(s *Snapshot) {
			pair("clustercidr", "", "10.0.0.0/16")(s)
			s.Config = &Config{Missing: true}
		}, Active, "cluster_cidr"},
		{"kube-proxy runs without ranges", pair("detectlocalmode", "NodeCIDR", "NodeCIDR"), Inactive, ""},
	})
}

func TestForeignMetricsPort(t *testing.T) {
	foreign := func(change func(*Snapshot)) func(*Snapshot) {
		return func(s *Snapshot) {
			s.Running = &Running{Foreign: true}
			change(s)
		}
	}
	atBoundary(t, portConflict, []boundary{
		{"somebody else answers", foreign(func(*Snapshot) {}), Active, "metrics"},
		{"nobody answers any more", foreign(func(s *Snapshot) { s.Ports.Metrics = noAnswer(10249, PortRefused) }), Unknown, ""},
		{"once only", foreign(func(s *Snapshot) { s.Ports.Metrics.Times = confirmed - 1 }), Unknown, ""},
	})
}
