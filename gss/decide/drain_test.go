package decide

import (
	"encoding/json"
	"math/rand/v2"
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

// What was given on because nothing else worked is held by resolvers after something else does again; also by those that asked
// just before a restart.
func TestDrainThatWasGivenOn(t *testing.T) {
	r := newRig(t, Ordered)
	c := &r.in.Config.Rules[0].Clauses[0]
	c.TTL, c.ShortTTL = time.Minute, 30*time.Second
	r.see("gss-a", "west", Failing)
	r.see("gss-a", "south", Failing)
	r.next(0)
	r.in.Orders["east"] = Order{Kind: KindDrain, Since: r.now}
	r.next(10 * time.Minute)
	r.expect("it is given on", ByDraining, "east")
	r.restart()
	r.see("gss-a", "west", Passing)
	r.next(time.Minute)
	r.expect("west is back", ByWaiting, "west")
	r.drained("east", r.now.Add(30*time.Second))
}

// An answer that was given before a reload lowered the TTL is held for as long as it said.
func TestDrainAfterTheTTLWasLowered(t *testing.T) {
	r := newRig(t, Ordered)
	c := &r.in.Config.Rules[0].Clauses[0]
	c.TTL = 5 * time.Minute
	r.next(0)
	held := r.now.Add(time.Second + c.TTL) // who asked just before the reload
	c.TTL = baseTTL
	r.next(time.Second)
	r.in.Orders["east"] = Order{Kind: KindDrain, Since: r.now}
	r.next(time.Second)
	r.restart()
	r.next(time.Minute)
	r.expect("drained", ByHealth, "west")
	r.drained("east", held)
}

// An answer that does not work has a drain too, which says whether it is given all the same.
func TestDrainOfWhatIsOut(t *testing.T) {
	r := newRig(t, Ordered)
	r.next(0)
	r.see("gss-a", "east", Failing)
	r.next(0)
	r.next(time.Minute)
	r.in.Orders["east"] = Order{Kind: KindDrain, Since: r.now}
	r.next(0)
	r.expect("east is out", ByHealth, "west")
	if d := r.last.Drains["east"]; !d.Done(r.now) {
		t.Errorf("nobody can hold it, and the drain is %+v", d)
	}
	r.see("gss-a", "east", Passing)
	r.in.Config.Answers[0].FailBack = 0
	r.next(time.Second)
	r.expect("east works again, and drains", ByHealth, "west")
	for _, a := range []string{"east", "west", "south"} {
		r.see("gss-a", a, Failing)
	}
	r.next(time.Second)
	r.in.Orders["west"] = Order{Kind: KindDrain, Since: r.now}
	r.next(time.Minute)
	r.expect("nothing works", LastGood, "west")
	if d := r.last.Drains["west"]; d.Done(r.now.Add(time.Hour)) || !slices.Equal(d.Only, []string{"smtp"}) {
		t.Errorf("the drain of what is given as the last good: %+v", d)
	}
}

// A second order to drain, such as one about the site, does not have an answer be given anew.
func TestDrainOrderedAgain(t *testing.T) {
	r := newRig(t, Ordered)
	r.next(0)
	r.in.Orders["east"] = Order{Kind: KindDrain, Since: r.now}
	r.next(time.Minute)
	r.in.Orders["east"] = Order{Kind: KindDrain, Since: r.now}
	r.next(0)
	r.expect("ordered again", ByHealth, "west")
	r.now = r.now.Add(time.Second)
	r.in.Orders["east"] = Order{Kind: KindDrain, Since: r.now, Start: r.now.Add(time.Minute)}
	r.next(0)
	r.expect("it is to begin later", ByHealth, "east")
}

// Whatever happens, a drain that calls itself done is of an answer that no resolver holds.
func TestDoneMeansThatNobodyHoldsIt(t *testing.T) {
	done := 0
	for seed := range uint64(24) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		r := newRig(t, Methods()[seed%uint64(len(Methods()))])
		r.vantages("gss-a", "gss-b", "gss-c")
		held := map[string]time.Time{}
		hold := func() {
			rule := r.last.Rules["smtp"]
			for _, c := range rule.Choices {
				for _, name := range c.Names() {
					held[name] = later(held[name], r.now.Add(rule.TTL))
				}
			}
		}
		for range 400 {
			r.randomize(rnd)
			switch rnd.IntN(20) {
			case 0:
				r.restart()
			case 1:
				r.in.Config.Rules[0].Clauses[0].TTL = time.Duration(2+rnd.IntN(20)) * time.Second
			}
			r.now = r.now.Add(time.Duration(rnd.IntN(3000)) * time.Millisecond)
			if len(r.last.Rules) > 0 {
				hold() // until now
			}
			r.next(0)
			hold()
			for name, d := range r.last.Drains {
				if !d.Done(r.now) {
					continue
				}
				if done++; held[name].After(r.now) {
					t.Fatalf("seed %d: %s is held for %v: %+v", seed, name, held[name].Sub(r.now), d)
				}
			}
		}
	}
	if done < 100 {
		t.Errorf("only %d drains were done", done)
	}
}

// restart has the state be written down and read again.
func (r *rig) restart() {
	r.t.Helper()
	text, err := json.Marshal(r.state)
	if err != nil {
		r.t.Fatal(err)
	}
	if r.state, err = DecodeState(text); err != nil {
		r.t.Fatal(err)
	}
}

// drained checks when the drain of an answer is done.
func (r *rig) drained(answer string, want time.Time) {
	r.t.Helper()
	if d := r.last.Drains[answer]; d.Done(want.Add(-1)) || !d.Done(want) {
		r.t.Errorf("the drain of %s is done at %v, want %v: %+v", answer, d.Clear.Sub(r.now), want.Sub(r.now), d)
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
