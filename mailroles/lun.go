package mailroles

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"anycastle/mailroles/store"
)

// LUNState is what a store knows of its LUN.
type LUNState struct {
	Name string `json:"name"`
	Path string `json:"path"`
	store.Status
}

// LUN tells how the store's LUN is: a list of one LUNState, or an empty one while it is not open.
func (r *Store) LUN() any {
	list := []LUNState{}
	mail := r.mail.Load()
	if mail == nil {
		return list
	}
	return append(list, LUNState{Name: r.cfg.LUN, Path: r.cfg.Path, Status: mail.Status()})
}

// Open gives the LUNs that are open now, by name.
func (r *Store) Open() map[string]*store.Store {
	if mail := r.mail.Load(); mail != nil {
		return map[string]*store.Store{r.cfg.LUN: mail}
	}
	return nil
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
