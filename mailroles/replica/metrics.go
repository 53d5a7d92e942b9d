package replica

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are those of all replicas of a process. The zero value has none.
type Metrics struct{ legs *prometheus.HistogramVec }

// NewMetrics registers anycastle_store_replica_acknowledge_seconds: how long each leg of an acknowledgement takes.
func NewMetrics(reg prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{legs: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "anycastle_store_replica_acknowledge_seconds", Help: "How long each leg of an acknowledgement takes.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
	}, []string{"leg"})}
	if reg == nil {
		return m, nil
	}
	return m, reg.Register(m.legs)
}

func (m *Metrics) took(leg string, d time.Duration) {
	if m.legs != nil {
		m.legs.WithLabelValues(leg).Observe(d.Seconds())
	}
}

// collector tells the state of a replica when it is asked.
type collector struct {
	r     *Replica
	state *prometheus.Desc
	gauge map[string]*prometheus.Desc
}

// Register offers the metrics of a replica: anycastle_store_replica_state, 1 for the state that it is in, and ..._applied,
// ..._lag_operations, ..._missing_bodies, ..._exposed_operations, ..._refusing, ..._unfit and ..._term, each by LUN.
func (r *Replica) Register(reg prometheus.Registerer) error {
	if reg == nil {
		return nil
	}
	label := prometheus.Labels{"lun": r.opt.LUN}
	desc := func(name, help string, more ...string) *prometheus.Desc {
		return prometheus.NewDesc("anycastle_store_replica_"+name, help, more, label)
	}
	return reg.Register(&collector{r: r, state: desc("state", "1 for the state that the replica is in.", "state"), gauge: map[string]*prometheus.Desc{
		"applied":            desc("applied", "Index of the last operation that was applied."),
		"lag_operations":     desc("lag_operations", "Operations that another replica has applied and this one has not."),
		"missing_bodies":     desc("missing_bodies", "Bodies that are not here yet."),
		"exposed_operations": desc("exposed_operations", "Operations that were acknowledged and are at one site only."),
		"refusing":           desc("refusing", "1 if the replica is active and acknowledges nothing."),
		"unfit":              desc("unfit", "1 if the replica must not be active."),
		"term":               desc("term", "Term of the group."),
	}})
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.state
	for _, d := range c.gauge {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := c.r.Status()
	for _, p := range []Phase{Starting, Blank, Seeding, Following, Passive, Active, Failed} {
		ch <- prometheus.MustNewConstMetric(c.state, prometheus.GaugeValue, number(s.State == p), string(p))
	}
	unfit := number(s.Unfit != "")
	values := map[string]float64{
		"applied": float64(s.Applied), "lag_operations": float64(s.behind()),
		"missing_bodies": float64(s.CatchUp.Missing), "exposed_operations": float64(s.TwoSite.Operations), "unfit": unfit, "term": float64(s.Term),
		"refusing": number(s.Refuses != ""),
	}
	for name, d := range c.gauge {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, values[name])
	}
}

// behind gives how many operations the active replica has done that this one has not.
func (s Status) behind() uint64 {
	most := s.Applied
	for _, m := range s.Members {
		most = max(most, m.Applied)
	}
	return most - s.Applied
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
