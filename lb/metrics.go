package lb

import (
	"anycastle/internal/probe"

	"github.com/prometheus/client_golang/prometheus"
)

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
	replyPackets = prometheus.NewDesc("anycastle_lb_reply_packets_total", "Packets answered by the balancer itself: echo replies and too-big errors.",
		[]string{"kind"}, nil)
	displacedFlows = prometheus.NewDesc("anycastle_lb_displaced_flows_total",
		"Flows stored in a transition that had to make room for others: they go on as if older than it.", nil, nil)
	realStates = prometheus.NewDesc("anycastle_lb_real_state", "1 for the state that the real is in.",
		[]string{"farm", "real", "state"}, nil)
	realWeight = prometheus.NewDesc("anycastle_lb_real_weight", "Weight that the config gives the real.",
		[]string{"farm", "real"}, nil)
	probesFailing = prometheus.NewDesc("anycastle_lb_real_probes_failing", "Probes of the real that fail.",
		[]string{"farm", "real"}, nil)
	selectorsNow     = prometheus.NewDesc("anycastle_lb_selectors", "Site selectors that are told how the VIPs stand.", nil, nil)
	selectorsLost    = prometheus.NewDesc("anycastle_lb_selectors_lost_total", "Site selectors that were dropped as too slow.", nil, nil)
	selectorsRefused = prometheus.NewDesc("anycastle_lb_selectors_refused_total",
		"Connections that ask how VIPs stand and were turned away: by their certificate, or as too many.", nil, nil)
	agentChecks = prometheus.NewDesc("anycastle_lb_agent_checks_total", "Agent-checks of the VIP that were answered.", []string{"vip"}, nil)
)

// collector reads an LB's status when it is scraped: the counts are in the kernel, and no copy of them is kept.
type collector struct{ lb *LB }

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{vipPackets, vipBytes, vipAnnounced, realActive, realSlots, farmMoving, dropPackets,
		replyPackets, displacedFlows, realStates, realWeight, probesFailing, selectorsNow, selectorsLost, selectorsRefused, agentChecks} {
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
	c.collectReals(ch)
	for _, f := range c.lb.Farms() {
		ch <- prometheus.MustNewConstMetric(farmMoving, prometheus.GaugeValue, float64(f.Moving), f.Name)
	}
	for _, d := range c.lb.Drops() {
		ch <- prometheus.MustNewConstMetric(dropPackets, prometheus.CounterValue, float64(d.Packets), d.Reason)
	}
	for _, r := range c.lb.Replies() {
		ch <- prometheus.MustNewConstMetric(replyPackets, prometheus.CounterValue, float64(r.Packets), r.Kind)
	}
	ch <- prometheus.MustNewConstMetric(displacedFlows, prometheus.CounterValue, float64(c.lb.displaced()))
	if r := c.lb.reporter; r != nil {
		listening, slow, refused, checked := r.asked()
		ch <- prometheus.MustNewConstMetric(selectorsNow, prometheus.GaugeValue, float64(listening))
		ch <- prometheus.MustNewConstMetric(selectorsLost, prometheus.CounterValue, float64(slow))
		ch <- prometheus.MustNewConstMetric(selectorsRefused, prometheus.CounterValue, float64(refused))
		for vip := range c.lb.config().agentChecks() {
			ch <- prometheus.MustNewConstMetric(agentChecks, prometheus.CounterValue, float64(checked[vip]), vip)
		}
	}
}

// collectReals takes what has one name together: a real that has moved to another address drains at the old one.
func (c collector) collectReals(ch chan<- prometheus.Metric) {
	type sum struct {
		active        bool
		slots, weight int
		failing       int
		states        map[State]bool
	}
	sums := map[realID]*sum{}
	for _, r := range c.lb.Reals() {
		id := realID{r.Farm, r.Name}
		if sums[id] == nil {
			sums[id] = &sum{states: map[State]bool{}}
		}
		s := sums[id]
		s.active = s.active || r.State.inService()
		s.slots += r.Slots
		s.weight = max(s.weight, r.Weight)
		s.states[r.State] = true
	}
	for _, p := range c.lb.Probes() {
		if s := sums[realID{p.Farm, p.Real}]; s != nil && p.State == probe.Failing {
			s.failing++
		}
	}
	for id, s := range sums {
		gauge := func(d *prometheus.Desc, value float64, more ...string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, append([]string{id.farm, id.name}, more...)...)
		}
		gauge(realActive, number(s.active))
		gauge(realSlots, float64(s.slots))
		gauge(realWeight, float64(s.weight))
		gauge(probesFailing, float64(s.failing))
		for state := range s.states {
			gauge(realStates, 1, string(state))
		}
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
