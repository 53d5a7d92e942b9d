package daemon

import (
	"context"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Reload is how a reload ended.
type Reload struct {
	At    time.Time `json:"at"`
	Cause string    `json:"cause"`           // who asked for it
	Error string    `json:"error,omitempty"` // why it was refused, so that the config of before stays; empty: it was not
}

// reloader has one reload at a time.
type reloader struct {
	p       *Process
	mu      sync.Mutex
	refused prometheus.Gauge
	applied prometheus.Gauge
}

func newReloader(p *Process) *reloader {
	return &reloader{
		p: p,
		refused: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "anycastle_reload_refused", Help: "1 if the last reload was refused, so that the config of before stays, 0 if not.",
		}),
		applied: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "anycastle_reload_time_seconds", Help: "Unix time of the last reload that was applied; 0 before the first.",
		}),
	}
}

func (r *reloader) reload(ctx context.Context, cause string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.p.Reload(ctx)
	ended := Reload{At: time.Now().UTC(), Cause: cause}
	if err != nil {
		ended.Error = err.Error()
		r.refused.Set(1)
		r.p.Log.Error("reload refused; the old config stays", "cause", cause, "err", err)
	} else {
		r.refused.Set(0)
		r.applied.SetToCurrentTime()
		r.p.Log.Info("reloaded", "cause", cause)
	}
	if r.p.Reloaded != nil {
		r.p.Reloaded(ended)
	}
	return err
}

// onSignal reloads whenever SIGHUP comes, until ctx is done.
func (r *reloader) onSignal(ctx context.Context, hup <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
			_ = r.reload(ctx, "SIGHUP") // it has been logged
		}
	}
}

func (r *reloader) serve(w http.ResponseWriter, req *http.Request) {
	if r.p.Reload == nil {
		http.Error(w, r.p.Role+" cannot reload; restart it", http.StatusNotImplemented)
		return
	}
	if err := r.reload(req.Context(), "asked on the socket"); err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
	}
}
