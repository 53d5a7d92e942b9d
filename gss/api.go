package gss

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// maxBody bounds what the socket takes, in bytes.
const maxBody = 4096

// Status gives what the socket answers, by path.
func (g *GSS) Status() map[string]func() any {
	return map[string]func() any{
		"/v1/server":       func() any { return []ServerStatus{g.Server()} },
		"/v1/answer":       func() any { return g.Answers() },
		"/v1/rule":         func() any { return g.Rules() },
		"/v1/site":         func() any { return g.Sites() },
		"/v1/zone":         func() any { return g.Zones() },
		"/v1/key":          func() any { return g.Keys() },
		"/v1/vantage":      func() any { return g.Vantages() },
		"/v1/answer-order": func() any { return g.Orders() },
		"/v1/balancer":     func() any { return g.Balancers() },
	}
}

// Handlers are what the socket takes besides, by pattern. What cannot be done is told with status 422.
func (g *GSS) Handlers() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"POST /v1/answer-order": handle(g, g.engine.order),
		"POST /v1/explain-name": handle(g, g.Explain),
		"POST /v1/key-order":    handle(g, g.OrderKeys),
	}
}

func handle[Q, A any](g *GSS, answer func(Q) (A, error)) http.HandlerFunc {
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
			g.log.Warn("answer on the socket", "err", err)
		}
	}
}
