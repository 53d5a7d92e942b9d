package queue

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// collector turns a queue into metrics when they are asked for.
type collector struct {
	queue func() *Queue

	entries, recipients, running, done, deferred, bounced, reports, aside, latency, attempt *prometheus.Desc
}

// NewCollector gives the metrics of a queue. While the function gives nil there are none.
func NewCollector(queue func() *Queue) prometheus.Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("anycastle_queue_"+name, help, labels, nil)
	}
	return &collector{
		queue:      queue,
		entries:    desc("entries", "Messages in the queue, by state.", "state"),
		recipients: desc("recipients", "Recipients of the messages in the queue."),
		running:    desc("attempts_running", "Attempts under way."),
		done:       desc("deliveries_total", "Recipients whose hosts took a message, since the start."),
		deferred:   desc("deferrals_total", "Attempts for a recipient that are to be repeated, since the start, by reason.", "reason"),
		bounced:    desc("bounces_total", "Recipients that failed, since the start, by reason.", "reason"),
		reports:    desc("reports_total", "Delivery status notifications made since the start, by kind.", "kind"),
		aside:      desc("set_aside", "Damaged entries and debris that were set aside since the start."),
		latency:    desc("delivery_seconds", "From a message's arrival in the queue until a recipient's host took it."),
		attempt:    desc("attempt_seconds", "How long attempts took."),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.entries, c.recipients, c.running, c.done, c.deferred, c.bounced, c.reports, c.aside, c.latency, c.attempt,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	q := c.queue()
	if q == nil {
		return
	}
	is := q.Summary()
	counts, latency, attempted := q.stats.read()
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	gauge(c.entries, is.Entries-is.Held, "waiting")
	gauge(c.entries, is.Held, "held")
	gauge(c.recipients, is.Recipients)
	gauge(c.running, is.Sessions)
	gauge(c.aside, is.SetAside)
	ch <- prometheus.MustNewConstMetric(c.done, prometheus.CounterValue, float64(counts.Delivered))
	for _, m := range []struct {
		desc *prometheus.Desc
		by   map[string]uint64
	}{{c.deferred, counts.Deferred}, {c.bounced, counts.Bounced}, {c.reports, counts.Reports}} {
		for word, n := range m.by {
			ch <- prometheus.MustNewConstMetric(m.desc, prometheus.CounterValue, float64(n), word)
		}
	}
	ch <- latency.metric(c.latency, latencyBounds)
	ch <- attempted.metric(c.attempt, attemptBounds)
}

// metric gives a histogram with the counts up to each bound.
func (h Histogram) metric(d *prometheus.Desc, bounds []time.Duration) prometheus.Metric {
	upTo, sum := map[float64]uint64{}, uint64(0)
	for i, b := range bounds {
		if h.Buckets != nil {
			sum += h.Buckets[i]
		}
		upTo[b.Seconds()] = sum
	}
	return prometheus.MustNewConstHistogram(d, h.Count, h.Sum.Seconds(), upTo)
}
