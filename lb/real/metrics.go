package real

import "github.com/prometheus/client_golang/prometheus"

var (
	decapPackets = prometheus.NewDesc("anycastle_real_decapsulated_packets_total",
		"Packets handed to the kernel without their outer header.", nil, nil)
	decapBytes = prometheus.NewDesc("anycastle_real_decapsulated_bytes_total", "Bytes of these.", nil, nil)
	drops      = prometheus.NewDesc("anycastle_real_drop_packets_total", "Packets dropped, by reason.",
		[]string{"reason"}, nil)
)

// collector reads the counters when it is scraped: they are in the kernel, and no copy of them is kept.
type collector struct{ role *Role }

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{decapPackets, decapBytes, drops} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	s := c.role.Snapshot()
	ch <- prometheus.MustNewConstMetric(decapPackets, prometheus.CounterValue, float64(s.Decapsulated))
	ch <- prometheus.MustNewConstMetric(decapBytes, prometheus.CounterValue, float64(s.Bytes))
	for _, d := range s.Drops {
		ch <- prometheus.MustNewConstMetric(drops, prometheus.CounterValue, float64(d.Packets), d.Reason)
	}
}
