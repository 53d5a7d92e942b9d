package mesh

import "github.com/prometheus/client_golang/prometheus"

// Why a message, or an entry in one, was not taken.
const (
	reasonKey     = "key"     // it is of another key, or of none
	reasonGroup   = "group"   // it is of another mesh with the same key
	reasonFormat  = "format"  // it does not decode
	reasonClock   = "clock"   // it comes from too far in the future
	reasonFull    = "full"    // there is no room in the map
	reasonMembers = "members" // a member too many, or of no valid name
	reasonName    = "name"    // two members have one name
	reasonStreams = "streams" // too many streams at once
)

var reasons = []string{reasonKey, reasonGroup, reasonFormat, reasonClock, reasonFull, reasonMembers, reasonName, reasonStreams}

var (
	membersDesc = prometheus.NewDesc("anycastle_mesh_members", "Members of the mesh, this one among them, by state.", []string{"state"}, nil)
	keysDesc    = prometheus.NewDesc("anycastle_mesh_keys", "Keys in the map.", nil, nil)
	tombsDesc   = prometheus.NewDesc("anycastle_mesh_tombstones", "Deleted keys that the map remembers.", nil, nil)
)

// counters is what the mesh counts.
type counters struct {
	received, taken, joins prometheus.Counter
	rejected               *prometheus.CounterVec
}

func newCounters() counters {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	c := counters{
		received: counter("anycastle_mesh_messages_received_total", "Messages about the map from members."),
		taken:    counter("anycastle_mesh_changes_taken_total", "Changes of other members that were new."),
		joins:    counter("anycastle_mesh_joins_failed_total", "Attempts to reach a member that did not."),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "anycastle_mesh_messages_rejected_total", Help: "Messages, or entries in them, that were not taken, by reason.",
		}, []string{"reason"}),
	}
	for _, r := range reasons {
		c.rejected.WithLabelValues(r)
	}
	return c
}

// collector gives the metrics of a mesh.
type collector struct{ *Mesh }

// Describe implements prometheus.Collector.
func (m collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{membersDesc, keysDesc, tombsDesc} {
		ch <- d
	}
	for _, c := range m.counters.all() {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (m collector) Collect(ch chan<- prometheus.Metric) {
	in := map[string]int{}
	for _, member := range m.members.list() {
		in[member.State]++
	}
	for _, state := range []string{Alive, Lost, Left} {
		ch <- prometheus.MustNewConstMetric(membersDesc, prometheus.GaugeValue, float64(in[state]), state)
	}
	live, tombstones := m.data.counts()
	ch <- prometheus.MustNewConstMetric(keysDesc, prometheus.GaugeValue, float64(live))
	ch <- prometheus.MustNewConstMetric(tombsDesc, prometheus.GaugeValue, float64(tombstones))
	for _, c := range m.counters.all() {
		c.Collect(ch)
	}
}

func (c counters) all() []prometheus.Collector {
	return []prometheus.Collector{c.received, c.taken, c.joins, c.rejected}
}
