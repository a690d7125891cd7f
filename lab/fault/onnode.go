package fault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kproxy-exporter/kproxy-exporter/lab/cluster"
)

// ownFaults are those of which only the node itself can tell.
var ownFaults = []Fault{
	{
		Name: "api-stopped", Breaks: "the API server is stopped", EverywhereOnNode: true, OnNode: "api_unreachable/refused", survived: true,
		inject: func(_ context.Context, t *target) error {
			cp, err := t.cluster.Node(cluster.ControlPlane)
			if err != nil {
				return err
			}
			return cp.StopService("kube-apiserver", syscall.SIGKILL)
		},
		heal: func(ctx context.Context, t *target) error {
			cp, err := t.cluster.Node(cluster.ControlPlane)
			if err != nil {
				return err
			}
			if err := startIfStopped(cp, "kube-apiserver"); err != nil {
				return err
			}
			return t.cluster.WaitAPI(ctx, cp, time.Minute)
		},
	},
	firewalled("api-blackholed", "a firewall on the node drops what it sends to the API server", "drop", "api_unreachable/timeout"),
	firewalled("api-rejected", "a firewall on the node resets its connections to the API server", "reject with tcp reset", "api_unreachable/refused"),
	{
		Name: "load-balancer-dead", Breaks: "the kubeconfig names a load balancer's address at which nobody is any more", OnNode: "api_unreachable/timeout",
		inject: editKubeconfig("https://10.99.0.1:6443", "https://10.99.0.199:6443"),
	},
	{
		Name: "api-name-unknown", Breaks: "the kubeconfig names the API server by a name that nobody knows", OnNode: "api_unreachable/dns",
		inject: editKubeconfig("https://10.99.0.1:6443", "https://api.lab.invalid:6443"),
	},
	{
		Name: "process-stopped", Breaks: "kube-proxy's process is stopped by a signal", OnNode: "rules_stale/sync_stuck",
		inject: func(_ context.Context, t *target) error { return t.signalKubeProxy("STOP") },
		heal:   func(_ context.Context, t *target) error { return t.signalKubeProxy("CONT") },
	},
	{
		Name: "sync-fails", Breaks: "the program with which kube-proxy writes its rules is gone while it runs, and a Service changes",
		OnNode: "prerequisite_missing/binary", BesideOnNode: []string{"rules_stale"}, // some of it at once, the rest after half a minute
		inject: func(ctx context.Context, t *target) error {
			if err := t.takeTools(); err != nil {
				return err
			}
			return t.addService(ctx)
		},
		heal: removeService,
	},
	{
		Name: "sync-refused", Breaks: "somebody else's table has the name of kube-proxy's while it runs, and a Service changes", OnNode: "rules_stale/sync_failing", Modes: []string{"nftables"},
		BesideOnNode: []string{"vip_unreachable"}, Within: 2 * time.Minute,
		inject: func(ctx context.Context, t *target) error {
			if err := t.takeTable(); err != nil {
				return err
			}
			return t.addService(ctx)
		},
		heal: func(ctx context.Context, t *target) error {
			if err := giveTable(ctx, t); err != nil {
				return err
			}
			return removeService(ctx, t)
		},
	},
	{
		Name: "connections-forgotten", Breaks: "kube-proxy's connection to the API server is dropped in silence while new ones work, and a Service changes",
		OnNode: "rules_stale/watch_stale", Within: 3 * time.Minute,
		inject: func(ctx context.Context, t *target) error {
			// As before Kubernetes 1.20, and with proxies that answer pings themselves.
			if err := editPodSpec(func(s *corev1.PodSpec) {
				s.Containers[0].Env = append(s.Containers[0].Env, corev1.EnvVar{Name: "HTTP2_READ_IDLE_TIMEOUT_SECONDS", Value: "0"})
			})(ctx, t); err != nil {
				return err
			}
			if err := t.cluster.WaitReady(ctx, waitReady); err != nil {
				return err
			}
			if err := t.awaitQuiet(ctx); err != nil {
				return err
			}
			if err := t.forgetConnections(); err != nil {
				return err
			}
			return t.addService(ctx)
		},
		heal: func(ctx context.Context, t *target) error {
			if err := unfirewall(ctx, t); err != nil {
				return err
			}
			return removeService(ctx, t)
		},
	},
	{
		Name: "vip-rules-gone", Breaks: "somebody removes the rules of the Service kubernetes", OnNode: "rules_stale/drift", BesideOnNode: []string{"vip_unreachable"},
		inject: func(ctx context.Context, t *target) error {
			if err := t.awaitSynced(ctx); err != nil { // or it writes them after us
				return err
			}
			if t.cluster.Mode == "nftables" {
				_, err := t.machine.Run("nft", "delete element ip kube-proxy service-ips { 10.96.0.1 . tcp . 443 }")
				return err
			}
			// The chain's name is a hash of default/kubernetes:https and tcp.
			_, err := t.machine.Run("iptables-nft", "-w", "-t", "nat", "-F", "KUBE-SVC-NPX46M4PTMTKRN6Y")
			return err
		},
	},
	{
		// kube-proxy 1.37 takes its own rules for somebody else's then, and removes them.
		Name: "image-without-protocols", Breaks: "the image has no /etc/protocols, and the pod is restarted: each second time no Service has rules, and kube-proxy says that it is well",
		// Some Services may be written again before it is looked at.
		OnNode: "rules_stale/flushed", OrOnNode: "rules_stale/drift", BesideOnNode: []string{"vip_unreachable"}, Modes: []string{"nftables"},
		// After a kube-proxy that was away for long the audit begins anew, and waits for what may be on its way.
		Within: 3 * time.Minute,
		inject: editPodSpec(func(s *corev1.PodSpec) {
			s.Volumes = append(s.Volumes, corev1.Volume{Name: "none", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/dev/null"}}})
			s.Containers[0].VolumeMounts = append(s.Containers[0].VolumeMounts, corev1.VolumeMount{Name: "none", MountPath: "/etc/protocols"})
		}),
	},
	{
		Name: "ip-forward-off", Breaks: "somebody switches the node's forwarding off", OnNode: "prerequisite_missing/sysctl", Within: 2 * time.Minute,
		inject: func(_ context.Context, t *target) error {
			_, err := t.machine.Run("sysctl", "-w", "net.ipv4.ip_forward=0")
			return err
		},
		heal: func(_ context.Context, t *target) error {
			_, err := t.machine.Run("sysctl", "-w", "net.ipv4.ip_forward=1")
			return err
		},
	},
	{
		Name: "never-synced", Breaks: "kube-proxy starts well and cannot write its first rules", OnNode: "rules_stale/never_synced", Modes: []string{"nftables"},
		BesideOnNode: []string{"vip_unreachable"}, Within: 2 * time.Minute,
		inject: func(ctx context.Context, t *target) error {
			if err := t.takeTable(); err != nil {
				return err
			}
			return t.deletePod(ctx)
		},
		heal: giveTable,
	},
	{
		Name: "rules-of-nftables-left", Breaks: "the table of mode nftables is left behind", OnNode: "conflicting_rules/other_mode", Modes: []string{"iptables"},
		inject: func(_ context.Context, t *target) error {
			_, err := t.machine.Run("nft", "add table ip kube-proxy; add chain ip kube-proxy nat-prerouting { type nat hook prerouting priority -100; }")
			return err
		},
		heal: func(_ context.Context, t *target) error {
			if t.cluster.Mode == "nftables" {
				return nil // it is its own
			}
			_, err := t.machine.Run("sh", "-c", "nft delete table ip kube-proxy 2>/dev/null || true")
			return err
		},
	},
	leftChains("rules-of-iptables-left", "iptables-nft", "conflicting_rules/other_mode", "nftables"),
	leftChains("rules-of-legacy-left", "iptables-legacy", "conflicting_rules/legacy_and_nft"),
}

// leftChains leaves a chain of kube-proxy behind that packets meet.
func leftChains(name, program, onNode string, modes ...string) Fault {
	return Fault{
		Name: name, Breaks: "chains that kube-proxy wrote by " + program + " are left behind", OnNode: onNode, Modes: modes,
		inject: func(_ context.Context, t *target) error {
			_, err := t.machine.Run("sh", "-c", program+" -t nat -N KUBE-SERVICES && "+program+" -t nat -I PREROUTING -j KUBE-SERVICES")
			return err
		},
		heal: func(_ context.Context, t *target) error {
			if len(modes) > 0 && !slices.Contains(modes, t.cluster.Mode) {
				return nil // it is its own
			}
			_, err := t.machine.Run("sh", "-c", program+" -t nat -D PREROUTING -j KUBE-SERVICES 2>/dev/null; "+program+" -t nat -X KUBE-SERVICES 2>/dev/null; true")
			return err
		},
	}
}

const probeService = "kproxy-lab-fault"

// firewalled cuts the node's way to the API server, however it goes.
func firewalled(name, breaks, verdict, onNode string) Fault {
	return Fault{
		Name: name, Breaks: breaks, OnNode: onNode, survived: true,
		inject: func(_ context.Context, t *target) error {
			_, err := t.machine.Run("nft", "add table inet lab; add chain inet lab out { type filter hook output priority 10; }; add rule inet lab out ip daddr 10.99.0.1 tcp dport 6443 "+verdict)
			return err
		},
		heal: unfirewall,
	}
}

func unfirewall(_ context.Context, t *target) error {
	_, err := t.machine.Run("sh", "-c", "nft delete table inet lab 2>/dev/null || true")
	return err
}

// addService changes what the API wants of kube-proxy.
func (t *target) addService(ctx context.Context) error {
	_, err := t.client.CoreV1().Services("default").Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: probeService},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	return err
}

func removeService(ctx context.Context, t *target) error {
	return gone(t.client.CoreV1().Services("default").Delete(ctx, probeService, metav1.DeleteOptions{}))
}

// takeTable puts a table of kube-proxy's name that is somebody else's in place
// of its own: each of its transactions fails.
func (t *target) takeTable() error {
	_, err := t.machine.Run("sh", "-c", "nft delete table ip kube-proxy 2>/dev/null; nft 'add table ip kube-proxy; add map ip kube-proxy service-ips { type mark : verdict; }'")
	return err
}

func giveTable(_ context.Context, t *target) error {
	_, err := t.machine.Run("sh", "-c", "nft delete table ip kube-proxy 2>/dev/null || true")
	return err
}

// awaitSynced waits until the node's kube-proxy has written its rules.
func (t *target) awaitSynced(ctx context.Context) error {
	for {
		out, err := t.machine.Run("/opt/lab/kproxy-lab", "scrape", "--prefix=kubeproxy_sync_proxy_rules_last_timestamp_seconds{", "http://127.0.0.1:10249/metrics")
		if err == nil && !strings.Contains(out, `"Lines":0`) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// awaitQuiet waits until the node's kube-proxy has heard of no change for a
// while: one within a minute of the last may be the one that it heard of.
func (t *target) awaitQuiet(ctx context.Context) error {
	const quiet = 70 * time.Second
	for {
		var heard struct {
			Lines int
			Max   float64
		}
		out, err := t.machine.Run("/opt/lab/kproxy-lab", "scrape", "--prefix=kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{", "http://127.0.0.1:10249/metrics")
		if err == nil {
			err = json.Unmarshal([]byte(out), &heard)
		}
		if err == nil && heard.Lines > 0 && heard.Max > 0 && time.Since(time.UnixMicro(int64(heard.Max*1e6))) > quiet {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("kube-proxy on %s hears of changes all the time: %+v: %w", t.node, heard, errors.Join(err, ctx.Err()))
		case <-time.After(time.Second):
		}
	}
}

// forgetConnections drops what goes over the connections that kube-proxy has to
// the API server now.
func (t *target) forgetConnections() error {
	out, err := t.machine.Run("sh", "-c", `ss -tnpH state established dst 10.99.0.1:6443 | grep '"kube-proxy"' | awk '{print $3}' | sed 's/.*://'`)
	if err != nil {
		return err
	}
	ports := strings.Fields(out)
	if len(ports) == 0 {
		return fmt.Errorf("kube-proxy on %s has no connection to the API server", t.node)
	}
	set := "{ " + strings.Join(ports, ", ") + " }"
	_, err = t.machine.Run("nft", "add table inet lab; "+
		"add chain inet lab out { type filter hook output priority 10; }; add rule inet lab out ip daddr 10.99.0.1 tcp sport "+set+" drop; "+
		"add chain inet lab in { type filter hook input priority 10; }; add rule inet lab in ip saddr 10.99.0.1 tcp dport "+set+" drop")
	return err
}

// signalKubeProxy signals the node's kube-proxy, which is in its machine alone.
func (t *target) signalKubeProxy(signal string) error {
	out, err := t.machine.Run("sh", "-c", "for p in /proc/[0-9]*; do if [ \"$(cat $p/comm 2>/dev/null)\" = kube-proxy ]; then kill -"+signal+" ${p#/proc/} && echo done; fi; done; true")
	if err == nil && signal == "STOP" && !strings.Contains(out, "done") {
		err = fmt.Errorf("no kube-proxy runs on %s", t.node)
	}
	return err
}

// takeTools removes, from the node's running kube-proxy alone, the programs with
// which it writes its rules.
func (t *target) takeTools() error {
	out, err := t.machine.Run("sh", "-c", `for p in /proc/[0-9]*; do
		[ "$(cat $p/comm 2>/dev/null)" = kube-proxy ] || continue
		for f in nft iptables-restore ip6tables-restore; do for d in usr/sbin usr/bin sbin bin; do
			if [ -e $p/root/$d/$f ] || [ -L $p/root/$d/$f ]; then rm $p/root/$d/$f && echo done; fi
		done; done
	done; true`)
	if err == nil && !strings.Contains(out, "done") {
		err = fmt.Errorf("kube-proxy on %s has no such program: %s", t.node, out)
	}
	return err
}
