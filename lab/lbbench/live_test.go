package lbbench

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// scale is how much goes on in a scenario.
type scale struct {
	connections int
	period      time.Duration // between two messages of a connection
	opening     time.Duration // for a quarter of the connections
	transition  time.Duration // of changes that end by time; 0: so long that the end is not seen
}

// scenario is something that happens to a site while half of its connections are open, a quarter is being opened, and a
// quarter is opened later.
type scenario struct {
	name    string
	weights map[string]int                       // of the farm at first
	run     func(l *live, n scale) time.Duration // gives what it took until all was over
}

func even() map[string]int { return map[string]int{"mx1": 10, "mx2": 10, "mx3": 10} }

var scenarios = []scenario{
	{"drain", even(), drainReal},
	{"add", map[string]int{"mx1": 10, "mx2": 10}, func(l *live, n scale) time.Duration { return changeWeights(l, n, even()) }},
	{"weight", even(), func(l *live, n scale) time.Duration {
		return changeWeights(l, n, map[string]int{"mx1": 4, "mx2": 10, "mx3": 10})
	}},
	{"kill-lb", even(), killOne},
	{"drain+kill-lb", even(), drainAndKill},
	{"drain+kill-lb-at-once", even(), drainAndKillAtOnce},
}

// drainReal drains mx1 by its command line. Clients of mx1 end in their own time, and then mx1 is stopped.
func drainReal(l *live, n scale) time.Duration {
	across := l.talk.open(n.connections/4, n.opening)
	began := time.Now()
	safe := l.begin("lb1", "drain", "smtp/mx1", "--deadline", "1h", "--wait")
	l.eachLB("in transition", l.inTransition)
	across()
	l.talk.open(n.connections/4, n.opening)()
	return finishDrain(l, safe, began)
}

func finishDrain(l *live, safe *waiting, began time.Time) time.Duration {
	l.talk.rounds(2)
	l.talk.end(l.talk.on("mx1"))
	if err := <-safe.done; err != nil {
		l.t.Fatalf("%v:\n%s", err, safe.said())
	}
	l.eachLB("no transition", l.steady)
	took := time.Since(began)
	l.stopReal("mx1")
	return took
}

// changeWeights has the farm consist of other reals or weights. Connections from before end within the transition's time,
// which is what that time is for: one that outlives it is where the new table says.
func changeWeights(l *live, n scale, weights map[string]int) time.Duration {
	across := l.talk.open(n.connections/4, n.opening)
	began := time.Now()
	l.reweigh(weights)
	l.eachLB("in transition", l.inTransition)
	across()
	before := l.talk.all()
	l.talk.open(n.connections/4, n.opening)()
	l.talk.rounds(2)
	if n.transition == 0 {
		return time.Since(began)
	}
	l.talk.end(before)
	for _, lb := range bothLBs {
		if !l.inTransition(lb) {
			l.t.Fatalf("%s: connections from before were not closed within the transition's %v", lb, n.transition)
		}
	}
	l.eachLB("no transition", l.steady)
	return time.Since(began)
}

// killOne kills lb1. All its connections go on through lb2.
func killOne(l *live, n scale) time.Duration {
	across := l.talk.open(n.connections/4, n.opening)
	l.talk.rounds(0)
	began := time.Now()
	l.killLB("lb1")
	l.talk.rounds(1)
	took := time.Since(began)
	across()
	l.talk.open(n.connections/4, n.opening)()
	return took
}

// drainAndKill kills lb1 while mx1 drains and connections are opened.
func drainAndKill(l *live, n scale) time.Duration {
	across := l.talk.open(n.connections/4, n.opening)
	began := time.Now()
	safe := l.begin("lb2", "drain", "smtp/mx1", "--deadline", "1h", "--wait")
	l.eachLB("in transition", l.inTransition)
	across()
	later := l.talk.open(n.connections/4, n.opening)
	l.talk.rounds(0)
	l.killLB("lb1")
	later()
	return finishDrain(l, safe, began)
}

// drainAndKillAtOnce kills lb1 in the moment in which lb2 has taken the order, while connections are opened through both.
func drainAndKillAtOnce(l *live, n scale) time.Duration {
	across := l.talk.open(n.connections/4, n.opening)
	l.talk.rounds(0)
	began := time.Now()
	safe := l.begin("lb2", "drain", "smtp/mx1", "--deadline", "1h", "--wait")
	eventually(l.t, "the order is taken", func() bool { return strings.Contains(safe.said(), "drain ordered") })
	l.killLB("lb1")
	l.eachLB("in transition", l.inTransition)
	across()
	l.talk.open(n.connections/4, n.opening)()
	return finishDrain(l, safe, began)
}

// outcome is what a scenario did to its connections.
type outcome struct {
	connections []*talker
	broken      []*talker
	took        time.Duration
}

func (c scenario) play(t testing.TB, method string, n scale) outcome {
	t.Helper()
	l := newLive(t, method, cmp.Or(n.transition, time.Hour), c.weights)
	l.talk = newTraffic(l.site, n.period)
	l.talk.open(n.connections/2, 2*n.opening)()
	l.talk.rounds(1)
	l.eachLB("has some of the traffic", func(lb string) bool {
		vips := show[struct{ Packets int }](l.control, lb, "vip")
		return len(vips) == 1 && vips[0].Packets > n.connections/2
	})
	if some := brokenOf(l.talk.all()); len(some) > 0 {
		t.Fatalf("before the change %d connections are broken: %v", len(some), some[0].broken)
	}
	o := outcome{took: c.run(l, n)}
	l.talk.rounds(2)
	l.talk.end(l.talk.all())
	o.connections = l.talk.all()
	o.broken = brokenOf(o.connections)
	for i, k := range o.broken {
		if i < 10 {
			t.Logf("connection %d to %s, after %d echoes: %v", k.number, k.real, k.echoes.Load(), k.broken)
		}
	}
	return o
}

// TestLive holds what BenchmarkLive measures to what is promised, with fewer connections.
func TestLive(t *testing.T) {
	n := scale{connections: 400, period: 200 * time.Millisecond, opening: 500 * time.Millisecond}
	for method, names := range map[string][]string{
		secondChance: {"add", "drain+kill-lb", "drain+kill-lb-at-once"},
		tracked:      {"drain", "weight"},
	} {
		for _, c := range scenarios {
			if !slices.Contains(names, c.name) {
				continue
			}
			t.Run(method+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				if o := c.play(t, method, n); len(o.broken) > 0 || len(o.connections) != n.connections {
					t.Errorf("%d of %d connections are broken, want 0 of %d", len(o.broken), len(o.connections), n.connections)
				}
			})
		}
	}
}

// BenchmarkLive has connections with traffic on them live through changes of the site, and counts those that break: that
// get a reset, wrong bytes or nothing. Half of the connections are open before the change, a quarter is opened while it
// comes into force, and a quarter while it is in force. Only scenarios are repeated, not operations: ns/op is that of a whole
// one.
func BenchmarkLive(b *testing.B) {
	n := scale{connections: 10000, period: 2 * time.Second, opening: 2 * time.Second, transition: 40 * time.Second}
	for _, method := range []string{secondChance, tracked} {
		for _, c := range scenarios {
			b.Run(fmt.Sprintf("live/%s/%s/connections=%d", method, c.name, n.connections), func(b *testing.B) {
				var broken, connections int
				var took, longest time.Duration
				for range b.N {
					o := c.play(b, method, n)
					broken += len(o.broken)
					connections += len(o.connections)
					took += o.took
					longest = max(longest, longestWait(o.connections))
				}
				b.ReportMetric(float64(broken), "broken")
				b.ReportMetric(float64(connections), "connections")
				b.ReportMetric(took.Seconds()/float64(b.N), "change_s")
				b.ReportMetric(float64(longest.Milliseconds()), "longest_wait_ms")
			})
		}
	}
}
