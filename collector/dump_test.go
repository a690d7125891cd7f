package collector

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

const (
	dumpNodes = `{"kind":"NodeList","items":[{"metadata":{"name":"n1"},"status":{"conditions":[{"type":"Ready","status":"True","lastHeartbeatTime":"2026-11-01T03:00:00Z"},{"type":"MemoryPressure","status":"False"}]}},
		{"metadata":{"name":"n2"},"status":{"conditions":[{"type":"Ready","status":"True"},{"type":"MemoryPressure","status":"False"}]}}]}`
	dumpDaemonSets = `{"items":[{"metadata":{"name":"kube-proxy","namespace":"kube-system"},"spec":{"template":{"metadata":{"labels":{"k8s-app":"kube-proxy"}}}}}]}`
	dumpConfig     = `{"items":[{"metadata":{"name":"kube-proxy","namespace":"kube-system"},"data":{"config.conf":"kind: KubeProxyConfiguration\n"}}]}`
)

func dumpPod(node, status string) string {
	return fmt.Sprintf(`{"metadata":{"name":"kube-proxy-%s","namespace":"kube-system","labels":{"k8s-app":"kube-proxy"}},"spec":{"nodeName":"%s","containers":[{"name":"kube-proxy"}]},"status":%s}`, node, node, status)
}

const wellPod = `{"phase":"Running","conditions":[{"type":"Ready","status":"True"}],"containerStatuses":[{"name":"kube-proxy","ready":true,"state":{"running":{"startedAt":"2026-10-01T00:00:00Z"}}}]}`

func wholeDump() fstest.MapFS {
	return fstest.MapFS{
		"nodes.json":                  {Data: []byte(dumpNodes)},
		"kube-system/pods.json":       {Data: []byte(`{"items":[` + dumpPod("n1", wellPod) + "," + dumpPod("n2", wellPod) + `]}`)},
		"kube-system/daemonsets.json": {Data: []byte(dumpDaemonSets)},
		"kube-system/configmaps.json": {Data: []byte(dumpConfig)},
		"kube-system/events.json":     {Data: []byte(`{"items":[]}`)},
		"kube-system/services.json":   {Data: []byte(`{"items":[]}`)},
		"kube-system/kube-proxy-n1/logs.txt": {Data: []byte("==== START logs for container kube-proxy of pod kube-system/kube-proxy-n1 ====\n" +
			"E1101 02:59:00.000000 1 server.go:256] \"Kube-proxy configuration may be incomplete or incorrect\" err=\"nodePortAddresses is unset; x\"\n==== END logs ====\n")},
	}
}

// primaries is "cause/detail" of each node, or its state.
func primaries(r Report) map[string]string {
	out := map[string]string{}
	for _, n := range r.Nodes {
		out[n.Node] = n.State()
		if n.Primary != nil {
			out[n.Node] = n.Primary.Cause + "/" + n.Primary.Detail
		}
	}
	return out
}

func judgeDump(t *testing.T, files fstest.MapFS) (map[string]string, *Dump) {
	t.Helper()
	d, err := OpenDump(files, "kube-system", []string{"k8s-app=kube-proxy"})
	if err != nil {
		t.Fatal(err)
	}
	return primaries(d.Report()), d
}

func TestDump(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	const bad = "E1101 02:59:00.000000 1 run.go:72] \"command failed\" err=\"failed validate: KubeProxyConfiguration.Mode: Invalid value\"\n"
	for _, tc := range []struct {
		name   string
		change func(fstest.MapFS)
		want   map[string]string
		// problem is in one of the sentences about files; none if empty.
		problem string
	}{
		{"all is well", func(fstest.MapFS) {}, map[string]string{"n1": "healthy", "n2": "healthy"}, ""},
		{"a log of a pod that says it is well", func(d fstest.MapFS) { d["kube-system/kube-proxy-n2/logs.txt"] = file(bad) },
			map[string]string{"n1": "healthy", "n2": "crash_loop/config_invalid"}, ""},
		{"a previous log", func(d fstest.MapFS) { d["kube-system/kube-proxy-n2/logs-previous.txt"] = file(bad) },
			map[string]string{"n1": "healthy", "n2": "crash_loop/config_invalid"}, ""},
		{"no nodes", func(d fstest.MapFS) { delete(d, "nodes.json") }, map[string]string{"n1": "unknown", "n2": "unknown"}, "nodes.json"},
		{"no DaemonSets", func(d fstest.MapFS) { delete(d, "kube-system/daemonsets.json") }, map[string]string{"n1": "unknown", "n2": "unknown"}, "daemonsets.json"},
		{"a pod that is missing", func(d fstest.MapFS) {
			d["kube-system/pods.json"] = file(`{"items":[` + dumpPod("n1", wellPod) + `]}`)
		}, map[string]string{"n1": "healthy", "n2": "missing_on_node/not_created"}, ""},
		{"only a log", func(d fstest.MapFS) {
			for name := range d {
				delete(d, name)
			}
			d["kube-system/kube-proxy-x/logs.txt"] = file(bad)
		}, map[string]string{"(node of kube-proxy-x)": "crash_loop/config_invalid"}, "pods.json"},
		{"truncated", func(d fstest.MapFS) { d["kube-system/pods.json"] = file(`{"items":[{"metadata"`) }, map[string]string{"(node of kube-proxy-n1)": "unknown", "n1": "unknown", "n2": "unknown"}, "unexpected end"},
		{"one object that is none", func(d fstest.MapFS) {
			d["kube-system/pods.json"] = file(`{"items":["x",` + dumpPod("n1", wellPod) + "," + dumpPod("n2", wellPod) + `]}`)
		}, map[string]string{"n1": "healthy", "n2": "healthy"}, "item 0"},
		{"nothing where an object should be", func(d fstest.MapFS) {
			d["nodes.json"] = file(strings.Replace(dumpNodes, `"items":[`, `"items":[null,{},`, 1))
		}, map[string]string{"n1": "healthy", "n2": "healthy"}, "item 0 is empty"},
		{"a pod of another name and other labels", func(d fstest.MapFS) {
			exporter := strings.NewReplacer(`"k8s-app":"kube-proxy"`, `"app":"kube-proxy-exporter"`, `"name":"kube-proxy-n2"`, `"name":"kube-proxy-exporter-x"`).
				Replace(dumpPod("n2", `{"containerStatuses":[{"state":{"waiting":{"reason":"CrashLoopBackOff"}}}]}`))
			d["kube-system/pods.json"] = file(`{"items":[` + dumpPod("n1", wellPod) + "," + dumpPod("n2", wellPod) + "," + exporter + `]}`)
		}, map[string]string{"n1": "healthy", "n2": "healthy"}, ""},
		{"a log of long ago of a container that has run well since", func(d fstest.MapFS) {
			d["kube-system/pods.json"] = file(`{"items":[` + dumpPod("n1", wellPod) + "," + dumpPod("n2", strings.Replace(wellPod, `"ready":true,`,
				`"ready":true,"restartCount":1,"lastState":{"terminated":{"exitCode":1,"finishedAt":"2026-09-30T00:00:00Z"}},`, 1)) + `]}`)
			d["kube-system/kube-proxy-n2/logs-previous.txt"] = file(bad)
		}, map[string]string{"n1": "healthy", "n2": "healthy"}, ""},
		{"a watch that failed, of a pod that is well", func(d fstest.MapFS) {
			d["kube-system/kube-proxy-n2/logs.txt"] = file("E1101 02:58:00.000000 1 reflector.go:227] \"Failed to watch\" err=\"failed to list *v1.Node: nodes is forbidden: User x cannot list resource\"\n")
		}, map[string]string{"n1": "healthy", "n2": "healthy"}, ""},
		{"a watch that fails", func(d fstest.MapFS) {
			d["kube-system/kube-proxy-n2/logs.txt"] = file("E1101 02:58:01.000000 1 reflector.go:227] \"Failed to watch\" err=\"failed to list *v1.Node: nodes is forbidden: User x cannot list resource\"\n")
		}, map[string]string{"n1": "healthy", "n2": "api_unreachable/forbidden"}, ""},
		{"a watch that failed at another time altogether", func(d fstest.MapFS) {
			d["kube-system/kube-proxy-n2/logs.txt"] = file("E0301 02:58:00.000000 1 reflector.go:227] \"Failed to watch\" err=\"failed to list *v1.Node: nodes is forbidden: User x cannot list resource\"\n")
		}, map[string]string{"n1": "healthy", "n2": "api_unreachable/forbidden"}, ""},
		{"an event without a time", func(d fstest.MapFS) {
			d["kube-system/pods.json"] = file(`{"items":[` + dumpPod("n1", wellPod) + `]}`)
			d["kube-system/events.json"] = file(`{"items":[{"involvedObject":{"kind":"DaemonSet","name":"kube-proxy"},"reason":"FailedCreate","message":"violates PodSecurity"},{"reason":"other"}]}`)
		}, map[string]string{"n1": "healthy", "n2": "security_policy/pod_security"}, ""},
		{"a pod that the scheduler refuses", func(d fstest.MapFS) {
			d["kube-system/pods.json"] = file(`{"items":[` + dumpPod("n1", wellPod) + `,{"metadata":{"name":"kube-proxy-p","namespace":"kube-system"},"spec":{"nodeName":"n2"},"status":{"phase":"Pending"}}]}`)
			d["kube-system/events.json"] = file(`{"items":[{"involvedObject":{"kind":"Pod","name":"kube-proxy-p"},"reason":"FailedScheduling","message":"0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match node selector."}]}`)
		}, map[string]string{"n1": "healthy", "n2": "missing_on_node/fit"}, ""},
		{"only the name of a waiting state", func(d fstest.MapFS) {
			d["kube-system/pods.json"] = file(`{"items":[` + dumpPod("n1", wellPod) + "," + dumpPod("n2", `{"containerStatuses":[{"state":{"waiting":{"reason":"CrashLoopBackOff"}}}]}`) + `]}`)
		}, map[string]string{"n1": "healthy", "n2": "crash_loop/other"}, ""},
		{"one node and only a log", func(d fstest.MapFS) {
			delete(d, "kube-system/pods.json")
			d["nodes.json"] = file(`{"items":[{"metadata":{"name":"n1"},"status":{"conditions":[{"type":"Ready","status":"True"}]}}]}`)
			d["kube-system/kube-proxy-n1/logs.txt"] = file(bad)
		}, map[string]string{"n1": "crash_loop/config_invalid"}, "pods.json"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			files := wholeDump()
			tc.change(files)
			got, d := judgeDump(t, files)
			if fmt.Sprint(got) != fmt.Sprint(tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
			if said := strings.Join(d.Problems, "\n"); (tc.problem == "") != (said == "") || !strings.Contains(said, tc.problem) {
				t.Errorf("problems are %q, want one with %q", said, tc.problem)
			}
		})
	}
}

// Whatever a file holds, there is an answer.
func FuzzDump(f *testing.F) {
	names := []string{"nodes.json", "kube-system/pods.json", "kube-system/events.json", "kube-system/daemonsets.json", "kube-system/configmaps.json", "kube-system/kube-proxy-n1/logs.txt"}
	for i, name := range names {
		if file := wholeDump()[name]; file != nil {
			f.Add(i, string(file.Data))
		}
	}
	f.Add(1, `{"items":[{"status":{"containerStatuses":[{"state":{"running":{}}}],"initContainerStatuses":[{}]}},null,{}]}`)
	f.Add(0, `{"items":[{"spec":{"podCIDRs":["x"],"taints":[{}]},"status":{"addresses":[{"type":"InternalIP"}]}}]}`)
	f.Fuzz(func(t *testing.T, which int, text string) {
		files := wholeDump()
		files[names[((which%len(names))+len(names))%len(names)]] = &fstest.MapFile{Data: []byte(text)}
		d, err := OpenDump(files, "kube-system", []string{"k8s-app=kube-proxy"})
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range d.Report().Nodes {
			if n.Primary != nil && !slices.ContainsFunc(n.Causes, func(c CauseReport) bool { return c.Cause == n.Primary.Cause }) {
				t.Errorf("primary %s is not among the causes", n.Primary.Cause)
			}
		}
	})
}
