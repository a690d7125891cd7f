package fault

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/kproxy-exporter/kproxy-exporter/lab/cluster"
)

// objects is a change that makes objects in a namespace of their own, does what
// steps say, and deletes them.
func objects(name, does, manifest string, steps ...[]string) Change {
	return Change{
		Name: name, Does: does,
		Run: func(ctx context.Context, c *cluster.Cluster, node string) (err error) {
			fill := strings.NewReplacer("{NODE}", node, "{IMAGE}", cluster.PauseImage)
			if _, err := c.Kubectl(ctx, "", "create", "namespace", healthyNamespace); err != nil {
				return err
			}
			defer func() {
				err = errors.Join(err, kubectl(ctx, c, []string{"delete", "namespace", healthyNamespace, "--wait", "--timeout=90s"}))
			}()
			if err := c.Apply(ctx, fill.Replace(manifest)); err != nil {
				return err
			}
			for _, step := range steps {
				var args []string
				for _, a := range step {
					args = append(args, fill.Replace(a))
				}
				if _, err := c.Kubectl(ctx, "", append([]string{"-n", healthyNamespace}, args...)...); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

const healthyNamespace = "healthy"

// service is a Service of the pods "web".
func service(name, spec string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: healthy}\nspec: {%s}\n---\n", name, spec)
}

const (
	httpPort = "ports: [{name: http, port: 80, targetPort: 8080}]"
	toWeb    = "selector: {app: web}, " + httpPort
)

// web is a Deployment of that many pods.
func web(replicas int, more string) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: healthy}
spec:
  replicas: %d
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: web, image: "{IMAGE}", imagePullPolicy: Never, ports: [{name: http, containerPort: 8080}]%s}]
---
`, replicas, more)
}

var (
	rolledOut = []string{"rollout", "status", "deployment/web", "--timeout=60s"}
	scaledTo  = func(n string) []string { return []string{"scale", "deployment/web", "--replicas=" + n} }
)

// serviceChanges are what users do with Services.
var serviceChanges = []Change{
	objects("service-scaled", "a Service's pods become many, none and one again", web(1, "")+service("web", toWeb),
		rolledOut, scaledTo("10"), rolledOut, scaledTo("0"), []string{"wait", "pod", "-l", "app=web", "--for=delete", "--timeout=60s"}, scaledTo("1"), rolledOut),
	objects("service-rolled", "a Service's pods are replaced while they serve", web(3, "")+service("web", toWeb+", internalTrafficPolicy: Local, trafficDistribution: PreferSameZone"),
		rolledOut, []string{"rollout", "restart", "deployment/web"}, rolledOut),
	objects("service-headless", "a Service without an address", web(2, "")+service("web", "clusterIP: None, "+toWeb), rolledOut),
	objects("service-external-name", "a Service that is only a name", service("web", "type: ExternalName, externalName: example.invalid")),
	objects("service-node-port", "a Service on a port of every node", web(2, "")+service("web", "type: NodePort, externalTrafficPolicy: Local, "+toWeb), rolledOut),
	objects("service-load-balancer", "a load balancer with an address, a mode, and who may come", web(2, "")+
		service("web", "type: LoadBalancer, externalTrafficPolicy: Local, loadBalancerSourceRanges: [192.0.2.0/24], "+toWeb),
		rolledOut, []string{"patch", "service", "web", "--subresource=status", "--type=merge", "-p", `{"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.10","ipMode":"VIP"},{"ip":"192.0.2.11","ipMode":"Proxy"}]}}}`}),
	objects("service-external-ips", "a Service with addresses from outside", web(1, "")+service("web", "externalIPs: [192.0.2.20, 192.0.2.21], "+toWeb), rolledOut),
	objects("service-affinity", "a Service that remembers its clients", web(2, "")+service("web", "sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}, "+toWeb), rolledOut),
	objects("service-without-endpoints", "a Service behind which nobody is", service("web", toWeb)),
	objects("service-by-hand", "a Service without selector, whose EndpointSlices somebody writes, one of each address type",
		service("web", httpPort)+slice("one", "IPv4", "192.0.2.30")+slice("two", "IPv6", "2001:db8::30")+slice("three", "FQDN", "web.example.invalid")+slice("four", "IPv4", "192.0.2.30"),
		[]string{"annotate", "endpointslice", "one", "note=touched"}),
	objects("service-of-another-proxy", "a Service that is another proxy's",
		"apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: healthy, labels: {service.kubernetes.io/service-proxy-name: other}}\nspec: {"+toWeb+"}\n---\n"+web(1, ""), rolledOut,
		[]string{"label", "service", "web", "service.kubernetes.io/service-proxy-name-"}, []string{"label", "service", "web", "service.kubernetes.io/service-proxy-name=other"}),
	objects("service-protocols", "one port in three protocols, and ports by name", web(1, "")+
		service("web", "selector: {app: web}, ports: [{name: t, port: 53, protocol: TCP, targetPort: http}, {name: u, port: 53, protocol: UDP}, {name: s, port: 53, protocol: SCTP}]"), rolledOut),
	objects("service-dual-stack", "a Service of both IP families, where the cluster has them", web(1, "")+service("web", "ipFamilyPolicy: PreferDualStack, "+toWeb), rolledOut),
	objects("service-not-ready", "a Service that publishes pods that are not ready, and one that does not",
		web(2, ", readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}")+service("web", "publishNotReadyAddresses: true, "+toWeb)+service("ready", toWeb),
		[]string{"wait", "pod", "-l", "app=web", "--for=condition=PodReadyToStartContainers", "--timeout=60s"}),
	objects("service-changed", "a Service changes its type, its ports and its labels", web(1, "")+service("web", toWeb), rolledOut,
		[]string{"patch", "service", "web", "-p", `{"spec":{"type":"NodePort"}}`}, []string{"patch", "service", "web", "-p", `{"spec":{"type":"ClusterIP"}}`},
		[]string{"patch", "service", "web", "--type=merge", "-p", `{"spec":{"ports":[{"name":"other","port":8081}]}}`},
		[]string{"label", "service", "web", "a=b"}, []string{"annotate", "service", "web", "a=b"}),
	objects("services-many", "200 Services come and go at once", manyServices(200)),
}

func slice(name, family, address string) string {
	return fmt.Sprintf("apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: %s, namespace: healthy, labels: {kubernetes.io/service-name: web}}\naddressType: %s\n"+
		"ports: [{name: http, port: 8080}]\nendpoints: [{addresses: [%q]}]\n---\n", name, family, address)
}

func manyServices(n int) string {
	var out strings.Builder
	for i := range n {
		out.WriteString(service(fmt.Sprintf("web-%d", i), httpPort))
	}
	return out.String()
}
