package rhi

import "github.com/prometheus/client_golang/prometheus"

// metrics are the role's figures. Labels are the peer's name from the config, and the steps and kinds of transitions.
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
	transitions  *prometheus.HistogramVec
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
		transitions: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "anycastle_rhi_transition_seconds",
			Help: "From one stamp of a prefix's transition at a peer to the next: decision, written, acknowledged; all is from the cause to the peer's acknowledgment.",
			Buckets: []float64{
				1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
			}}, []string{"step", "kind"}),
	}
	if reg != nil {
		reg.MustRegister(m.sessionUp, m.sessionDowns, m.peersRefused, m.announced, m.announces, m.withdraws, m.rungChanges, m.kernelRoutes, m.syncErrors, m.transitions)
	}
	return m
}
