package monitor

import (
	"maps"
	"slices"

	"anycastle/internal/probe"

	"github.com/prometheus/client_golang/prometheus"
)

// collector turns what is known of the targets into metrics when they are asked for. The labels are those of the config,
// which a reload may change, so it describes nothing beforehand.
type collector struct{ m *Monitor }

// Describe implements prometheus.Collector.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	extra := c.m.labels()
	desc := func(thing, help string) *prometheus.Desc {
		return prometheus.NewDesc("anycastle_monitor_target_"+thing, help, slices.Concat(ownLabels, extra), nil)
	}
	up := desc("up", "1 while the target passes, 0 while it fails; absent before the first probe.")
	duration := desc("duration_seconds", "How long the last probe took.")
	changes := desc("changes_total", "Changes from passing to failing and back.")
	last := desc("last_change_time_seconds", "Unix time when the state began; absent before the first probe.")
	probes := desc("probes_total", "Probes that have ended.")
	failures := desc("failures_total", "Probes that have failed.")
	for _, name := range c.m.order {
		w := c.m.watched[name]
		values := []string{name, w.addr, w.target.asks().Type}
		for _, label := range extra {
			values = append(values, w.target.Labels[label])
		}
		send := func(d *prometheus.Desc, kind prometheus.ValueType, v float64) {
			ch <- prometheus.MustNewConstMetric(d, kind, v, values...)
		}
		send(changes, prometheus.CounterValue, float64(w.changes))
		send(probes, prometheus.CounterValue, float64(w.probes))
		send(failures, prometheus.CounterValue, float64(w.failures))
		if w.state == probe.Unknown {
			continue
		}
		passes := 0.0
		if w.state == probe.Passing {
			passes = 1
		}
		send(up, prometheus.GaugeValue, passes)
		send(duration, prometheus.GaugeValue, w.took.Seconds())
		send(last, prometheus.GaugeValue, float64(w.since.UnixMilli())/1000)
	}
}

// labels gives the names of all labels of targets. One that a target does not have is empty there, which is the same to
// Prometheus. The caller holds mu.
func (m *Monitor) labels() []string {
	names := map[string]bool{}
	for _, w := range m.watched {
		for name := range w.target.Labels {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}
