package fault

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kproxy-exporter/kproxy-exporter/lab/machine"
)

// The Service whose rules are changed, and its endpoints, which nobody is.
const (
	AuditedService  = "kproxy-lab-audited"
	auditedNodePort = 30777
	auditedFirst    = "10.244.250.1"
	auditedSecond   = "10.244.250.2"
	notAnEndpoint   = "10.244.250.9"
)

// ruleFaults change the kernel's rules behind kube-proxy's back: it does not look
// at them again.
var ruleFaults = []Fault{
	changedRules("rules-flushed", "somebody flushes the rules", "rules_stale/flushed",
		"nft flush table ip kube-proxy", "iptables -w -t nat -F", "vip_unreachable"),
	changedRules("endpoint-rule-deleted", "somebody deletes the rule that leads to one endpoint of a Service", "rules_stale/drift",
		"nft replace rule ip kube-proxy $CHAIN handle $HANDLE meta l4proto tcp dnat to "+auditedFirst+":8080",
		`iptables-save -t nat | grep -e "-A KUBE-SVC" | grep -e "-> `+auditedSecond+`:8080" | sed 's/^-A/iptables -w -t nat -D/' | sh`),
	deletedAgain("service-jump-deleted", "somebody deletes what leads to a Service's endpoints", "rules_stale/drift",
		"nft delete element ip kube-proxy service-ips \"{ $VIP . tcp . 80 }\"",
		`iptables-save -t nat | grep -e "-A KUBE-SERVICES" | grep -e "$VIP/32" | sed 's/^-A/iptables -w -t nat -D/' | sh`),
	changedRules("dnat-changed", "somebody changes the address to which a rule sends", "rules_stale/drift",
		"nft replace rule ip kube-proxy $CHAIN handle $HANDLE meta l4proto tcp dnat ip addr . port to numgen random mod 2 map '{ 0 : "+auditedFirst+" . 8080, 1 : "+notAnEndpoint+" . 8080 }'",
		`set -- $(iptables -w -t nat -S | grep -e "--to-destination `+auditedSecond+`:8080"); iptables -w -t nat -R $2 2 -p tcp -j DNAT --to-destination `+notAnEndpoint+`:8080`),
	changedRules("unlinked-from-output", "somebody deletes the jump to kube-proxy's rules for what the node itself sends", "rules_stale/drift",
		`nft delete rule ip kube-proxy nat-output handle $(nft -a list chain ip kube-proxy nat-output | sed -n 's/.*jump services # handle //p')`,
		`iptables-save -t nat | grep -e "-A OUTPUT" | grep -e "-j KUBE-SERVICES" | sed 's/^-A/iptables -w -t nat -D/' | sh`, "vip_unreachable"),
	deletedAgain("node-port-removed", "somebody deletes what leads from a node's port to a Service", "rules_stale/drift",
		fmt.Sprintf("nft delete element ip kube-proxy service-nodeports '{ tcp . %d }'", auditedNodePort),
		fmt.Sprintf(`iptables-save -t nat | grep -e "-A KUBE-NODEPORTS" | grep -e "--dport %d" | sed -E 's/^-A/iptables -w -t nat -D/' | sh`, auditedNodePort)),
	{
		Name: "stopped-while-endpoints-change", Breaks: "kube-proxy's process is stopped by a signal, and an endpoint is replaced by another", OnNode: "rules_stale/sync_stuck",
		inject: func(ctx context.Context, t *target) error {
			if _, err := t.audited(ctx); err != nil {
				return err
			}
			if err := t.signalKubeProxy("STOP"); err != nil {
				return err
			}
			return t.auditedEndpoints(ctx, auditedFirst, notAnEndpoint)
		},
		heal: func(ctx context.Context, t *target) error {
			return errors.Join(t.signalKubeProxy("CONT"), t.unaudited(ctx))
		},
	},
}

// changedRules is a fault by a shell command for each of the two modes, that knows
// the Service's address as $VIP, and its chain in mode nftables as $CHAIN, with
// one rule, $HANDLE.
func changedRules(name, breaks, verdict, nftables, iptables string, beside ...string) Fault {
	return Fault{
		Name: name, Breaks: breaks, OnNode: verdict, BesideOnNode: beside,
		inject: func(ctx context.Context, t *target) error {
			vip, err := t.audited(ctx)
			if err != nil {
				return err
			}
			script := iptables
			if t.cluster.Mode == "nftables" {
				script = `CHAIN=$(nft list table ip kube-proxy | sed -n 's/.*chain \(service-.*` + AuditedService + `.*\) {/\1/p')
HANDLE=$(nft -a list chain ip kube-proxy $CHAIN | sed -n 's/.*dnat.*# handle //p')
` + nftables
			}
			_, err = t.machine.Run("sh", "-ec", "VIP="+vip+"\n"+script)
			return err
		},
		heal: func(ctx context.Context, t *target) error { return t.unaudited(ctx) },
	}
}

// deletedAgain is a changedRules of what kube-proxy in mode iptables writes with
// each of its syncs, of whatever Service: there somebody goes on deleting it, or
// the fault would end with the next change of anything in the cluster.
func deletedAgain(name, breaks, verdict, nftables, iptables string) Fault {
	const deleter = "deleter"
	f := changedRules(name, breaks, verdict, nftables, iptables)
	once, heal := f.inject, f.heal
	f.inject = func(ctx context.Context, t *target) error {
		if err := once(ctx, t); err != nil || t.cluster.Mode == "nftables" {
			return err
		}
		s, err := t.client.CoreV1().Services("default").Get(ctx, AuditedService, metav1.GetOptions{})
		if err != nil {
			return err
		}
		return t.machine.StartService(machine.Service{Name: deleter, Argv: []string{
			"/bin/sh", "-c", fmt.Sprintf("VIP=%s\nwhile sleep 0.1; do %s; done", s.Spec.ClusterIP, iptables),
		}})
	}
	f.heal = func(ctx context.Context, t *target) error {
		return errors.Join(t.machine.StopService(deleter, syscall.SIGKILL), heal(ctx, t))
	}
	return f
}

// audited makes the Service, waits until its rules are written and have stood for
// a moment, and returns its address.
func (t *target) audited(ctx context.Context) (vip string, err error) {
	s, err := t.client.CoreV1().Services("default").Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: AuditedService},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Name: "http", Port: 80, NodePort: auditedNodePort}}},
	}, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	if err := t.auditedEndpoints(ctx, auditedFirst, auditedSecond); err != nil {
		return "", err
	}
	list := "nft list table ip kube-proxy | grep -c " + auditedSecond
	if t.cluster.Mode != "nftables" {
		list = "iptables-save -t nat | grep -c -e '--to-destination " + auditedSecond + "'"
	}
	const stand = 3 * time.Second
	for wait := time.Duration(0); ; wait = 200 * time.Millisecond {
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(wait):
		}
		out, err := t.machine.Run("sh", "-c", list)
		if err == nil && strings.TrimSpace(out) != "0" {
			break
		}
	}
	select { // what comes at once would not differ from what is being written
	case <-ctx.Done():
		return "", ctx.Err()
	case <-time.After(stand):
	}
	return s.Spec.ClusterIP, nil
}

// auditedEndpoints makes the Service's endpoints.
func (t *target) auditedEndpoints(ctx context.Context, addresses ...string) error {
	protocol, port, name := corev1.ProtocolTCP, int32(8080), "http"
	e := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: AuditedService, Labels: map[string]string{discoveryv1.LabelServiceName: AuditedService}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &name, Protocol: &protocol, Port: &port}},
	}
	for _, a := range addresses {
		e.Endpoints = append(e.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}})
	}
	api := t.client.DiscoveryV1().EndpointSlices("default")
	if err := gone(api.Delete(ctx, e.Name, metav1.DeleteOptions{})); err != nil {
		return err
	}
	_, err := api.Create(ctx, e, metav1.CreateOptions{})
	return err
}

// unaudited takes the Service away.
func (t *target) unaudited(ctx context.Context) error {
	return errors.Join(gone(t.client.CoreV1().Services("default").Delete(ctx, AuditedService, metav1.DeleteOptions{})),
		gone(t.client.DiscoveryV1().EndpointSlices("default").Delete(ctx, AuditedService, metav1.DeleteOptions{})))
}
