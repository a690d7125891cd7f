package collector

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/go-kit/log"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/klog/v2"

	"github.com/kproxy-exporter/kproxy-exporter/prober"
)

// large is a Cluster that reads nothing and knows many nodes that are well,
// each with its pod.
func large(b *testing.B, nodes int) *Cluster {
	b.Helper()
	c, err := NewCluster(Config{
		API: fakeAPI{fake.NewClientset()}, Namespace: "kube-system", Selectors: []string{"k8s-app=kube-proxy"},
		StaleAfter: time.Minute, PortInterval: time.Minute, Logger: log.NewNopLogger(), Klog: klog.Background(),
	})
	if err != nil {
		b.Fatal(err)
	}
	var nodeList, podList []any
	for i := range nodes {
		name := fmt.Sprintf("node-%05d.example.internal", i)
		nodeList = append(nodeList, node(name, func(n *corev1.Node) {
			n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}).String()}}
		}))
		podList = append(podList, pod(name, func(p *corev1.Pod) {
			p.Status.ContainerStatuses[0].ContainerID = "containerd://" + name
			p.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "kube-proxy"}}}}}
		}))
	}
	config := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "kube-proxy", Namespace: "kube-system"}, Data: map[string]string{"config.conf": "mode: nftables\nbindAddress: 0.0.0.0\nmetricsBindAddress: 0.0.0.0:10249\nclusterCIDR: 10.244.0.0/16\n"}}
	for _, fill := range []struct {
		table interface{ Replace([]any, string) error }
		with  []any
	}{
		{c.nodes, nodeList}, {c.pods[0], podList}, {c.daemonSets, []any{daemonSet("kube-proxy", "kube-proxy")}}, {c.configs[0], []any{config}},
		{c.configs[1], nil}, {c.configs[2], nil}, {c.services, nil}, {c.events[0], nil}, {c.events[1], nil}, {c.events[2], nil},
	} {
		if err := fill.table.Replace(fill.with, "1"); err != nil {
			b.Fatal(err)
		}
	}
	for _, r := range c.sources.readers {
		r.contact.succeeded(time.Second)
	}
	page, err := os.ReadFile("testdata/configz.json")
	if err != nil {
		b.Fatal(err)
	}
	for _, t := range c.portTargets() {
		c.ports.Note(t, prober.PortResult{Outcome: prober.Answered, Status: http.StatusOK, At: time.Now()})
		if len(t.Pages) > 0 {
			c.runs.page(t, modePage, http.StatusOK, []byte("nftables"))
			c.runs.page(t, configzPage, http.StatusOK, bytes.Replace(page, []byte(`"hostnameOverride":"n1"`), []byte(`"hostnameOverride":"`+t.Node+`"`), 1))
		}
	}
	return c
}

// BenchmarkScrape is what a scrape of a large cluster costs, and what of it is
// judging: 'make bench' compares the whole with a peer.
func BenchmarkScrape(b *testing.B) {
	c := large(b, 5000)
	b.Run("judge", func(b *testing.B) {
		for b.Loop() {
			c.Report()
		}
	})
	b.Run("whole", func(b *testing.B) {
		for b.Loop() {
			if err := c.WriteMetrics(io.Discard); err != nil {
				b.Fatal(err)
			}
		}
	})
}
