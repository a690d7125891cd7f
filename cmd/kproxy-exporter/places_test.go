package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// deadlined is a client of whom it is known when its answer is cut.
type deadlined struct {
	*httptest.ResponseRecorder
	cut chan struct{}
}

func (d deadlined) SetWriteDeadline(time.Time) error { close(d.cut); return nil }

// ask asks as a client that reads for so long; how it ended comes, and when.
func ask(h http.Handler, client string, reads time.Duration) chan string {
	began, ended := time.Now(), make(chan string, 1)
	w := deadlined{httptest.NewRecorder(), make(chan struct{})}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.RemoteAddr = client + ":1"
	r.Header.Set("Reads", reads.String())
	go func() {
		h.ServeHTTP(w, r)
		ended <- fmt.Sprintf("%d %s", w.Code, time.Since(began))
	}()
	return ended
}

// slowly is written for as long as its client says, or until it is cut.
var slowly = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	reads, _ := time.ParseDuration(r.Header.Get("Reads"))
	select {
	case <-time.After(reads):
	case <-w.(deadlined).cut:
		w.WriteHeader(http.StatusTeapot)
	}
})

// TestPlaces is of more clients than places.
func TestPlaces(t *testing.T) {
	const forever = time.Hour
	type wants func(what string, got chan string, is string)
	for name, test := range map[string]func(*testing.T, http.Handler, wants){
		"who is fast waits for who is fast, and nobody is cut": func(_ *testing.T, h http.Handler, want wants) {
			a, b := ask(h, "a", time.Second), ask(h, "a", time.Second)
			synctest.Wait()
			c := ask(h, "a", time.Second)
			want("the first", a, "200 1s")
			want("the second", b, "200 1s")
			want("the third", c, "200 2s")
		},
		"nobody is cut for nobody": func(_ *testing.T, h http.Handler, want wants) {
			want("who reads slowly", ask(h, "a", time.Minute), "200 1m0s")
		},
		"the oldest of who has most makes room": func(_ *testing.T, h http.Handler, want wants) {
			first := ask(h, "a", forever)
			synctest.Wait()
			second := ask(h, "a", forever)
			time.Sleep(time.Second)
			want("another", ask(h, "b", time.Second), "200 2s")
			want("the first", first, "418 2s")
			want("another, at once", ask(h, "b", time.Second), "200 1s")
			want("two at once", ask(h, "b", time.Second), "200 1s")
			select {
			case is := <-second:
				t.Errorf("the second: %s", is)
			default:
			}
		},
		"who has few goes first, however many wait": func(t *testing.T, h http.Handler, _ wants) {
			for range 5 {
				for range 100 {
					ask(h, "a", forever)
				}
				synctest.Wait()
				began := time.Now()
				if is := <-ask(h, "b", time.Second/2); !strings.HasPrefix(is, "200") || time.Since(began) > placeGrace+time.Second/2 {
					t.Errorf("another: %s", is)
				}
			}
		},
		"who cannot be given a place is told so": func(_ *testing.T, _ http.Handler, want wants) {
			deaf := func(http.ResponseWriter, *http.Request) { time.Sleep(time.Minute) }
			h := newPlaces(1).limit(http.HandlerFunc(deaf))
			ask(h, "a", 0)
			synctest.Wait()
			want("another", ask(h, "b", 0), "503 10s")
			want("another", ask(h, "b", 0), "503 10s")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlaces(2)
				test(t, p.limit(slowly), func(what string, got chan string, is string) {
					t.Helper()
					if got := <-got; got != is {
						t.Errorf("%s: %s, want %s", what, got, is)
					}
				})
				time.Sleep(2 * forever)
				synctest.Wait()
				if len(p.held) > 0 || len(p.waiting) > 0 {
					t.Errorf("%d are held and %d wait where nobody is there", len(p.held), len(p.waiting))
				}
			})
		})
	}
}
