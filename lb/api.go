package lb

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// maxOrderSize bounds an order on the socket, in bytes.
const maxOrderSize = 4096

// Handlers are what the role's socket takes beside what Status answers, by pattern.
func (l *LB) Handlers() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"POST /v1/order": l.serveOrder, "POST /v1/explain": l.serveExplain,
		"GET /v1/flow": l.serveFlows, "GET /v1/capture": l.serveCapture, "POST /v1/diff": l.serveDiff,
	}
}

// serveOrder takes an Order as JSON and answers with it as it is kept. What cannot be done is told with status 422.
func (l *LB) serveOrder(w http.ResponseWriter, r *http.Request) {
	var o Order
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxOrderSize))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&o); err != nil {
		http.Error(w, fmt.Sprintf("read the order: %v", err), http.StatusUnprocessableEntity)
		return
	}
	kept, err := l.Order(o)
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	l.log.Info("order taken", "farm", kept.Farm, "real", kept.Real, "kind", kept.Kind, "by", kept.By, "why", kept.Why)
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(kept); err != nil {
		l.log.Warn("answer an order", "err", err)
	}
}
