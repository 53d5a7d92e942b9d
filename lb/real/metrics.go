package real

import (
	"anycastle/lb/agent"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	decapPackets = prometheus.NewDesc("anycastle_real_decapsulated_packets_total",
		"Packets handed to the kernel without their outer header.", nil, nil)
	decapBytes = prometheus.NewDesc("anycastle_real_decapsulated_bytes_total", "Bytes of these.", nil, nil)
	drops      = prometheus.NewDesc("anycastle_real_drop_packets_total", "Packets dropped, by reason.",
		[]string{"reason"}, nil)
	vipFlows = prometheus.NewDesc("anycastle_real_vip_flows", "Flows of the VIP on this server, all ports together.",
		[]string{"vip"}, nil)
	vipRefused = prometheus.NewDesc("anycastle_real_vip_refused_connections_total",
		"Connections refused: RST in answer to a SYN, or ICMP port unreachable.", []string{"vip"}, nil)
	vipResets    = prometheus.NewDesc("anycastle_real_vip_resets_total", "Other RST sent.", []string{"vip"}, nil)
	vipOverflows = prometheus.NewDesc("anycastle_real_vip_overflows_total",
		"Connections dropped by a listening socket of the VIP: its queue was full.", []string{"vip"}, nil)
	loadRatio = prometheus.NewDesc("anycastle_real_load_ratio",
		"How busy the server is, 1 being fully: load average for each CPU, or the fullest accept queue.", nil, nil)
	readers    = prometheus.NewDesc("anycastle_real_agent_readers", "Load balancers that read reports.", nil, nil)
	listenLost = prometheus.NewDesc("anycastle_real_listen_overflows_total",
		"Connections dropped since an accept queue was full, of the whole network namespace.", nil, nil)
)

// collector reads the counters when it is scraped: they are in the kernel, and no copy of them is kept.
type collector struct{ role *Role }

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{decapPackets, decapBytes, drops, vipFlows, vipRefused, vipResets, vipOverflows,
		loadRatio, readers, listenLost} {
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
	if s.Agent != nil {
		c.collectAgent(ch, s.Agent)
	}
}

// collectAgent adds up the ports of each VIP: a label is only what the config names.
func (c collector) collectAgent(ch chan<- prometheus.Metric, a *AgentStatus) {
	ch <- prometheus.MustNewConstMetric(readers, prometheus.GaugeValue, float64(a.Readers))
	ch <- prometheus.MustNewConstMetric(listenLost, prometheus.CounterValue, float64(a.ListenOverflows))
	if a.At.IsZero() { // no report can be made
		return
	}
	ch <- prometheus.MustNewConstMetric(loadRatio, prometheus.GaugeValue, a.Load)
	for _, vip := range c.role.cfg.VIPs {
		var sum agent.Port
		for _, p := range a.VIPs {
			if p.Address == vip {
				sum.Flows += p.Flows
				sum.Refused += p.Refused
				sum.Resets += p.Resets
				sum.Overflows += p.Overflows
			}
		}
		ch <- prometheus.MustNewConstMetric(vipFlows, prometheus.GaugeValue, float64(sum.Flows), vip.String())
		ch <- prometheus.MustNewConstMetric(vipRefused, prometheus.CounterValue, float64(sum.Refused), vip.String())
		ch <- prometheus.MustNewConstMetric(vipResets, prometheus.CounterValue, float64(sum.Resets), vip.String())
		ch <- prometheus.MustNewConstMetric(vipOverflows, prometheus.CounterValue, float64(sum.Overflows), vip.String())
	}
}
