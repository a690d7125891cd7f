package collector

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/go-kit/log"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/kproxy-exporter/kproxy-exporter/collector/cause"
	"github.com/kproxy-exporter/kproxy-exporter/collector/kubeapi"
	"github.com/kproxy-exporter/kproxy-exporter/prober"
)

// How often the API servers' own addresses are asked for: they change when a
// control plane is replaced. What was learnt is kept while nobody answers.
const (
	endpointsInterval = 5 * time.Minute
	endpointsRetry    = 30 * time.Second
	endpointsTimeout  = 10 * time.Second
)

// livezPath is what an API server answers to anybody.
const livezPath = "/livez"

// EndpointLister lists EndpointSlices.
type EndpointLister interface {
	List(context.Context, kubeapi.Resource, string, metav1.ListOptions) (runtime.Object, error)
}

// APIEndpoints knows the addresses of the API servers.
type APIEndpoints struct {
	api     EndpointLister // nil: only what is given is known
	roots   *x509.CertPool
	given   []APIEndpoint
	contact *contact

	mu sync.Mutex
	// mu protects learnt.
	learnt []APIEndpoint
}

// NewAPIEndpoints knows the Service kubernetes at vip ("host", "port"; none if
// host is empty), and learns the rest from the API, if there is one.
func NewAPIEndpoints(api EndpointLister, roots *x509.CertPool, vipHost, vipPort string, logger log.Logger) *APIEndpoints {
	e := &APIEndpoints{api: api, roots: roots, contact: &contact{reader: "endpointslices", what: "list endpointslices.discovery.k8s.io in default", logger: logger}}
	if vipHost != "" {
		e.given = append(e.given, APIEndpoint{cause.KindVIP, prober.APITarget{Host: vipHost, Port: vipPort, Roots: roots, Path: livezPath}})
	}
	return e
}

// Run learns until the context ends.
func (e *APIEndpoints) Run(ctx context.Context) {
	for e.api != nil {
		wait := endpointsInterval
		if !e.learn(ctx) {
			wait = endpointsRetry
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (e *APIEndpoints) learn(ctx context.Context) bool {
	limited, cancel := context.WithTimeout(ctx, endpointsTimeout)
	defer cancel()
	began := time.Now()
	list, err := e.api.List(limited, kubeapi.EndpointSlices, metav1.NamespaceDefault, metav1.ListOptions{
		LabelSelector: discoveryv1.LabelServiceName + "=kubernetes", ResourceVersion: "0",
	})
	slices, ok := list.(*discoveryv1.EndpointSliceList)
	if err == nil && !ok {
		err = fmt.Errorf("the answer is a %T", list)
	}
	if err != nil {
		e.contact.failedUnlessStopped(ctx, err)
		return false
	}
	e.contact.succeeded(time.Since(began))
	found := apiEndpoints(slices.Items, e.roots)
	if len(found) == 0 {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.learnt = found
	return true
}

// apiEndpoints are the addresses of the Service kubernetes.
func apiEndpoints(list []discoveryv1.EndpointSlice, roots *x509.CertPool) []APIEndpoint {
	var out []APIEndpoint
	for _, s := range list {
		port := "443"
		for _, p := range s.Ports {
			if p.Port != nil && (p.Name == nil || *p.Name == "https") {
				port = strconv.Itoa(int(*p.Port))
			}
		}
		for _, e := range s.Endpoints {
			for _, a := range e.Addresses {
				out = append(out, APIEndpoint{cause.KindEndpoint, prober.APITarget{Host: a, Port: port, Roots: roots, Path: livezPath}})
			}
		}
	}
	const most = 16 // no cluster has more API servers; a list that does is wrong
	return out[:min(len(out), most)]
}

// List is what is known now.
func (e *APIEndpoints) List() []APIEndpoint {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Concat(e.given, e.learnt)
}
