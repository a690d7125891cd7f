package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/kproxy-exporter/kproxy-exporter/lab/cluster"
)

// Scale is how many objects are pretended.
type Scale struct {
	// Nodes is the number of nodes, each with a kube-proxy pod.
	Nodes int
	// Pods is the number of other pods.
	Pods int
}

// atOnce is how many requests fill the cluster at a time.
const atOnce = 32

func nodeName(i int) string { return fmt.Sprintf("node-%05d.example.internal", i) }

// nodeIP lies in nodeRange, which the control plane's machine answers itself.
func nodeIP(i int) string { return fmt.Sprintf("10.128.%d.%d", i/250, i%250+1) }

const nodeRange = "10.128.0.0/16"

// populate creates the nodes and pods, with what a real one of each carries.
func populate(ctx context.Context, c *cluster.Cluster, s Scale) error {
	client, err := quickClient(c)
	if err != nil {
		return err
	}
	if err := parallel(ctx, s.Nodes, func(ctx context.Context, i int) error {
		if _, err := client.CoreV1().Nodes().Create(ctx, node(i), metav1.CreateOptions{}); err != nil {
			return err
		}
		return createPod(ctx, client, proxyPod(i))
	}); err != nil {
		return err
	}
	return parallel(ctx, s.Pods, func(ctx context.Context, i int) error { return createPod(ctx, client, otherPod(i, s.Nodes)) })
}

// quickClient asks as often as it wants to.
func quickClient(c *cluster.Cluster) (kubernetes.Interface, error) {
	cfg, err := c.RESTConfig()
	if err != nil {
		return nil, err
	}
	cfg.QPS = -1
	cfg.ContentType = "application/vnd.kubernetes.protobuf"
	return kubernetes.NewForConfig(cfg)
}

func parallel(ctx context.Context, n int, do func(context.Context, int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for i := range n {
		g.Go(func() error { return do(ctx, i) })
	}
	return g.Wait()
}

func createPod(ctx context.Context, client kubernetes.Interface, p *corev1.Pod) error {
	made, err := client.CoreV1().Pods(p.Namespace).Create(ctx, p, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	made.Status = p.Status
	_, err = client.CoreV1().Pods(p.Namespace).UpdateStatus(ctx, made, metav1.UpdateOptions{})
	return err
}

func node(i int) *corev1.Node {
	now := metav1.NewTime(time.Now().Add(-time.Hour))
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: nodeName(i),
			Labels: map[string]string{
				corev1.LabelHostname: nodeName(i), corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64",
				corev1.LabelInstanceTypeStable: "m.large", corev1.LabelTopologyRegion: "region-1", corev1.LabelTopologyZone: fmt.Sprintf("region-1%c", 'a'+i%3),
				"node.kubernetes.io/pool": fmt.Sprintf("pool-%d", i%7),
			},
			Annotations: map[string]string{"node.alpha.kubernetes.io/ttl": "300", "volumes.kubernetes.io/controller-managed-attach-detach": "true"},
		},
		Spec: corev1.NodeSpec{PodCIDR: fmt.Sprintf("10.244.%d.%d/29", i/32%256, i%32*8), PodCIDRs: []string{fmt.Sprintf("10.244.%d.%d/29", i/32%256, i%32*8)}},
		Status: corev1.NodeStatus{
			Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: nodeIP(i)}, {Type: corev1.NodeHostName, Address: nodeName(i)}},
			Capacity:  resources("8", "32Gi", "110"), Allocatable: resources("7", "30Gi", "110"),
			NodeInfo: corev1.NodeSystemInfo{
				KubeletVersion: cluster.KubeVersion, OSImage: "Debian GNU/Linux 12 (bookworm)", KernelVersion: "6.1.0", ContainerRuntimeVersion: "containerd://2.1.0",
				OperatingSystem: "linux", Architecture: "amd64", MachineID: fmt.Sprintf("%032x", i), SystemUUID: fmt.Sprintf("%032x", i), BootID: fmt.Sprintf("%032x", i),
			},
		},
	}
	for _, c := range []struct {
		kind   corev1.NodeConditionType
		status corev1.ConditionStatus
	}{{corev1.NodeMemoryPressure, "False"}, {corev1.NodeDiskPressure, "False"}, {corev1.NodePIDPressure, "False"}, {corev1.NodeReady, "True"}} {
		n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{
			Type: c.kind, Status: c.status, Reason: "Kubelet" + string(c.kind), Message: "the kubelet's words about " + string(c.kind),
			LastHeartbeatTime: now, LastTransitionTime: now,
		})
	}
	for k := range 50 { // the kubelet reports up to 50
		n.Status.Images = append(n.Status.Images, corev1.ContainerImage{
			Names:     []string{fmt.Sprintf("registry.example.internal/team-%d/image-%d@sha256:%064x", k%5, k, k), fmt.Sprintf("registry.example.internal/team-%d/image-%d:v1.%d", k%5, k, k)},
			SizeBytes: int64(k) << 20,
		})
	}
	return n
}

func resources(cpu, memory, pods string) corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory), corev1.ResourcePods: resource.MustParse(pods),
		corev1.ResourceEphemeralStorage: resource.MustParse("100Gi"),
	}
}

func proxyPod(i int) *corev1.Pod {
	p := pod("kube-system", fmt.Sprintf("kube-proxy-%05d", i), nodeName(i), nodeIP(i), "kube-proxy", "registry.example.internal/kube-proxy:"+cluster.KubeVersion)
	p.Labels = map[string]string{"k8s-app": "kube-proxy", "controller-revision-hash": "5d4f8c7b6f", "pod-template-generation": "1"}
	p.Spec.HostNetwork = true
	p.Spec.PriorityClassName = "system-node-critical"
	p.Spec.Containers[0].Command = []string{"/usr/local/bin/kube-proxy", "--config=/var/lib/kube-proxy/config.conf", "--hostname-override=$(NODE_NAME)"}
	p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "DaemonSet", Name: "kube-proxy", UID: "00000000-0000-0000-0000-000000000001", Controller: new(true)}}
	return p
}

func otherPod(i, nodes int) *corev1.Pod {
	p := pod("default", fmt.Sprintf("app-%05d-5d4f8c7b6f-abcde", i), nodeName(i%nodes), fmt.Sprintf("10.244.%d.%d", i/250%256, i%250+1), "app", "registry.example.internal/app:v1")
	p.Labels = map[string]string{"app.kubernetes.io/name": fmt.Sprintf("app-%d", i%500), "app.kubernetes.io/part-of": "shop", "pod-template-hash": "5d4f8c7b6f"}
	return p
}

func pod(namespace, name, onNode, ip, container, image string) *corev1.Pod {
	began := metav1.NewTime(time.Now().Add(-time.Hour))
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: corev1.PodSpec{
			NodeName: onNode,
			Containers: []corev1.Container{{
				Name: container, Image: image,
				Env:       []corev1.EnvVar{{Name: "NODE_NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "spec.nodeName"}}}},
				Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("128Mi")}},
			}},
			Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
		},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, HostIP: ip, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}, StartTime: &began, QOSClass: corev1.PodQOSBurstable,
			ContainerStatuses: []corev1.ContainerStatus{{
				Name: container, Ready: true, Started: new(true), Image: image, ImageID: image + "@sha256:" + strings.Repeat("0123456789abcdef", 4),
				ContainerID: "containerd://" + fmt.Sprintf("%064x", len(name)), State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: began}},
			}},
		},
	}
	for _, kind := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: began})
	}
	return p
}

// churn changes pods of both kinds, a hundredth of all in each minute, evenly,
// until the context ends, and returns how many. Each change is one that a
// kubelet would make.
func churn(ctx context.Context, client kubernetes.Interface, s Scale) (int, error) {
	perMinute := (s.Nodes + s.Pods) / 100
	tick := time.NewTicker(time.Minute / time.Duration(perMinute))
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return i, nil
		case <-tick.C:
		}
		p := otherPod(i%s.Pods, s.Nodes)
		if i%((s.Nodes+s.Pods)/s.Nodes) == 0 {
			p = proxyPod(i % s.Nodes)
		}
		ready := p.Status.Conditions[len(p.Status.Conditions)-1]
		ready.LastTransitionTime = metav1.Now()
		patch, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": []corev1.PodCondition{ready}}})
		if err != nil {
			return i, err
		}
		// The last change is not cut short.
		if _, err := client.CoreV1().Pods(p.Namespace).Patch(context.WithoutCancel(ctx), p.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
			return i, err
		}
	}
}
