package mailroles

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"anycastle/mailroles/tally"
)

// collector turns a tally into metrics when they are asked for.
type collector struct {
	tally                         *tally.Tally
	sessions, done, rejects, legs *prometheus.Desc
}

// register offers the metrics of a tally: anycastle_ROLE_sessions, anycastle_ROLE_DONE_total,
// anycastle_ROLE_rejects_total by reason, and the histogram anycastle_ROLE_leg_seconds by leg.
func register(reg prometheus.Registerer, role, done string, t *tally.Tally) error {
	if reg == nil {
		return nil
	}
	name := func(thing string) string { return "anycastle_" + role + "_" + thing }
	err := reg.Register(&collector{
		tally:    t,
		sessions: prometheus.NewDesc(name("sessions"), "Sessions open now.", nil, nil),
		done:     prometheus.NewDesc(name(done+"_total"), "Since the start: "+done+".", nil, nil),
		rejects:  prometheus.NewDesc(name("rejects_total"), "Refusals since the start, by reason.", []string{"reason"}, nil),
		legs:     prometheus.NewDesc(name("leg_seconds"), "How long each leg of the work takes.", []string{"leg"}, nil),
	})
	if err != nil {
		return fmt.Errorf("register metrics of %s: %w", role, err)
	}
	return nil
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.sessions
	ch <- c.done
	ch <- c.rejects
	ch <- c.legs
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	counts := c.tally.Counts()
	ch <- prometheus.MustNewConstMetric(c.sessions, prometheus.GaugeValue, float64(counts.Sessions))
	ch <- prometheus.MustNewConstMetric(c.done, prometheus.CounterValue, float64(counts.Done))
	for reason, n := range counts.Rejects {
		ch <- prometheus.MustNewConstMetric(c.rejects, prometheus.CounterValue, float64(n), reason)
	}
	for leg, s := range counts.Legs {
		buckets := map[float64]uint64{}
		for i, bound := range tally.Bounds {
			buckets[bound] = s.Buckets[i]
		}
		ch <- prometheus.MustNewConstHistogram(c.legs, s.Count, s.Sum.Seconds(), buckets, leg)
	}
}

// counts turns a map of counts into a metric when it is asked for.
type counts struct {
	desc *prometheus.Desc
	read func() map[string]uint64
}

// registerCounts offers the metric anycastle_NAME_total by a label.
func registerCounts(reg prometheus.Registerer, name, help, label string, read func() map[string]uint64) error {
	if reg == nil {
		return nil
	}
	name = "anycastle_" + name + "_total"
	if err := reg.Register(&counts{desc: prometheus.NewDesc(name, help, []string{label}, nil), read: read}); err != nil {
		return fmt.Errorf("register %s: %w", name, err)
	}
	return nil
}

// Describe implements prometheus.Collector.
func (c *counts) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect implements prometheus.Collector.
func (c *counts) Collect(ch chan<- prometheus.Metric) {
	for value, n := range c.read() {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.CounterValue, float64(n), value)
	}
}
