package monitor

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// requestTime bounds one request.
const requestTime = 5 * time.Second

// serve serves what the socket has over mutual TLS, until ctx ends.
func (m *Monitor) serve(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{
		Handler: m.handler(), ReadTimeout: requestTime, WriteTimeout: requestTime, IdleTimeout: 2 * time.Minute, // Prometheus keeps its connection
		ErrorLog: slog.NewLogLogger(m.Log.Handler(), slog.LevelDebug), // strangers are no news
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(tls.NewListener(ln, m.TLS.Server())) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve metrics: %w", err)
	case <-ctx.Done():
	}
	err := srv.Close()
	<-done
	return err
}

func (m *Monitor) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.Registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if err := m.Healthy(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /v1/target", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(m.Targets()); err != nil {
			m.Log.Debug("write status", "err", err) // whoever asked is gone
		}
	})
	return mux
}
