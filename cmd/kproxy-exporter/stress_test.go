package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kproxy-exporter/kproxy-exporter/collector/kubeapi/apitest"
)

// stressed is an API server on a socket, and the objects of nodes that are well.
type stressed struct {
	*apitest.Server
	http  *httptest.Server
	asked atomic.Int64
	over  chan struct{} // closed when an attack is over
	nodes int
	// stormed is how many changes a storm made.
	stormed atomic.Int64
}

func startStressed(t *testing.T, nodes int) *stressed {
	t.Helper()
	s := &stressed{Server: apitest.New(), over: make(chan struct{}), nodes: nodes}
	s.http = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		s.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		s.EndWatches()
		s.http.CloseClientConnections()
		s.http.Close()
	})
	s.Put(&appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: "kube-proxy", Namespace: "kube-system", CreationTimestamp: longAgo},
		Spec: appsv1.DaemonSetSpec{Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"k8s-app": "kube-proxy"}},
			Spec:       corev1.PodSpec{Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}}},
		}},
	})
	for i := range nodes {
		s.Put(stressedNode(i, corev1.ConditionTrue), stressedPod(i))
	}
	return s
}

var longAgo = metav1.NewTime(time.Now().Add(-24 * time.Hour))

func stressedName(i int) string { return fmt.Sprintf("n%d", i) }

func stressedNode(i int, ready corev1.ConditionStatus) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: stressedName(i), CreationTimestamp: longAgo, Labels: map[string]string{corev1.LabelOSStable: "linux"}},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{
			{Type: corev1.NodeReady, Status: ready, LastTransitionTime: longAgo},
			{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionFalse, LastTransitionTime: longAgo},
		}},
	}
}

func stressedPod(i int) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "kube-proxy-" + stressedName(i), Namespace: "kube-system", UID: types.UID(fmt.Sprint(i)), CreationTimestamp: longAgo, Labels: map[string]string{"k8s-app": "kube-proxy"}},
		Spec:       corev1.PodSpec{NodeName: stressedName(i), Containers: []corev1.Container{{Name: "kube-proxy"}}},
		Status: corev1.PodStatus{
			Phase:             corev1.PodRunning,
			Conditions:        []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: longAgo}},
			ContainerStatuses: []corev1.ContainerStatus{{Name: "kube-proxy", Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: longAgo}}}},
		},
	}
}

// verdicts are the first causes of nodes, as an exposition has them: "none", a cause,
// or "unknown".
func verdicts(body string) (map[string]string, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	label := func(m *dto.Metric, name string) string {
		for _, l := range m.Label {
			if l.GetName() == name {
				return l.GetValue()
			}
		}
		return ""
	}
	out := map[string]string{}
	for _, m := range families["kproxy_primary_cause"].GetMetric() {
		out[label(m, "node")] = label(m, "cause")
	}
	for _, m := range families["kproxy_healthy"].GetMetric() {
		if n := label(m, "node"); out[n] == "none" && m.GetGauge().GetValue() != 1 {
			return nil, fmt.Errorf("%s has no cause and is not well", n)
		}
	}
	return out, nil
}

// TestHostileAPI is of an API server that does everything an API server, or what
// stands before it, should not. What is said meanwhile is what was true, what is, or
// nothing; soon after it is what is true; and the exporter does not hurry it.
func TestHostileAPI(t *testing.T) {
	answer := func(status int, kind, body string) func(*stressed) {
		return func(s *stressed) {
			s.Fail(func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Content-Type", kind)
				w.WriteHeader(status)
				_, _ = io.WriteString(w, body)
				return true
			})
			s.EndWatches()
		}
	}
	cut := func(w http.ResponseWriter, _ *http.Request) bool {
		if c, _, err := w.(http.Hijacker).Hijack(); err == nil {
			c.Close()
		}
		return true
	}
	garbage := func(raw func() []byte) func(*stressed) { return func(s *stressed) { s.Garble(raw()) } }
	always := func(text string) func(*stressed) { return garbage(func() []byte { return []byte(text) }) }
	flap := false
	const html = "<html><body>Sign in to the network</body></html>"
	for name, attack := range map[string]func(*stressed){
		"connections cut": func(s *stressed) { s.Fail(cut); s.http.CloseClientConnections() },
		"flapping": func(s *stressed) {
			if flap = !flap; flap {
				s.Fail(cut)
				s.http.CloseClientConnections()
			} else {
				s.Fail(nil)
			}
		},
		"watches that end at once":  func(s *stressed) { s.EndWatches() },
		"versions that are gone":    func(s *stressed) { s.Forget(); s.EndWatches() },
		"500":                       answer(http.StatusInternalServerError, "text/plain", "etcdserver: request timed out"),
		"503":                       answer(http.StatusServiceUnavailable, "application/json", `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"ServiceUnavailable","code":503}`),
		"410":                       answer(http.StatusGone, "application/json", `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410}`),
		"429":                       answer(http.StatusTooManyRequests, "application/json", `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"TooManyRequests","code":429}`),
		"401":                       answer(http.StatusUnauthorized, "application/json", `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Unauthorized","code":401}`),
		"403":                       answer(http.StatusForbidden, "application/json", `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403}`),
		"200 of a captive portal":   answer(http.StatusOK, "text/html", html),
		"200 of a portal that lies": answer(http.StatusOK, "application/vnd.kubernetes.protobuf", html),
		"a redirection":             answer(http.StatusFound, "text/html", html),
		"an empty answer":           answer(http.StatusOK, "application/vnd.kubernetes.protobuf", ""),
		"a list of another kind":    answer(http.StatusOK, "application/json", `{"kind":"SecretList","apiVersion":"v1","metadata":{"resourceVersion":"9"},"items":[{"metadata":{"name":"x"}}]}`),
		"no object":                 answer(http.StatusOK, "application/json", `null`),
		"half a list":               answer(http.StatusOK, "application/json", `{"kind":"NodeList","apiVersion":"v1","metadata":{"resourceVersion":"9"},"items":[{"metadata":{"na`),
		"requests that hang": func(s *stressed) {
			s.Fail(func(_ http.ResponseWriter, r *http.Request) bool {
				select {
				case <-r.Context().Done():
				case <-s.over:
				}
				return true
			})
			s.EndWatches()
		},
		"garbage at random":               garbage(func() []byte { return binary(200) }),
		"garbage: HTML":                   always(html),
		"garbage: a frame of 4 GB":        always("\xff\xff\xff\xff"),
		"garbage: a frame of 15 MB":       always("\x00\xf0\x00\x00abc"),
		"garbage: an empty frame":         always("\x00\x00\x00\x00"),
		"garbage: a frame of zeros":       always("\x00\x00\x00\x10" + strings.Repeat("\x00", 16)),
		"garbage: JSON among protobuf":    always(`{"type":"DELETED","object":{"kind":"Node","apiVersion":"v1","metadata":{"name":"n1"}}}`),
		"garbage: a frame with its magic": always("\x00\x00\x00\x08k8s\x00\xff\xff\xff\xff"),
		"objects of another kind": func(s *stressed) {
			s.PutAs("nodes", &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "other"}})
			s.Drop("nodes", "/other")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startStressed(t, 3)
			cfg := testConfig(kubeconfig(t, s.http.URL), "127.0.0.1:0")
			i := startWith(t, cfg, io.Discard)
			i.awaitReady(t)
			truth := map[string]string{"n0": "none", "n1": "none", "n2": "none"}
			look := func(may map[string]string) (wrong string) {
				_, body := i.get(t, "/metrics")
				got, err := verdicts(body)
				if err != nil {
					t.Fatalf("%v\n%s", err, body)
				}
				if len(got) != len(truth) {
					return fmt.Sprintf("%v", got)
				}
				for n, v := range got {
					if v != truth[n] && v != may[n] && v != "unknown" {
						return fmt.Sprintf("%s is called %s, want %s", n, v, truth[n])
					}
				}
				return ""
			}
			if wrong := look(nil); wrong != "" {
				t.Fatal(wrong)
			}
			before, began := s.asked.Load(), time.Now()
			was := truth
			for n := 0; time.Since(began) < 3*time.Second; n++ {
				attack(s)
				if n == 10 {
					s.Put(stressedNode(1, corev1.ConditionFalse))
					truth = map[string]string{"n0": "none", "n1": "node_not_ready", "n2": "none"}
				}
				if wrong := look(was); wrong != "" {
					t.Fatalf("after %s: %s", time.Since(began), wrong)
				}
				time.Sleep(20 * time.Millisecond) // the pace of the attack
			}
			asked := s.asked.Load() - before
			s.Fail(nil)
			close(s.over)
			over := time.Now()
			for {
				_, body := i.get(t, "/metrics")
				got, err := verdicts(body)
				if err == nil && fmt.Sprint(got) == fmt.Sprint(truth) {
					break
				}
				if time.Since(over) > time.Minute {
					t.Fatalf("a minute after it was over: %v %v", got, err)
				}
				time.Sleep(20 * time.Millisecond)
			}
			t.Logf("%d requests in 3 s; right %.1f s after it was over", asked, time.Since(over).Seconds())
			if asked > 60 { // client-go's own limit is 5 a second, and 10 at once
				t.Errorf("%d requests in 3 s", asked)
			}
			i.stop()
			if err := <-i.done; err != nil {
				t.Error(err)
			}
		})
	}
}

func binary(n int) []byte {
	var out bytes.Buffer
	for range n {
		out.WriteByte(byte(rand.IntN(256)))
	}
	return out.Bytes()
}
