package kubeapi

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// TestPatience is of answers that do not come, do not end, or are none: each is an
// error, soon, and what takes its time lawfully is none.
func TestPatience(t *testing.T) {
	const watch = "/x?watch=true&timeoutSeconds=1"
	event := func(n int) string {
		return string(binary.BigEndian.AppendUint32(nil, uint32(n))) + strings.Repeat("x", n)
	}
	short := patience{answer: 200 * time.Millisecond, body: 200 * time.Millisecond, over: 100 * time.Millisecond, frame: 200 * time.Millisecond}
	for name, tc := range map[string]struct {
		path string
		head time.Duration // until the answer begins
		says []string      // with this time between
		rest time.Duration
		want error
		text string // of the error, where it has no name
	}{
		"no answer":                               {path: "/x", head: time.Minute, want: errNoAnswer},
		"an answer without an end":                {path: "/x", says: []string{"a"}, rest: time.Minute, want: errNoEnd},
		"an answer in time":                       {path: "/x", says: []string{"a", "b"}},
		"a watch that says nothing":               {path: watch, rest: time.Second},
		"a watch that does not end":               {path: watch, rest: time.Minute, want: errLong},
		"a watch for ever, as was said":           {path: "/x?watch=true", rest: 500 * time.Millisecond},
		"half an event":                           {path: watch, says: []string{event(10)[:8]}, rest: time.Minute, want: errHalf},
		"half the length of an event":             {path: watch, says: []string{"\x00\x00"}, rest: time.Minute, want: errHalf},
		"half an event that grows":                {path: watch, says: strings.Split("\x00\x00\x01\x00"+strings.Repeat("x", 40), ""), want: errHalf},
		"an event in two parts, and a long pause": {path: watch, says: []string{event(10)[:6], event(10)[6:]}, rest: 500 * time.Millisecond},
		"events, and a long pause":                {path: watch, says: []string{event(10), event(0) + event(3)}, rest: 500 * time.Millisecond},
		"an event of 4 GB":                        {path: watch, says: []string{"\xff\xff\xff\xff"}, rest: time.Minute, text: "one of 4294967295 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pause := func(r *http.Request, d time.Duration) {
				select {
				case <-time.After(d):
				case <-r.Context().Done():
				}
			}
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				pause(r, tc.head)
				w.Header().Set("Content-Type", "application/vnd.kubernetes.protobuf;stream=watch")
				for _, text := range tc.says {
					_, _ = io.WriteString(w, text)
					w.(http.Flusher).Flush()
					pause(r, 10*time.Millisecond)
				}
				w.(http.Flusher).Flush()
				pause(r, tc.rest)
			}))
			t.Cleanup(s.Close)
			client := &http.Client{Transport: &patient{short, http.DefaultTransport}}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+tc.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			res, err := client.Do(req)
			var b []byte
			if err == nil {
				b, err = io.ReadAll(res.Body)
				res.Body.Close()
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("it took %s", took)
			}
			switch {
			case tc.text != "":
				if err == nil || !strings.Contains(err.Error(), tc.text) {
					t.Errorf("%q %v", b, err)
				}
			case !errors.Is(err, tc.want):
				t.Errorf("%q %v, want %v", b, err, tc.want)
			case tc.want == nil && string(b) != strings.Join(tc.says, ""):
				t.Errorf("%q", b)
			}
		})
	}
}

// FuzzFrames is that what is one event or two, or none, does not depend on how it comes.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x02ab\x00\x00\x00\x00\x00\x00\x00\x01"), 3)
	f.Add([]byte("\xff\xff\xff\xffabc"), 1)
	f.Add([]byte("<html>"), 2)
	f.Add([]byte("\x00\x00\x00\x02ab"), 1)
	f.Fuzz(func(t *testing.T, b []byte, step int) {
		one, many := &frames{within: time.Hour}, &frames{within: time.Hour}
		err := one.pass(b)
		var err2 error
		for rest := b; len(rest) > 0 && err2 == nil; {
			n := min(max(1, step), len(rest))
			err2 = many.pass(rest[:n])
			rest = rest[n:]
		}
		// The same by reading it as client-go does.
		r, left, large := bytes.NewReader(b), 0, false
		for {
			var head [4]byte
			if n, err := io.ReadFull(r, head[:]); err != nil {
				left = n
				break
			}
			n := binary.BigEndian.Uint32(head[:])
			if large = n > maxFrame; large {
				break
			}
			if got, _ := io.CopyN(io.Discard, r, int64(n)); got < int64(n) {
				left = int(n) - int(got)
				break
			}
		}
		if (err != nil) != large || (err2 != nil) != large {
			t.Fatalf("at once %v, in steps %v, too large: %t", err, err2, large)
		}
		waits := func(f *frames) bool { return f.timer != nil }
		if !large && (waits(one) != (left > 0) || waits(many) != (left > 0)) {
			t.Fatalf("waits for more: at once %t, in steps %t, want %t", waits(one), waits(many), left > 0)
		}
		one.end()
		many.end()
	})
}

// TestNoList is of answers that are no list: they are no list of nothing.
func TestNoList(t *testing.T) {
	for name, body := range map[string]string{
		"nothing":           "",
		"null":              "null",
		"an empty object":   "{}",
		"no version":        `{"kind":"NodeList","apiVersion":"v1","items":[]}`,
		"of another kind":   `{"kind":"SecretList","apiVersion":"v1","metadata":{"resourceVersion":"9"},"items":[]}`,
		"one object":        `{"kind":"Node","apiVersion":"v1","metadata":{"name":"x","resourceVersion":"9"}}`,
		"a page for people": "<html></html>",
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := serve(t, map[string]any{"/api/v1/nodes": body, "/api/v1/namespaces/a/services/b": body})
			if got, err := c.List(t.Context(), Nodes, "", metav1.ListOptions{}); err == nil {
				t.Errorf("it is taken for %v", got)
			}
			if got, err := c.Get(t.Context(), Services, "a", "b"); err == nil {
				t.Errorf("it is taken for %v", got)
			}
		})
	}
	c, err := New(&rest.Config{Host: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.List(t.Context(), Nodes, "", metav1.ListOptions{}); err == nil {
		t.Error("nobody answered, and there is a list")
	}
}
