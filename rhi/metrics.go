package rhi

import "github.com/prometheus/client_golang/prometheus"

// metrics are the role's figures. The only label is the peer's name from the config.
type metrics struct {
	sessionUp    *prometheus.GaugeVec
	sessionDowns *prometheus.CounterVec
	peersRefused *prometheus.CounterVec
	announced    prometheus.Gauge
	announces    prometheus.Counter
	withdraws    prometheus.Counter
	rungChanges  prometheus.Counter
	kernelRoutes prometheus.Gauge
	syncErrors   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		sessionUp: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "anycastle_rhi_session_up", Help: "1 while the BGP session with the peer is established; of dynamic peers, how many are."}, []string{"peer"}),
		sessionDowns: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "anycastle_rhi_session_downs_total", Help: "How often an established session was lost."}, []string{"peer"}),
		peersRefused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "anycastle_rhi_dynamic_peers_refused_total", Help: "Dynamic peers that were turned away for max_peers."}, []string{"peer"}),
		announced: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "anycastle_rhi_announced_prefixes", Help: "Prefixes of the node's own that are announced."}),
		announces: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "anycastle_rhi_announces_total", Help: "Prefixes that began to be announced."}),
		withdraws: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "anycastle_rhi_withdraws_total", Help: "Prefixes that were withdrawn."}),
		rungChanges: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "anycastle_rhi_rung_changes_total", Help: "Announced prefixes that went to another rung of a ladder."}),
		kernelRoutes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "anycastle_rhi_kernel_routes", Help: "Learned routes that stand in the kernel."}),
		syncErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "anycastle_rhi_sync_errors_total", Help: "Syncs of routes that ended with an error and will be tried again."}),
	}
	if reg != nil {
		reg.MustRegister(m.sessionUp, m.sessionDowns, m.peersRefused, m.announced, m.announces, m.withdraws, m.rungChanges, m.kernelRoutes, m.syncErrors)
	}
	return m
}
