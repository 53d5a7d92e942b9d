package lb

import (
	"net/http"

	"anycastle/internal/daemon"
)

// Handlers are what the role's socket takes beside what Status answers, by pattern.
func (l *LB) Handlers() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"POST /v1/order": daemon.Answer(l.log, l.serveOrder), "POST /v1/explain": l.serveExplain,
		"GET /v1/flow": l.serveFlows, "GET /v1/capture": l.serveCapture, "POST /v1/diff": l.serveDiff,
	}
}

// serveOrder gives the order as it is kept.
func (l *LB) serveOrder(o Order) (Order, error) {
	kept, err := l.Order(o)
	if err != nil {
		return Order{}, err
	}
	l.log.Info("order taken", "farm", kept.Farm, "real", kept.Real, "kind", kept.Kind, "by", kept.By, "why", kept.Why)
	return kept, nil
}
