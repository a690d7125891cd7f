package collector

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"
	"k8s.io/klog/v2"

	"github.com/kproxy-exporter/kproxy-exporter/collector/local"
)

func clusterIP(name string, ips ...string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec:       corev1.ServiceSpec{ClusterIP: ips[0], ClusterIPs: ips, Ports: []corev1.ServicePort{{Port: 80}}},
	}
}

func endpointSlice(service, address string, more ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: service + "-x", Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressType(familyOf(address)),
		Ports:       []discoveryv1.EndpointPort{{Name: new("https"), Port: new(int32(6443))}},
	}
	for _, a := range append([]string{address}, more...) {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}})
	}
	return s
}

// wanting runs test while an API with these objects is followed.
func wanting(t *testing.T, objects []runtime.Object, test func(*desired, *fake.Clientset)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(objects...)
		d := newDesired(&NodeConfig{API: fakeAPI{client}, Logger: log.NewNopLogger(), Klog: klog.Background()})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { d.sources.run(ctx); close(done) }()
		time.Sleep(2 * late)
		synctest.Wait()
		test(d, client)
		cancel()
		<-done
	})
}

// What kube-proxy must hear of, and what it need not.
func TestUnheard(t *testing.T) {
	wanting(t, []runtime.Object{clusterIP("web", "10.96.0.7"), endpointSlice("web", "10.1.0.1")}, func(d *desired, client *fake.Clientset) {
		services, slicesOf := client.CoreV1().Services("default"), client.DiscoveryV1().EndpointSlices("default")
		ctx := t.Context()
		start := time.Now()
		expect := func(what, v4, v6 string) {
			t.Helper()
			synctest.Wait()
			if got4, got6 := d.waits(familyIPv4).what, d.waits(familyIPv6).what; got4 != v4 || got6 != v6 {
				t.Errorf("%s: waits for %q and %q, want %q and %q", what, got4, got6, v4, v6)
			}
		}
		must := func(_ any, err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		expect("nothing has changed", "", "")

		labelled := clusterIP("web", "10.96.0.7")
		labelled.Labels = map[string]string{"x": "y"}
		labelled.Spec.Selector = map[string]string{"x": "y"}
		must(services.Update(ctx, labelled, metav1.UpdateOptions{}))
		external := clusterIP("out", "")
		external.Spec.Type, external.Spec.ExternalName = corev1.ServiceTypeExternalName, "x.example"
		must(services.Create(ctx, external, metav1.CreateOptions{}))
		must(services.Create(ctx, clusterIP("headless", "None"), metav1.CreateOptions{}))
		loose := endpointSlice("web", "10.1.0.9")
		loose.Name, loose.Labels = "loose", nil
		must(slicesOf.Create(ctx, loose, metav1.CreateOptions{}))
		names := endpointSlice("web", "x.example")
		names.Name, names.AddressType = "names", discoveryv1.AddressTypeFQDN
		must(slicesOf.Create(ctx, names, metav1.CreateOptions{}))
		noted := endpointSlice("web", "10.1.0.1")
		noted.Annotations = map[string]string{"endpoints.kubernetes.io/last-change-trigger-time": "x"}
		must(slicesOf.Update(ctx, noted, metav1.UpdateOptions{}))
		expect("nothing that concerns the rules", "", "")
		elsewhere := clusterIP("web", "10.96.0.7")
		elsewhere.Spec.Ports[0].TargetPort = intstr.FromInt32(8080)
		elsewhere.Spec.Ports[0].AppProtocol = new("http")
		must(services.Update(ctx, elsewhere, metav1.UpdateOptions{}))
		ready := endpointSlice("web", "10.1.0.1")
		ready.Endpoints[0].Conditions.Ready = new(true)
		must(slicesOf.Update(ctx, ready, metav1.UpdateOptions{}))
		expect("where a port leads, and what was meant anyway", "", "")

		must(slicesOf.Update(ctx, endpointSlice("web", "10.1.0.2"), metav1.UpdateOptions{}))
		expect("an endpoint", "EndpointSlice default/web-x", "")
		d.heard(familyIPv6, time.Now())
		d.heard(familyIPv4, start.Add(-late-time.Second))
		expect("another family, and an older change, were heard of", "EndpointSlice default/web-x", "")
		d.heard(familyIPv4, start.Add(-late))
		expect("it may have been faster than we", "", "")

		must(services.Create(ctx, clusterIP("dual", "10.96.0.8", "fd00::8"), metav1.CreateOptions{}))
		expect("a Service of both", "Service default/dual", "Service default/dual")
		if got := d.waits(local.NoFamily); got.what == "" || !got.at.Equal(start) {
			t.Errorf("both together: %+v", got)
		}
		time.Sleep(2 * late)
		must(nil, services.Delete(ctx, "dual", metav1.DeleteOptions{}))
		synctest.Wait() // the two watches are apart
		must(slicesOf.Create(ctx, endpointSlice("six", "fd01::1"), metav1.CreateOptions{}))
		expect("the first counts", "Service default/dual", "Service default/dual")
		d.heard(local.NoFamily, start)
		expect("the first was heard of", "Service default/dual", "EndpointSlice default/six-x")
		d.forget(familyIPv6)
		expect("another process", "Service default/dual", "")
		d.heard(familyIPv4, time.Now())
		expect("everything was heard of", "", "")
	})
}

// Order means nothing to kube-proxy.
func TestUnheardOrder(t *testing.T) {
	d := newDesired(&NodeConfig{})
	two := clusterIP("two", "10.96.0.7")
	two.Spec.Ports = []corev1.ServicePort{{Name: "a", Port: 80}, {Name: "b", Port: 81}}
	before, _ := d.convertService(two)
	slices.Reverse(two.Spec.Ports)
	if after, _ := d.convertService(two); *after.content.of(familyIPv4) != *before.content.of(familyIPv4) {
		t.Error("the order of a Service's ports is a change")
	}
	two.Spec.Ports[0].Port = 82
	if after, _ := d.convertService(two); *after.content.of(familyIPv4) == *before.content.of(familyIPv4) {
		t.Error("another port is none")
	}
	s := endpointSlice("two", "10.1.0.1", "10.1.0.2")
	s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: new("other"), Port: new(int32(81))})
	was, _ := d.convertSlice(s)
	slices.Reverse(s.Endpoints)
	slices.Reverse(s.Ports)
	if is, _ := d.convertSlice(s); *is.content.of(familyIPv4) != *was.content.of(familyIPv4) {
		t.Error("the order of an EndpointSlice's endpoints and ports is a change")
	}
	s.Endpoints[0].Conditions.Ready = new(false)
	if is, _ := d.convertSlice(s); *is.content.of(familyIPv4) == *was.content.of(familyIPv4) {
		t.Error("an endpoint that is not ready is no change")
	}
}

// A list's later pages do not move the last contact before it.
func TestPagesOfAList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &contact{logger: log.NewNopLogger()}
		lw := c.listWatch(func(context.Context, metav1.ListOptions) (runtime.Object, error) { return &corev1.ServiceList{}, nil }, nil)
		c.succeeded(0)
		last := time.Now()
		time.Sleep(10 * time.Minute)
		for _, page := range []string{"", "two", "three"} {
			if _, err := lw.ListWithContextFunc(t.Context(), metav1.ListOptions{Continue: page}); err != nil {
				t.Fatal(err)
			}
		}
		if _, before, _ := c.opening(); !before.Equal(last) {
			t.Errorf("the last contact before was %v, want %v", before, last)
		}
	})
}

// What changed while we heard nothing may have been heard of by kube-proxy then.
func TestUnheardOverAGap(t *testing.T) {
	wanting(t, []runtime.Object{clusterIP("web", "10.96.0.7")}, func(d *desired, client *fake.Clientset) {
		last := time.Now()
		c := d.sources.readers[0].contact
		c.succeeded(time.Second)
		time.Sleep(10 * time.Minute)
		c.open(time.Now())
		time.Sleep(time.Second)
		previous, _ := d.convertService(clusterIP("web", "10.96.0.7"))
		d.changed(c, false, &previous, nil, time.Now())
		if d.waits(familyIPv4).what == "" {
			t.Fatal("it is no change")
		}
		d.heard(familyIPv4, last.Add(-time.Second))
		if d.waits(familyIPv4).what == "" {
			t.Error("what was heard of before the gap is another change")
		}
		d.heard(familyIPv4, last.Add(5*time.Minute))
		if got := d.waits(familyIPv4); got.what != "" {
			t.Errorf("it waits for what happened in the gap: %+v", got)
		}
		// A watch that has been open for a while tells what is new, a list does not.
		time.Sleep(justOpened)
		d.changed(c, true, &previous, nil, time.Now())
		d.heard(familyIPv4, last.Add(5*time.Minute))
		if got := d.waits(familyIPv4); got.what != "" {
			t.Errorf("it waits for what was listed, and may be old: %+v", got)
		}
		d.changed(c, false, &previous, nil, time.Now())
		d.heard(familyIPv4, time.Now().Add(-late-1))
		if d.waits(familyIPv4).what == "" {
			t.Error("what was heard of a minute before is taken for what has just changed")
		}
	})
}

// The API servers are learnt, and kept while nobody answers.
func TestAPIServers(t *testing.T) {
	servers := func(d *desired) (out []string) {
		synctest.Wait()
		for _, a := range d.apiServers() {
			out = append(out, local.Address(a.APITarget))
		}
		return out
	}
	wanting(t, []runtime.Object{endpointSlice("kubernetes", "10.0.0.1", "10.0.0.2"), endpointSlice("web", "10.1.0.1")}, func(d *desired, client *fake.Clientset) {
		want := []string{"10.0.0.1:6443", "10.0.0.2:6443"}
		if got := servers(d); !slices.Equal(got, want) {
			t.Errorf("learnt %q", got)
		}
		if err := client.DiscoveryV1().EndpointSlices("default").Delete(t.Context(), "kubernetes-x", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if got := servers(d); !slices.Equal(got, want) {
			t.Errorf("the last ones are forgotten: %q", got)
		}
		two := endpointSlice("kubernetes", "fd00::1")
		two.Name = "two"
		if _, err := client.DiscoveryV1().EndpointSlices("default").Create(t.Context(), two, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if got := servers(d); !slices.Contains(got, "[fd00::1]:6443") {
			t.Errorf("the new one is not known: %q", got)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		client.PrependReactor("*", "endpointslices", func(k8stesting.Action) (bool, runtime.Object, error) { return true, nil, errors.New("gone") })
		d := newDesired(&NodeConfig{API: fakeAPI{client}, Logger: log.NewNopLogger(), Klog: klog.Background()})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go d.sources.run(ctx)
		if got := servers(d); len(got) != 0 {
			t.Errorf("nobody answers, and %q", got)
		}
		time.Sleep(time.Minute)
		if s := d.sources.readers[1].contact.state(time.Now(), time.Hour); s.ok || !s.failed {
			t.Errorf("the reader does not fail: %+v", s)
		}
	})
}
