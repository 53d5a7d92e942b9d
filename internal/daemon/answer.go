package daemon

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"

	"anycastle/internal/strict"
)

// MaxQuestion bounds what a handler of Answer reads, in bytes.
const MaxQuestion = 4096

// Answer makes a handler for a socket: it decodes a Q from JSON, and writes the A that answer gives. A Q that cannot be read,
// and an error of answer, are told with status 422.
func Answer[Q, A any](log *slog.Logger, answer func(Q) (A, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var q Q
		if err := strict.Decode(http.MaxBytesReader(w, r.Body, MaxQuestion), &q); err != nil {
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
			log.Warn("answer on the socket", "path", r.URL.Path, "err", err)
		}
	}
}
