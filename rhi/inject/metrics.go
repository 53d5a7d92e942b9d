package inject

import (
	"github.com/prometheus/client_golang/prometheus"

	"anycastle/rhi/decide"
)

// metrics are the figures of an Injector.
type metrics struct {
	place   *prometheus.GaugeVec
	penalty *prometheus.GaugeVec
	alarms  *prometheus.GaugeVec
	moves   *prometheus.CounterVec
	refused prometheus.Counter
	untold  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		place:   gauge("anycastle_rhi_vip_place", "1 at the place on the ladder where the VIP stands.", "vip", "place"),
		penalty: gauge("anycastle_rhi_vip_penalty", "What an upstream would think of the VIP's flaps (RFC 2439).", "vip"),
		alarms:  gauge("anycastle_rhi_vip_alarms", "Things about the VIP that somebody should look at; explain vip says what.", "vip"),
		moves: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "anycastle_rhi_vip_moves_total", Help: "Moves of VIPs to a place on the ladder."}, []string{"place"}),
		refused: counter("anycastle_rhi_reports_refused_total", "Reports of other balancers that were not taken."),
		untold:  counter("anycastle_rhi_reports_untold_total", "Reports that could not be sent to other balancers."),
	}
	if reg != nil {
		reg.MustRegister(m.place, m.penalty, m.alarms, m.moves, m.refused, m.untold)
	}
	return m
}

// show brings the gauges to what is decided. VIPs that are gone leave nothing behind.
func (m *metrics) show(ds decide.Decisions, state decide.State) {
	m.place.Reset()
	m.penalty.Reset()
	m.alarms.Reset()
	for prefix, d := range ds.VIPs {
		vip := prefix.String()
		m.place.WithLabelValues(vip, string(d.Place)).Set(1)
		m.penalty.WithLabelValues(vip).Set(state[prefix].Penalty)
		m.alarms.WithLabelValues(vip).Set(float64(len(d.Alarms)))
	}
}
