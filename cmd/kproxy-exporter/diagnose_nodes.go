package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kproxy-exporter/kproxy-exporter/collector"
	"github.com/kproxy-exporter/kproxy-exporter/collector/kubeapi"
)

const (
	// askWithin is how long all nodes' exporters may take, askOne how long one may.
	askWithin = 20 * time.Second
	askOne    = 5 * time.Second
	askAtOnce = 16
	// askRate is how many are asked in a second.
	askRate = 50
	// pageBytes is the most that one may answer.
	pageBytes = 4 << 20
)

// askNodes puts to a report what the node role says of each node, where it runs: the
// rules, the probes, and what else only the node can see.
func askNodes(ctx context.Context, cfg config, report collector.Report, errOut io.Writer) {
	if cfg.diagnose.nodeNamespace == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	pods, client, err := nodePods(ctx, cfg)
	if err != nil {
		fmt.Fprintf(errOut, "the node role was not asked: %v\n", err)
		return
	}
	var mu sync.Mutex
	var failed []string
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(askAtOnce)
	for i := range report.Nodes {
		n := &report.Nodes[i]
		pod, ok := pods[n.Node]
		if !ok || cfg.diagnose.node != "" && cfg.diagnose.node != n.Node {
			continue
		}
		g.Go(func() error {
			one, err := askNode(ctx, client, pod, n.Node)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = append(failed, fmt.Sprintf("%s (%v)", n.Node, err))
				return nil
			}
			n.Add(one)
			return nil
		})
	}
	_ = g.Wait()
	if len(failed) > 0 {
		fmt.Fprintf(errOut, "the node role did not answer on %s\n", shorten(failed))
	}
}

// nodePods are the node role's pods that run, by node.
func nodePods(ctx context.Context, cfg config) (map[string]*corev1.Pod, *kubeapi.Client, error) {
	access, err := apiAccess(cfg)
	if err != nil {
		return nil, nil, err
	}
	access.QPS, access.Burst = askRate, askRate
	client, err := kubeapi.New(access)
	if err != nil {
		return nil, nil, err
	}
	list, err := client.List(ctx, kubeapi.Pods, cfg.diagnose.nodeNamespace, metav1.ListOptions{LabelSelector: cfg.diagnose.nodeSelector})
	if err != nil {
		return nil, nil, err
	}
	out := map[string]*corev1.Pod{}
	for i := range list.(*corev1.PodList).Items {
		if p := &list.(*corev1.PodList).Items[i]; p.Status.Phase == corev1.PodRunning {
			out[p.Spec.NodeName] = p
		}
	}
	return out, client, nil
}

// askNode asks the node role on one node.
func askNode(ctx context.Context, client *kubeapi.Client, pod *corev1.Pod, node string) (collector.NodeReport, error) {
	ctx, cancel := context.WithTimeout(ctx, askOne)
	defer cancel()
	body, err := client.Page(ctx, pod.Namespace, pod.Name, metricsPort(pod), "causes", map[string]string{"format": "json"})
	if apierrors.IsUnauthorized(err) { // the API server itself has let us list the pods
		err = fmt.Errorf("it asks for a user, whom the API server's proxy cannot give it: %w", err)
	}
	if err != nil {
		return collector.NodeReport{}, err
	}
	defer body.Close()
	var r collector.Report
	if err := json.NewDecoder(io.LimitReader(body, pageBytes)).Decode(&r); err != nil {
		return collector.NodeReport{}, fmt.Errorf("what it answers at /causes: %w", err)
	}
	for _, n := range r.Nodes {
		if n.Node == node {
			return n, nil
		}
	}
	return collector.NodeReport{}, errors.New("it answers for another node")
}

// metricsPort is the number of a pod's port metrics.
func metricsPort(pod *corev1.Pod) string {
	for _, c := range pod.Spec.Containers {
		for _, p := range c.Ports {
			if p.Name == "metrics" {
				return fmt.Sprint(p.ContainerPort)
			}
		}
	}
	return "19249"
}
