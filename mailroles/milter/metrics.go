package milter

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// collector turns the counts of a chain into metrics when they are asked for.
type collector struct {
	chain                           *Chain
	up, verdicts, failures, seconds *prometheus.Desc
}

// Register offers the metrics of a chain: anycastle_ROLE_milter_up, _verdicts_total, _failures_total and _seconds, by the
// name of the milter.
func (c *Chain) Register(reg prometheus.Registerer, role string) error {
	if reg == nil || len(c.filters) == 0 {
		return nil
	}
	desc := func(thing, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("anycastle_"+role+"_milter_"+thing, help, append([]string{"milter"}, labels...), nil)
	}
	err := reg.Register(&collector{
		chain:    c,
		up:       desc("up", "1 unless the milter failed when it was last needed."),
		verdicts: desc("verdicts_total", "Verdicts since the start; a message in quarantine is accepted too.", "verdict"),
		failures: desc("failures_total", "Failures to judge since the start, by the stage of SMTP.", "stage"),
		seconds:  desc("seconds", "Time to judge a whole message."),
	})
	if err != nil {
		return fmt.Errorf("register metrics of milters: %w", err)
	}
	return nil
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.up
	ch <- c.verdicts
	ch <- c.failures
	ch <- c.seconds
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	for _, f := range c.chain.filters {
		s := f.read()
		up := 1.0
		if s.State == StateFailing {
			up = 0
		}
		ch <- prometheus.MustNewConstMetric(c.up, prometheus.GaugeValue, up, f.Name)
		for verdict, n := range s.Verdicts {
			ch <- prometheus.MustNewConstMetric(c.verdicts, prometheus.CounterValue, float64(n), f.Name, verdict)
		}
		for stage, n := range s.Failures {
			ch <- prometheus.MustNewConstMetric(c.failures, prometheus.CounterValue, float64(n), f.Name, stage)
		}
		n, sum, buckets := f.times()
		ch <- prometheus.MustNewConstHistogram(c.seconds, n, sum, buckets, f.Name)
	}
}

// times gives how many messages took how many seconds, and how many of them at most each bound.
func (c *counts) times() (n uint64, sum float64, atMost map[float64]uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	atMost = map[float64]uint64{}
	var total uint64
	for i, end := range bounds {
		total += c.buckets[i]
		atMost[end] = total
	}
	return c.messages, c.seconds, atMost
}
