package monitoring

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// inbox keeps what is posted to it and answers with all of it.
type inbox struct {
	mu  sync.Mutex
	all []Notification
}

// ServeInbox listens as a receiver of Alertmanager's webhooks.
func ServeInbox(listen string) error {
	return http.ListenAndServe(listen, &inbox{all: []Notification{}})
}

// ServeHTTP implements http.Handler.
func (i *inbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if r.Method != http.MethodPost {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(i.all)
		return
	}
	var n Notification
	if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	n.At = time.Now()
	i.all = append(i.all, n)
}
