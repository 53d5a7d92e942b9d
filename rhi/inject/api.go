package inject

import (
	"net/http"
	"net/netip"

	"anycastle/internal/daemon"
)

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
		"POST /v1/site-order":  daemon.Answer(i.log, i.Order),
		"POST /v1/explain-vip": daemon.Answer(i.log, func(q Question) ([]Row, error) { return i.Explain(q.VIP, q.If) }),
	}
}
