package bfd

import "github.com/prometheus/client_golang/prometheus"

var (
	peerLabel = []string{"peer"}

	upDesc       = prometheus.NewDesc("anycastle_rhi_bfd_up", "1 while the BFD session with the peer is up.", peerLabel, nil)
	downsDesc    = prometheus.NewDesc("anycastle_rhi_bfd_downs_total", "How often a BFD session that was up went down.", peerLabel, nil)
	sentDesc     = prometheus.NewDesc("anycastle_rhi_bfd_sent_packets_total", "BFD packets that were sent to the peer.", peerLabel, nil)
	receivedDesc = prometheus.NewDesc("anycastle_rhi_bfd_received_packets_total", "BFD packets of the peer that were taken.", peerLabel, nil)
	failedDesc   = prometheus.NewDesc("anycastle_rhi_bfd_send_errors_total", "BFD packets to the peer that the kernel refused.", peerLabel, nil)
	stallsDesc   = prometheus.NewDesc("anycastle_rhi_bfd_stalls_total", "How often the clockwork was late by more than an interval of the session.", peerLabel, nil)
	droppedDesc  = prometheus.NewDesc("anycastle_rhi_bfd_dropped_packets_total", "BFD packets of the peer that were dropped, by reason.", []string{"peer", "reason"}, nil)
	straysDesc   = prometheus.NewDesc("anycastle_rhi_bfd_stray_packets_total", "BFD packets from no configured peer, by the reason for which they were dropped.", []string{"reason"}, nil)
)

// collector gives the figures of the sessions that stand when it is asked. The peers are those of the config, and the reasons
// are a fixed list.
type collector struct{ speaker *Speaker }

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{upDesc, downsDesc, sentDesc, receivedDesc, failedDesc, stallsDesc, droppedDesc, straysDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	for _, st := range c.speaker.Status() {
		up := 0.0
		if st.State == Up {
			up = 1
		}
		ch <- prometheus.MustNewConstMetric(upDesc, prometheus.GaugeValue, up, st.Peer)
		counter(downsDesc, st.Downs, st.Peer)
		counter(sentDesc, st.Sent, st.Peer)
		counter(receivedDesc, st.Received, st.Peer)
		counter(failedDesc, st.SendErrors, st.Peer)
		counter(stallsDesc, st.Stalls, st.Peer)
		for reason, n := range st.Dropped {
			counter(droppedDesc, n, st.Peer, reason)
		}
	}
	for reason, n := range c.speaker.Strays() {
		counter(straysDesc, n, reason)
	}
}
