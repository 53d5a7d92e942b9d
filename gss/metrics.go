package gss

import (
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"anycastle/internal/probe"
)

type metrics struct {
	queries    *prometheus.CounterVec
	dropped    *prometheus.CounterVec
	faults     prometheus.Counter
	passing    *prometheus.GaugeVec
	generation prometheus.Gauge
	conns      prometheus.Gauge
	evicted    prometheus.Counter
}

// newMetrics makes the metrics and registers them, unless reg is nil.
func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		queries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "anycastle_gss_queries_total", Help: "DNS queries answered, by transport and response code.",
		}, []string{"transport", "rcode"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "anycastle_gss_dropped_total", Help: "Messages that were given no reply, by transport.",
		}, []string{"transport"}),
		faults: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "anycastle_gss_faults_total", Help: "Queries lost to a fault of the server itself; anything but 0 is a bug.",
		}),
		passing: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "anycastle_gss_answer_passing", Help: "1 while the answer's probe passes, 0 while it fails.",
		}, []string{"answer"}),
		generation: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "anycastle_gss_decision_generation", Help: "Number of the decision that replies follow.",
		}),
		conns: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "anycastle_gss_tcp_connections", Help: "Open TCP connections.",
		}),
		evicted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "anycastle_gss_tcp_evicted_total", Help: "TCP connections closed to make room for newer ones.",
		}),
	}
	if reg != nil {
		reg.MustRegister(m.queries, m.dropped, m.faults, m.passing, m.generation, m.conns, m.evicted)
	}
	return m
}

func (m *metrics) setAnswer(name string, s probe.State) {
	value := 0.0
	if s == probe.Passing {
		value = 1
	}
	m.passing.WithLabelValues(name).Set(value)
}

// count takes note of one message; reply is nil when it got none.
func (m *metrics) count(via transport, reply []byte, rcode int) {
	if reply == nil {
		m.dropped.WithLabelValues(string(via)).Inc()
		return
	}
	name := dns.RcodeToString[rcode]
	if rcode == dns.RcodeBadVers {
		name = "BADVERS" // the library calls it by its other name, BADSIG
	}
	m.queries.WithLabelValues(string(via), name).Inc()
}
