package balancer

import "github.com/prometheus/client_golang/prometheus"

var (
	connected = prometheus.NewDesc("anycastle_gss_balancer_connected", "1 while the balancer is heard.", []string{"balancer"}, nil)
	reports   = prometheus.NewDesc("anycastle_gss_balancer_reports_total", "Reports that the balancer sent.",
		[]string{"balancer"}, nil)
	losses = prometheus.NewDesc("anycastle_gss_balancer_losses_total", "Connections to the balancer that ended.",
		[]string{"balancer"}, nil)
)

// Describe implements prometheus.Collector.
func (s *Set) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{connected, reports, losses} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (s *Set) Collect(to chan<- prometheus.Metric) {
	for _, is := range s.Status() {
		up := 0.0
		if is.Connected {
			up = 1
		}
		to <- prometheus.MustNewConstMetric(connected, prometheus.GaugeValue, up, is.Name)
		to <- prometheus.MustNewConstMetric(reports, prometheus.CounterValue, float64(is.Reports), is.Name)
		to <- prometheus.MustNewConstMetric(losses, prometheus.CounterValue, float64(is.Lost), is.Name)
	}
}
