package main

import (
	"encoding/json"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"unicode"

	"github.com/alecthomas/kingpin/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/kproxy-exporter/kproxy-exporter/lab/monitoring"
)

// inboxCommand receives what Alertmanager sends.
func inboxCommand(app *kingpin.Application, _ *string) (string, func() error) {
	cmd := app.Command("inbox", "Receive Alertmanager's webhooks (the matrix runs it).").Hidden()
	listen := cmd.Flag("listen", "Address to listen on.").Required().String()
	return cmd.FullCommand(), func() error { return monitoring.ServeInbox(*listen) }
}

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
				groups = append(groups, targets(&pods.Items[i])...)
			}
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(groups)
		})
		return http.ListenAndServe(*listen, mux)
	}
}

// labelRune is what Prometheus makes of a letter of a label's name.
func labelRune(r rune) rune {
	if r < 128 && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
		return r
	}
	return '_'
}

// targets is a pod as Prometheus finds it: a target for each port that it
// declares, or one without a port; none without an address.
func targets(p *corev1.Pod) []targetGroup {
	if p.Status.PodIP == "" {
		return nil
	}
	labels := map[string]string{
		"__meta_kubernetes_pod_ip": p.Status.PodIP, "__meta_kubernetes_pod_phase": string(p.Status.Phase),
		"__meta_kubernetes_namespace": p.Namespace, "__meta_kubernetes_pod_name": p.Name,
		"__meta_kubernetes_pod_node_name": p.Spec.NodeName, "__meta_kubernetes_pod_ready": "unknown",
	}
	for name, value := range p.Labels {
		labels["__meta_kubernetes_pod_label_"+strings.Map(labelRune, name)] = value
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			labels["__meta_kubernetes_pod_ready"] = map[bool]string{true: "true", false: "false"}[c.Status == corev1.ConditionTrue]
		}
	}
	var out []targetGroup
	for _, c := range p.Spec.Containers {
		for _, port := range c.Ports {
			one := maps.Clone(labels)
			one["__meta_kubernetes_pod_container_name"], one["__meta_kubernetes_pod_container_port_name"] = c.Name, port.Name
			out = append(out, targetGroup{[]string{p.Status.PodIP + ":" + strconv.Itoa(int(port.ContainerPort))}, one})
		}
	}
	if out == nil {
		out = []targetGroup{{[]string{p.Status.PodIP}, labels}}
	}
	return out
}
