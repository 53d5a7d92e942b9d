package inject

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
)

// maxBody bounds what the socket takes, in bytes.
const maxBody = 4096

// Question is what `explain vip` asks.
type Question struct {
	VIP netip.Prefix `json:"vip,omitzero"` // zero: all
	If  string       `json:"if,omitempty"` // what to suppose; see Explain
}

// Status gives what the socket answers, by path.
func (i *Injector) Status() map[string]func() any {
	return map[string]func() any{
		"/v1/announcement": func() any { return i.Announcements() },
		"/v1/site":         func() any { return i.Sites() },
		"/v1/site-order":   func() any { return i.Orders() },
	}
}

// Handlers are what the socket takes besides, by pattern. What cannot be done is told with status 422.
func (i *Injector) Handlers() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"POST /v1/site-order":  handle(i, i.Order),
		"POST /v1/explain-vip": handle(i, func(q Question) ([]Row, error) { return i.Explain(q.VIP, q.If) }),
	}
}

func handle[Q, A any](i *Injector, answer func(Q) (A, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var q Q
		dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&q); err != nil {
			http.Error(w, fmt.Sprintf("read what is asked: %v", err), http.StatusUnprocessableEntity)
			return
		}
		a, err := answer(q)
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(a); err != nil {
			i.log.Warn("answer on the socket", "err", err)
		}
	}
}
