package lb

import "github.com/prometheus/client_golang/prometheus"

var (
	vipPackets = prometheus.NewDesc("anycastle_lb_vip_packets_total", "Packets sent to reals.", []string{"vip"}, nil)
	vipBytes   = prometheus.NewDesc("anycastle_lb_vip_bytes_total", "Bytes sent to reals, without outer headers.",
		[]string{"vip"}, nil)
	vipAnnounced = prometheus.NewDesc("anycastle_lb_vip_announced", "1 while the VIP's address is announced.",
		[]string{"vip"}, nil)
	realActive = prometheus.NewDesc("anycastle_lb_real_active", "1 while the real takes new flows.",
		[]string{"farm", "real"}, nil)
	realSlots = prometheus.NewDesc("anycastle_lb_real_slots", "Slots of the farm's table whose new flows go to the real.",
		[]string{"farm", "real"}, nil)
	farmMoving = prometheus.NewDesc("anycastle_lb_farm_transition_slots", "Slots whose new and established flows are at different reals.",
		[]string{"farm"}, nil)
	dropPackets = prometheus.NewDesc("anycastle_lb_drop_packets_total", "Packets dropped, by reason.",
		[]string{"reason"}, nil)
)

// collector reads an LB's status when it is scraped: the counts are in the kernel, and no copy of them is kept.
type collector struct{ lb *LB }

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{vipPackets, vipBytes, vipAnnounced, realActive, realSlots, farmMoving, dropPackets} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	for _, v := range c.lb.VIPs() {
		ch <- prometheus.MustNewConstMetric(vipPackets, prometheus.CounterValue, float64(v.Packets), v.Name)
		ch <- prometheus.MustNewConstMetric(vipBytes, prometheus.CounterValue, float64(v.Bytes), v.Name)
		ch <- prometheus.MustNewConstMetric(vipAnnounced, prometheus.GaugeValue, number(v.Announced), v.Name)
	}
	for _, r := range c.lb.Reals() {
		ch <- prometheus.MustNewConstMetric(realActive, prometheus.GaugeValue, number(r.State.inService()), r.Farm, r.Name)
		ch <- prometheus.MustNewConstMetric(realSlots, prometheus.GaugeValue, float64(r.Slots), r.Farm, r.Name)
	}
	for _, f := range c.lb.Farms() {
		ch <- prometheus.MustNewConstMetric(farmMoving, prometheus.GaugeValue, float64(f.Moving), f.Name)
	}
	for _, d := range c.lb.Drops() {
		ch <- prometheus.MustNewConstMetric(dropPackets, prometheus.CounterValue, float64(d.Packets), d.Reason)
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
