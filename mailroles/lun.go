package mailroles

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"anycastle/internal/daemon"
	"anycastle/mailroles/replica"
	"anycastle/mailroles/store"
)

// LUNState is what a store knows of a LUN.
type LUNState struct {
	Name string `json:"name"`
	Path string `json:"path"`
	store.Status

	Replica *replica.Status `json:"replica,omitempty"` // of a LUN that has replicas
}

// LUN tells how the store's LUNs are: a list of LUNState. One without replicas is not in it while it is not open.
func (r *Store) LUN() any {
	list := []LUNState{}
	for _, h := range r.hosts {
		list = append(list, h.state())
	}
	if mail := r.mail.Load(); mail != nil {
		list = append(list, LUNState{Name: r.cfg.LUN, Path: r.cfg.Path, Status: mail.Status()})
	}
	return list
}

// Open gives the LUNs that are open now, by name.
func (r *Store) Open() map[string]*store.Store {
	open := map[string]*store.Store{}
	if mail := r.mail.Load(); mail != nil {
		open[r.cfg.LUN] = mail
	}
	for _, h := range r.hosts {
		if mail := h.replica.Store(); mail != nil {
			open[h.lun.Name] = mail
		}
	}
	return open
}

// Active gives the replica that is the active store of a LUN, as far as it is known here; empty: none.
func (r *Store) Active(lun string) string {
	for _, h := range r.hosts {
		if h.lun.Name == lun {
			return h.replica.Status().Active
		}
	}
	return ""
}

// LUNOrder is what an operator wants of a LUN that has replicas.
type LUNOrder struct {
	LUN        string `json:"lun"`
	Order      string `json:"order"` // move, promote or scrub
	To         string `json:"to,omitempty"`
	AcceptLoss bool   `json:"accept_loss,omitempty"` // promote, and not only say what that would cost
	Last       uint64 `json:"last,omitempty"`        // the operator has read that this is the last operation
	By         string `json:"by,omitempty"`
	Why        string `json:"why,omitempty"`
}

// LUNOrdered is what came of an order.
type LUNOrdered struct {
	Took      time.Duration      `json:"took"`
	Promotion *replica.Promotion `json:"promotion,omitempty"`
}

// LUNOrders takes orders to the LUNs, by pattern.
func (r *Store) LUNOrders() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"POST /v1/lun-order": func(w http.ResponseWriter, req *http.Request) {
			daemon.Answer(r.Log, func(o LUNOrder) (LUNOrdered, error) { return r.order(req.Context(), o) })(w, req)
		},
	}
}

func (r *Store) order(ctx context.Context, o LUNOrder) (done LUNOrdered, err error) {
	h, err := r.host1(o.LUN)
	if err != nil {
		return done, err
	}
	begun := time.Now()
	switch o.Order {
	case "move":
		err = h.replica.Move(ctx, o.To, o.By, o.Why)
	case "scrub":
		err = h.replica.Scrub(ctx)
	case "promote":
		var p replica.Promotion
		if p, err = h.replica.Promote(ctx, false, o.By); err == nil && o.AcceptLoss && p.Refused == "" {
			if p.Last != o.Last {
				return done, fmt.Errorf("the last operation here is %d by now; look again what is safe", p.Last)
			}
			p, err = h.replica.Promote(ctx, true, o.By)
		}
		done.Promotion = &p
	default:
		err = fmt.Errorf("no order is called %q; there are move, promote and scrub", o.Order)
	}
	done.Took = time.Since(begun)
	return done, err
}

// host1 finds the replica of a LUN.
func (r *Store) host1(name string) (*host, error) {
	var known []string
	for _, h := range r.hosts {
		if h.lun.Name == name {
			return h, nil
		}
		known = append(known, h.lun.Name)
	}
	if len(known) == 0 {
		return nil, errors.New("the LUN of this store has no replicas")
	}
	return nil, fmt.Errorf("no replica of a LUN %q is here; known are %v", name, known)
}

// logMetrics are the metrics of a store's log.
type logMetrics struct {
	took  prometheus.Histogram
	batch prometheus.Histogram
}

// newLogMetrics registers anycastle_store_log_fsync_seconds and anycastle_store_log_batch_operations. The count of either
// is that of the fsyncs.
func newLogMetrics(reg prometheus.Registerer) (*logMetrics, error) {
	m := &logMetrics{
		took: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "anycastle_store_log_fsync_seconds", Help: "How long it took to write operations to the log durably.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 15),
		}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "anycastle_store_log_batch_operations", Help: "Operations that were made durable by one fsync of the log.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 10),
		}),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.took, m.batch} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *logMetrics) synced(operations int, took time.Duration) {
	m.took.Observe(took.Seconds())
	m.batch.Observe(float64(operations))
}

// Explain says in words where the LUN is active and why, and whether it acknowledges.
func (l LUNState) Explain() []string {
	if l.Replica == nil {
		if l.Stopped != "" {
			return []string{l.Name + " has no replicas, and its store has stopped: " + l.Stopped}
		}
		return []string{l.Name + " has no replicas: this store alone serves it, and acknowledges what is on its disk."}
	}
	return l.Replica.Explain()
}
