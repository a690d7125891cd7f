package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"github.com/kproxy-exporter/kproxy-exporter/lab/cluster"
	"github.com/kproxy-exporter/kproxy-exporter/lab/exporter"
	"github.com/kproxy-exporter/kproxy-exporter/lab/machine"
)

// Limits of the node role that has all that the API wants in its memory.
const (
	auditMemory      = 80.0 // MB, resident
	auditCPU         = 1.0  // percent of a core
	endpointsPerName = 10
	auditWithin      = 10 * time.Minute
)

// auditCost measures the node role with a full desired state that the real
// kube-proxy has written: while nothing happens, and while endpoints change.
func auditCost(ctx context.Context, c *cluster.Cluster, cfg Config, out io.Writer, p *cluster.Progress) error {
	client, err := quickClient(c)
	if err != nil {
		return err
	}
	m, err := c.Node(cluster.NodeName(1))
	if err != nil {
		return err
	}
	cp, err := c.Node(cluster.ControlPlane)
	if err != nil {
		return err
	}
	url := "http://" + exporter.NodeAddress(1) + "/metrics"
	if err := p.Step(fmt.Sprintf("make %d Services of %d endpoints each", cfg.Services, endpointsPerName), func() error {
		return populateServices(ctx, client, cfg.Services)
	}); err != nil {
		return err
	}
	if err := p.Step("install the node role, and wait until it has compared all of it", func() error {
		return errors.Join(exporter.InstallNode(ctx, c, cfg.Root), untilAudited(ctx, cp, url, cfg.Services))
	}); err != nil {
		return err
	}
	calm, err := use(ctx, m, cp, url, func(context.Context) error { return nil }, p, "watch it while nothing happens")
	if err != nil {
		return err
	}
	busy, err := use(ctx, m, cp, url, func(ctx context.Context) error { return churnEndpoints(ctx, client, cfg.Services, 1) }, p, "watch it while an endpoint changes each second")
	if err != nil {
		return err
	}
	took, err := sumOf(cp, url, "kproxy_audit_duration_seconds")
	if err != nil {
		return err
	}
	if drift, err := sumOf(cp, url, "kproxy_audit_drift"); err != nil || drift.Sum != 0 {
		return errors.Join(err, fmt.Errorf("%g Services are said to differ, and none does", drift.Sum))
	}
	fmt.Fprintf(out, "\nThe node role on a cluster of one node with %d Services of %d endpoints each, mode %s, scraped every %s; the last look at the rules took %.2f s.\n",
		cfg.Services, endpointsPerName, c.Mode, interval, took.Sum)
	return errors.Join(
		print(out, "limit", []figure{
			{"resident memory, calm", "MB", calm[0].residentMB, auditMemory, 1},
			{"resident memory, an endpoint changes each second", "MB", busy[0].residentMB, auditMemory, 1},
			{"peak of it since the start", "MB", busy[0].peakMB, 0, 0},
			{"CPU, calm", "% of a core", calm[0].percent(), auditCPU, 1},
			{"CPU, an endpoint changes each second", "% of a core", busy[0].percent(), 0, 0},
		}),
		print(out, "kube-proxy", []figure{
			{"resident memory, calm", "MB", calm[0].residentMB, calm[1].residentMB, 0},
			{"CPU, calm", "% of a core", calm[0].percent(), calm[1].percent(), 0},
			{"CPU, an endpoint changes each second", "% of a core", busy[0].percent(), busy[1].percent(), 0},
		}))
}

// Fill makes Services of ten endpoints each in a lab that is up.
func Fill(ctx context.Context, c *cluster.Cluster, services int) error {
	client, err := quickClient(c)
	if err != nil {
		return err
	}
	return populateServices(ctx, client, services)
}

// Churn changes an endpoint of another of so many Services, which Fill made, each
// second until the context ends.
func Churn(ctx context.Context, c *cluster.Cluster, services int) error {
	client, err := quickClient(c)
	if err != nil {
		return err
	}
	return churnEndpoints(ctx, client, services, int(time.Now().Unix()))
}

// use is what the exporter and kube-proxy took on a node in the idle window,
// while it is scraped and something is done until the context ends.
func use(ctx context.Context, m, cp *machine.Machine, url string, do func(context.Context) error, p *cluster.Progress, step string) (out [2]stat, err error) {
	return out, p.Step(fmt.Sprintf("%s, for %s", step, idleWindow), func() error {
		before, err := both(m)
		if err != nil {
			return err
		}
		doing, stop := context.WithCancel(ctx)
		defer stop()
		done := make(chan error, 1)
		go func() { done <- do(doing) }()
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for began := time.Now(); time.Since(began) < idleWindow; {
			if _, err := scrape(cp, url, ""); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-tick.C:
			}
		}
		if out, err = both(m); err != nil {
			return err
		}
		for i := range out {
			out[i].cpu -= before[i].cpu
		}
		stop()
		return <-done
	})
}

// percent is of a core, over the idle window.
func (s stat) percent() float64 { return 100 * s.cpu / idleWindow.Seconds() }

// untilAudited waits until the node role has compared so many Services and finds
// nothing wrong.
func untilAudited(ctx context.Context, cp *machine.Machine, url string, services int) error {
	ctx, cancel := context.WithTimeout(ctx, auditWithin)
	defer cancel()
	for {
		compared, err := sumOf(cp, url, "kproxy_audit_services")
		drift, err2 := sumOf(cp, url, "kproxy_audit_drift")
		if err == nil && err2 == nil && int(compared.Sum) >= services && drift.Lines > 0 && drift.Sum == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%g of %d Services were compared, %g differ: %w", compared.Sum, services, drift.Sum, errors.Join(ctx.Err(), err, err2))
		case <-time.After(time.Second):
		}
	}
}

func sumOf(cp *machine.Machine, url, prefix string) (Scraped, error) {
	return scrape(cp, url, prefix+"{")
}

// benchNamespace is where the Services are.
const benchNamespace = "default"

func serviceName(i int) string { return fmt.Sprintf("service-%05d", i) }

// populateServices makes Services, and for each an EndpointSlice by hand.
func populateServices(ctx context.Context, client kubernetes.Interface, n int) error {
	return parallel(ctx, n, func(ctx context.Context, i int) error {
		s := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: serviceName(i), Labels: map[string]string{"app.kubernetes.io/name": serviceName(i)}},
			Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)}}},
		}
		if _, err := client.CoreV1().Services(benchNamespace).Create(ctx, s, metav1.CreateOptions{}); err != nil {
			return err
		}
		_, err := client.DiscoveryV1().EndpointSlices(benchNamespace).Create(ctx, sliceOf(i, 0), metav1.CreateOptions{})
		return err
	})
}

// turns is how many last endpoints a Service may have.
const turns = 6

// sliceOf has the endpoints of a Service; each turn has another last one.
func sliceOf(i, turn int) *discoveryv1.EndpointSlice {
	name := serviceName(i)
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name + "-abcde", Namespace: benchNamespace, Labels: map[string]string{discoveryv1.LabelServiceName: name, discoveryv1.LabelManagedBy: "bench"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Protocol: new(corev1.ProtocolTCP), Port: new(int32(8080))}},
	}
	for j := range endpointsPerName {
		n := i*endpointsPerName + j
		if j == endpointsPerName-1 {
			n += turn % turns << 20
		}
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{fmt.Sprintf("10.%d.%d.%d", 144+n>>16, n>>8&255, n&255)}, NodeName: new(fmt.Sprintf("node-%d", n%1000)), Zone: new(fmt.Sprintf("zone-%d", n%3)),
			Conditions: discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)},
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: benchNamespace, Name: fmt.Sprintf("%s-%d", name, j), UID: "0c4f2ad5-6c1f-4f7c-9a2b-0123456789ab"},
		})
	}
	return s
}

// churnEndpoints changes one endpoint of another Service each second until the context
// ends. Where it was done before, it goes on with another first turn.
func churnEndpoints(ctx context.Context, client kubernetes.Interface, n, first int) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for i := first; ; i++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if _, err := client.DiscoveryV1().EndpointSlices(benchNamespace).Update(context.WithoutCancel(ctx), sliceOf(i*37%n, i), metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
}
