package gss

import (
	"net/http"

	"anycastle/internal/daemon"
)

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
		"/v1/limit":        func() any { return g.Limits() },
	}
}

// Handlers are what the socket takes besides, by pattern. What cannot be done is told with status 422.
func (g *GSS) Handlers() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"POST /v1/answer-order": daemon.Answer(g.log, g.engine.order),
		"POST /v1/explain-name": daemon.Answer(g.log, g.Explain),
		"POST /v1/forget":       daemon.Answer(g.log, g.engine.forget),
		"POST /v1/key-order":    daemon.Answer(g.log, g.OrderKeys),
	}
}
