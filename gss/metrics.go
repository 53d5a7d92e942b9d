package gss

import (
	"cmp"
	"errors"
	"sync"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"anycastle/gss/decide"
	"anycastle/gss/limit"
	"anycastle/gss/message"
	"anycastle/gss/transfer"
	"anycastle/gss/udp"
)

type metrics struct {
	queries    *prometheus.CounterVec
	dropped    *prometheus.CounterVec
	limited    *prometheus.CounterVec
	faults     prometheus.Counter
	place      *prometheus.GaugeVec
	headroom   *prometheus.GaugeVec
	works      *prometheus.GaugeVec
	ttl        *prometheus.GaugeVec
	generation prometheus.Gauge
	conns      prometheus.Gauge
	evicted    prometheus.Counter
	refused    prometheus.Counter
	packs      prometheus.Counter
	unsigned   prometheus.Counter
	transfers  *prometheus.CounterVec
	notifies   *prometheus.CounterVec

	mu       sync.Mutex            // guards the rest
	counters func() []udp.Counters // of the sockets; nil until they are open
	taken    udp.Counters          // the sum of what is in queries and dropped of them
	limits   func() []limit.Count  // likewise
	told     map[limit.Reason]limit.Count
}

// traffic is the counts of messages. Those that the sockets and the limits count for themselves are added when they are asked
// for, so that a query does not have to.
type traffic metrics

// Describe implements prometheus.Collector.
func (t *traffic) Describe(to chan<- *prometheus.Desc) {
	t.queries.Describe(to)
	t.dropped.Describe(to)
	t.limited.Describe(to)
}

// Collect implements prometheus.Collector.
func (t *traffic) Collect(to chan<- prometheus.Metric) {
	t.take()
	t.queries.Collect(to)
	t.dropped.Collect(to)
	t.limited.Collect(to)
}

// take adds what the sockets and the limits have counted since it was last added.
func (t *traffic) take() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counters == nil {
		return
	}
	var sum udp.Counters
	for _, c := range t.counters() {
		sum.Fast += c.Fast
		for i, n := range c.Dropped {
			sum.Dropped[i] += n
		}
		sum.Overflowed += c.Overflowed
	}
	udpLabel := message.UDP.String()
	t.queries.WithLabelValues(udpLabel, dns.RcodeToString[dns.RcodeSuccess]).Add(float64(sum.Fast - t.taken.Fast))
	for i := range udp.Reasons {
		why := i.String()
		switch i {
		case udp.Unanswered:
			continue // respond knows why
		case udp.Unwanted:
			why = string(limited) // or lost to a fault, which faults counts
		}
		if n := sum.Dropped[i] - t.taken.Dropped[i]; n > 0 {
			t.dropped.WithLabelValues(udpLabel, why).Add(float64(n))
		}
	}
	if n := sum.Overflowed - t.taken.Overflowed; n > 0 {
		t.dropped.WithLabelValues(udpLabel, "overflow").Add(float64(n))
	}
	t.taken = sum
	for _, c := range t.limits() {
		was := t.told[c.Reason]
		t.limited.WithLabelValues(c.Reason.String(), "held").Add(float64(c.Held - was.Held))
		t.limited.WithLabelValues(c.Reason.String(), "logged").Add(float64(c.Logged - was.Logged))
		t.told[c.Reason] = c
	}
}

// serve has the counts of the sockets and the limits be counted too.
func (m *metrics) serve(counters func() []udp.Counters, limits func() []limit.Count) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.counters, m.limits = counters, limits
}

// newMetrics makes the metrics and registers them, unless reg is nil.
func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		told: map[limit.Reason]limit.Count{},
		queries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "anycastle_gss_queries_total", Help: "DNS queries answered, by transport and response code.",
		}, []string{"transport", "rcode"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "anycastle_gss_dropped_total", Help: "Messages that were given no reply, by transport and reason.",
		}, []string{"transport", "reason"}),
		limited: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "anycastle_gss_limited_total", Help: "What was beyond a limit, by limit and effect: held back, or only logged (log_only).",
		}, []string{"limit", "effect"}),
		faults: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "anycastle_gss_faults_total", Help: "Queries lost to a fault of the server itself; anything but 0 is a bug.",
		}),
		place: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "anycastle_gss_answer_place", Help: "1 for the place where an answer stands, 0 for the others.",
		}, []string{"answer", "place"}),
		headroom: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "anycastle_gss_answer_headroom_ratio", Help: "What is left of an answer's capacity, 0 to 1; 1 when no balancer says.",
		}, []string{"answer"}),
		works: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "anycastle_gss_rule_works", Help: "1 while a rule is answered with something that works, 0 while with the last known good.",
		}, []string{"rule"}),
		ttl: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "anycastle_gss_rule_ttl_seconds", Help: "TTL of a rule's answers at this moment.",
		}, []string{"rule"}),
		generation: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "anycastle_gss_decision_generation", Help: "Number of the decision that replies follow.",
		}),
		conns: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "anycastle_gss_tcp_connections", Help: "Open TCP connections.",
		}),
		evicted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "anycastle_gss_tcp_evicted_total", Help: "TCP connections closed to make room for newer ones.",
		}),
		transfers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "anycastle_gss_transfers_total", Help: "Zone transfers, by zone, direction, kind (none: nothing was newer) and result.",
		}, []string{"zone", "direction", "kind", "result"}),
		notifies: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "anycastle_gss_notifies_total", Help: "Notifications of new versions of zones, by zone, direction and result.",
		}, []string{"zone", "direction", "result"}),
	}
	m.refused = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "anycastle_gss_refused_tellings_total", Help: "What other GSSes said and was not taken: late, repeated or not understood.",
	})
	m.packs = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "anycastle_gss_packs_total", Help: "How often the replies of what zones have were packed, as zones or signatures were others than before.",
	})
	m.unsigned = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "anycastle_gss_unsigned_replies_total", Help: "Replies of signed zones that went out without a signature: anything but 0 needs a look.",
	})
	if reg != nil {
		reg.MustRegister((*traffic)(m), m.refused, m.packs, m.unsigned, m.faults, m.place, m.headroom, m.works, m.ttl, m.generation, m.conns, m.evicted,
			m.transfers, m.notifies)
	}
	return m
}

// Why a message that deserved a reply was given none.
const (
	faulty  message.Reason = "fault"   // of our own
	limited message.Reason = "limited" // by Config.Limits
	aborted message.Reason = "aborted" // a transfer that the secondary did not take
)

// count takes note of one message; reply is nil when it got none.
func (m *metrics) count(via message.Transport, reply []byte, why message.Reason) {
	if reply == nil {
		m.dropped.WithLabelValues(via.String(), string(why)).Inc()
		return
	}
	m.queries.WithLabelValues(via.String(), rcodeName(message.Rcode(reply))).Inc()
}

func rcodeName(rcode int) string {
	if rcode == dns.RcodeBadVers {
		return "BADVERS" // the library calls it by its other name, BADSIG
	}
	return dns.RcodeToString[rcode]
}

// show shows a decision.
func (m *metrics) show(d decide.Decision) {
	m.generation.Set(float64(d.Generation))
	for name, v := range d.Answers {
		for _, p := range decide.Places() {
			value := 0.0
			if v.Place == p {
				value = 1
			}
			m.place.WithLabelValues(name, string(p)).Set(value)
		}
		m.headroom.WithLabelValues(name).Set(v.Headroom)
	}
	for name, r := range d.Rules {
		works := 0.0
		if r.Choices[0].Basis.Works() {
			works = 1
		}
		m.works.WithLabelValues(name).Set(works)
		m.ttl.WithLabelValues(name).Set(r.TTL.Seconds())
	}
}

// result is what became of something, as a label.
func result(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, transfer.ErrRefused):
		return "refused"
	}
	return "failed"
}

// transferredIn takes note of an attempt to transfer a zone from a primary.
func (m *metrics) transferredIn(o transfer.Outcome) {
	m.transfers.WithLabelValues(bare(o.Origin), "in", string(o.Kind), result(o.Err)).Inc()
}

// transferredOut takes note of a transfer that a secondary has asked for.
func (m *metrics) transferredOut(origin string, kind transfer.Kind, err error) {
	m.transfers.WithLabelValues(bare(origin), "out", string(cmp.Or(kind, transfer.None)), result(err)).Inc()
}

// notifiedIn takes note of a primary's notification.
func (m *metrics) notifiedIn(origin string, err error) {
	m.notifies.WithLabelValues(bare(origin), "in", result(err)).Inc()
}

// notifiedOut takes note of a notification of a secondary.
func (m *metrics) notifiedOut(origin string, err error) {
	m.notifies.WithLabelValues(bare(origin), "out", result(err)).Inc()
}
