package main

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/alecthomas/kingpin/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// targetGroup is one entry of Prometheus' HTTP service discovery.
type targetGroup struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// discoveryCommand answers what Prometheus' own Kubernetes discovery would
// find with role pod: Debian builds Prometheus without it.
func discoveryCommand(app *kingpin.Application, _ *string) (string, func() error) {
	cmd := app.Command("discovery", "Serve the pods of a namespace as Prometheus targets (the demo runs it).").Hidden()
	kubeconfig := cmd.Flag("kubeconfig", "Access to the API.").Required().String()
	listen := cmd.Flag("listen", "Address to listen on.").Required().String()
	return cmd.FullCommand(), func() error {
		cfg, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
		if err != nil {
			return err
		}
		client, err := kubernetes.NewForConfig(cfg)
		if err != nil {
			return err
		}
		mux := http.NewServeMux()
		mux.HandleFunc("GET /{namespace}", func(w http.ResponseWriter, r *http.Request) {
			pods, err := client.CoreV1().Pods(r.PathValue("namespace")).List(r.Context(), metav1.ListOptions{})
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadGateway)
				return
			}
			groups := []targetGroup{}
			for i := range pods.Items {
				if g, ok := target(&pods.Items[i]); ok {
					groups = append(groups, g)
				}
			}
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(groups)
		})
		return http.ListenAndServe(*listen, mux)
	}
}

// target is a pod as a target; one without an address is none.
func target(p *corev1.Pod) (targetGroup, bool) {
	if p.Status.PodIP == "" {
		return targetGroup{}, false
	}
	g := targetGroup{Targets: []string{p.Status.PodIP}, Labels: map[string]string{
		"__meta_kubernetes_pod_ip": p.Status.PodIP, "__meta_kubernetes_pod_phase": string(p.Status.Phase),
		"__meta_kubernetes_pod_node_name": p.Spec.NodeName, "__meta_kubernetes_pod_label_k8s_app": p.Labels["k8s-app"],
		"__meta_kubernetes_pod_ready": "unknown",
	}}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			g.Labels["__meta_kubernetes_pod_ready"] = map[bool]string{true: "true", false: "false"}[c.Status == corev1.ConditionTrue]
		}
	}
	for _, c := range p.Spec.Containers {
		for _, port := range c.Ports {
			g.Targets[0] = p.Status.PodIP + ":" + strconv.Itoa(int(port.ContainerPort))
			g.Labels["__meta_kubernetes_pod_container_port_name"] = port.Name
		}
	}
	return g, true
}
