package gssbench

import (
	"flag"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"anycastle/internal/proctest"
)

const (
	bound  = 8 * time.Second  // from the death of a site, at a TTL of 5s
	watch  = 12 * time.Second // for how long a site stays dead, at least
	maxTTL = 5 * time.Second

	hiccup = 4 * period // that a client may be late to ask; a round with more is not counted, as the machine was too busy
)

var rounds = flag.Int("rounds", 10, "how often the site dies in the benchmark of failover")

// outcome is what a death of a site was to a client.
type outcome struct {
	lastBad   time.Duration // after it the client was told the dead site's VIP for the last time; 0: never
	firstGood time.Duration // after it the client was connected for the first time to the other site; 0: never
}

// outcome looks at a death, and the time that was watched after it.
func (c *client) outcome(died, until time.Time, dead, other string) (o outcome) {
	for _, q := range c.questions(died.Add(-waiting), until) {
		if q.answered.After(died) && slices.Contains(q.addrs, vip4(dead)) {
			o.lastBad = max(o.lastBad, q.answered.Sub(died))
		}
		if q.sent.After(died) && q.site == other[0] && (o.firstGood == 0 || q.connected.Sub(died) < o.firstGood) {
			o.firstGood = q.connected.Sub(died)
		}
	}
	return o
}

// subject is a client and what it asks.
type subject struct {
	name string // of its row
	*client
	outcomes []outcome
	faults   faults
}

// BenchmarkFailover has a site die without a sign, its site selector with it: all packets are lost that enter or leave it. For
// the client of each resolver, and one that asks a site selector elsewhere with no resolver between, it gives when after that
// the client was told the dead site's VIP for the last time, and when it was connected first to the other: worst and median of
// all rounds, which all resolvers see at once, at any time within their TTLs. Faults are counted from the first round to the
// end of the last.
func BenchmarkFailover(b *testing.B) {
	list := slices.Concat(resolvers(false), resolvers(true), iterating(), ofOwn(false), ofOwn(true), tuned())
	w := newWorld(b, append(hostsOf(list), "none", "root")...)
	w.startRoot()
	w.startAll()
	ask := func(int) string { return steered }
	direct := netip.AddrPortFrom(w.addr["gss-west"], 53).String()
	subjects := []*subject{{name: "silent-loss/serve_stale=off/resolver=none", client: w.startClient("none", direct, true, ask)}}
	for _, r := range list {
		w.startResolver(r)
		subjects = append(subjects, &subject{name: r.row("silent-loss"), client: w.startClient(r.host(), "127.0.0.1:53", true, ask)})
	}
	before := load()
	w.settle("east", subjects)
	began := time.Now()
	discarded := 0
	for i := range *rounds {
		for ; !w.round(subjects, i); discarded++ {
			if discarded == *rounds {
				b.Fatalf("%d rounds cannot be counted: the machine is too busy", discarded)
			}
		}
	}
	end := time.Now()
	pause(b, waiting)
	b.Logf("load before: %s; after %d rounds: %s; rounds that are not counted: %d", before, *rounds, load(), discarded)
	for _, s := range subjects {
		s.end()
		s.faults = s.client.faults(began, end)
		b.Run(s.name, s.report)
	}
}

// settle waits until all clients are told of a site.
func (w *world) settle(site string, subjects []*subject) {
	w.t.Helper()
	for _, s := range subjects {
		proctest.Eventually(w.t, s.host+" is told of "+site, func() bool { return s.settled(site) })
	}
}

// round has east die, watches, and heals it. It gives whether the round counts.
func (w *world) round(subjects []*subject, number int) (counts bool) {
	w.t.Helper()
	pause(w.t, rand.N(maxTTL))
	died := time.Now()
	heal := w.loseSite("east")
	w.waitPlace("east", "out", "west", "witness")
	w.t.Logf("round %d: out after %v", number, time.Since(died).Round(time.Millisecond))
	pause(w.t, time.Until(died.Add(watch)))
	w.settle("west", subjects)
	until := time.Now()
	late := time.Duration(0)
	for _, s := range subjects {
		late = max(late, s.latest(died.Add(-time.Second), until))
	}
	for _, s := range subjects {
		o := s.outcome(died, until, "east", "west")
		if late <= hiccup {
			s.outcomes = append(s.outcomes, o)
		}
		w.t.Logf("round %d: %s: last bad %v, first good %v", number, s.host, o.lastBad.Round(time.Millisecond),
			o.firstGood.Round(time.Millisecond))
	}
	heal()
	w.settle("east", subjects)
	w.t.Logf("round %d: a client was late to ask by up to %v", number, late.Round(time.Millisecond))
	return late <= hiccup
}

// report gives the row of a client.
func (s *subject) report(b *testing.B) {
	if len(s.outcomes) == 0 || slices.ContainsFunc(s.outcomes, func(o outcome) bool { return o.firstGood == 0 }) {
		b.Fatalf("in a round the client was never connected to the other site: %v", s.outcomes)
	}
	var bad, good []time.Duration
	for _, o := range s.outcomes {
		bad, good = append(bad, o.lastBad), append(good, o.firstGood)
	}
	slices.Sort(bad)
	slices.Sort(good)
	n := len(bad)
	b.ReportMetric(0, "ns/op") // that of all rounds says nothing
	b.ReportMetric(milliseconds(bad[n-1]), "last_bad_ms")
	b.ReportMetric(milliseconds(bad[n/2]), "last_bad_median_ms")
	b.ReportMetric(milliseconds(good[n-1]), "first_good_ms")
	b.ReportMetric(milliseconds(good[n/2]), "first_good_median_ms")
	b.ReportMetric(float64(n), "rounds")
	s.faults.report(b)
	if good[n-1] > bound {
		b.Logf("the worst, %v, is over %v", good[n-1], bound)
	}
}

func (f faults) report(b *testing.B) {
	b.ReportMetric(float64(f.questions), "questions")
	b.ReportMetric(float64(f.servfails), "servfails")
	b.ReportMetric(float64(f.empty), "empty")
	b.ReportMetric(float64(f.timeouts), "timeouts")
	b.ReportMetric(milliseconds(f.slowest), "slowest_ms")
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
