package decide

import (
	"slices"
	"testing"
	"time"
)

// While an answer drains, nothing that a client is given outlives the moment at which the drain calls itself done, whenever it
// asks.
func TestNothingOutlivesADrain(t *testing.T) {
	for _, c := range []struct {
		name  string
		start time.Duration // after the order
		from  time.Duration // when it takes effect
	}{
		{"at once", 0, baseTTL},
		{"too soon", time.Second, baseTTL},
		{"later", time.Minute, time.Minute},
		{"between seconds", 7300 * time.Millisecond, 7300 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, Ordered)
			r.next(0)
			given := r.now.Add(r.last.Rules["smtp"].TTL) // just before the order
			o := Order{Kind: KindDrain, Since: r.now, By: "root"}
			if c.start > 0 {
				o.Start = r.now.Add(c.start)
			}
			r.in.Orders["east"] = o
			var held time.Time
			for range 100 {
				r.next(0)
				rule := r.last.Rules["smtp"]
				wake := r.last.Wake(r.now)
				if slices.Contains(rule.Choices[0].Names(), "east") {
					held = wake.Add(rule.TTL) // who asks just before the next decision
				}
				if rule.TTL > baseTTL || rule.TTL < time.Second {
					t.Fatalf("a TTL of %v", rule.TTL)
				}
				if wake.IsZero() {
					break
				}
				r.now = wake
			}
			d := r.last.Drains["east"]
			if want := epoch.Add(c.from); !d.From.Equal(want) {
				t.Errorf("it takes effect at %v, want %v", d.From.Sub(epoch), c.from)
			}
			if held.IsZero() || held.After(d.Clear) || given.After(d.From) {
				t.Errorf("done at %v; held until %v, and from before the order until %v",
					d.Clear.Sub(epoch), held.Sub(epoch), given.Sub(epoch))
			}
			if d.Done(d.Clear.Add(-1)) || !d.Done(d.Clear) {
				t.Errorf("done before %v or not then", d.Clear)
			}
			r.expect("drained", ByHealth, "west")
		})
	}
}

func TestDrainOfTheOnlyOne(t *testing.T) {
	r := newRig(t, Ordered)
	r.see("gss-a", "west", Failing)
	r.see("gss-a", "south", Failing)
	r.next(0)
	r.in.Orders["east"] = Order{Kind: KindDrain, Since: r.now}
	r.next(time.Minute)
	r.expect("it is given on", ByDraining, "east")
	if d := r.last.Drains["east"]; d.Done(r.now.Add(time.Hour)) || !slices.Equal(d.Only, []string{"smtp"}) {
		t.Errorf("the drain: %+v", d)
	}
}

// One failed probe makes the TTL short, before it takes anything out.
func TestDoubtShortensTheTTL(t *testing.T) {
	r := newRig(t, Ordered)
	r.vantages("gss-b")
	r.next(0)
	for _, c := range []struct {
		failed bool
		want   time.Duration
	}{{false, baseTTL}, {true, 2 * time.Second}, {false, baseTTL}} {
		r.in.Vantages["gss-b"].Answers["east"] = Seen{View: Passing, Failed: c.failed, Why: "timed out"}
		r.next(100 * time.Millisecond)
		r.expect("in doubt", ByHealth, "east")
		if ttl := r.last.Rules["smtp"].TTL; ttl != c.want {
			t.Errorf("with a failed probe %v the TTL is %v, want %v", c.failed, ttl, c.want)
		}
	}
}
