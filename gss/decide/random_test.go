package decide

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// randomize changes something of what a rig knows.
func (r *rig) randomize(rnd *rand.Rand) {
	answers := r.in.Config.Groups[0].Answers
	answer := answers[rnd.IntN(len(answers))]
	vantages := []string{"gss-a", "gss-b", "gss-c"}
	v := vantages[rnd.IntN(3)]
	switch rnd.IntN(6) {
	case 0, 1:
		seen := Seen{View: []View{NoView, Passing, Failing}[rnd.IntN(3)], Failed: rnd.IntN(2) == 0}
		r.in.Vantages[v].Answers[answer] = seen
	case 2:
		r.silent(v, time.Duration(rnd.IntN(3000))*time.Millisecond)
	case 3:
		r.in.Reports[answer] = nil
		for i := range rnd.IntN(3) {
			r.in.Reports[answer] = append(r.in.Reports[answer], Report{
				From: fmt.Sprint("lb", i), At: r.now.Add(-time.Duration(rnd.IntN(5)) * time.Second), Out: rnd.IntN(3) == 0,
				Draining: rnd.IntN(3) == 0, Used: float64(rnd.IntN(100)), Capacity: float64(100 * rnd.IntN(2)), Why: "it says so",
			})
		}
	case 4:
		r.in.Orders[answer] = Order{
			Kind:  []Kind{KindSuspend, KindDrain, KindActivate}[rnd.IntN(3)],
			Since: r.now, Start: r.now.Add(time.Duration(rnd.IntN(20)-10) * time.Second),
		}
	default:
		delete(r.in.Orders, answer)
	}
}

// Whatever is known, each rule is answered with something, with nothing that is out while anything works, and with nothing that
// is suspended while anything else is there; but least-loaded takes clients from what is hot by and by.
func TestAlwaysTheBestThereIs(t *testing.T) {
	for seed := range uint64(36) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		methods := Methods()
		r := newRig(t, methods[seed%uint64(len(methods))])
		r.in.Config.Rules[0].Clauses[0].Near = [][]string{nil, {"south", "west"}}
		r.vantages("gss-a", "gss-b", "gss-c")
		for range 300 {
			r.randomize(rnd)
			r.next(time.Duration(rnd.IntN(1500)) * time.Millisecond)
			r.checkBest(seed)
		}
	}
}

func (r *rig) checkBest(seed uint64) {
	r.t.Helper()
	there := map[Place]bool{}
	for _, v := range r.last.Answers {
		there[v.Place] = true
	}
	rule := r.last.Rules["smtp"]
	for _, c := range rule.Choices {
		total := 0
		for _, s := range c.Shares {
			total += s.Of1000
			p := r.place(s.Answer)
			worse := map[Place][]Place{
				Hot: {Serving}, Waiting: {Serving, Hot}, Draining: {Serving, Hot, Waiting}, Out: {Serving, Hot, Waiting, Draining},
				Unknown: {Serving, Hot, Waiting, Draining}, Suspended: {Serving, Hot, Waiting, Draining, Out, Unknown},
			}[p]
			if p == Hot && c.Method == LeastLoaded {
				worse = nil
			}
			if slices.ContainsFunc(worse, func(p Place) bool { return there[p] }) {
				r.t.Fatalf("seed %d: %s is given, which is %s, while there are %v", seed, s.Answer, p, there)
			}
			if p == Unknown && c.Basis.Works() {
				r.t.Fatalf("seed %d: %s is unknown, and given by %s", seed, s.Answer, c.Basis)
			}
		}
		if len(c.Shares) == 0 || total != 1000 || c.Count < 1 || c.Count > len(c.Shares) {
			r.t.Fatalf("seed %d: shares %v, of which %d are given", seed, c.Shares, c.Count)
		}
	}
	if rule.TTL < time.Second || rule.TTL > baseTTL || rule.TTL%time.Second != 0 {
		r.t.Fatalf("seed %d: a TTL of %v", seed, rule.TTL)
	}
}

// The shares of least-loaded move by no more than the limit in the time of a TTL, whatever the loads do, and get to where the
// loads would have them.
func TestSharesMoveSlowly(t *testing.T) {
	for seed := range uint64(8) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		r := newRig(t, LeastLoaded)
		load := func() {
			for _, a := range r.in.Config.Groups[0].Answers {
				r.in.Reports[a] = []Report{{From: "lb", Used: float64(rnd.IntN(101)), Capacity: 100}}
			}
		}
		load()
		next := func(after time.Duration) {
			for _, a := range r.in.Config.Groups[0].Answers {
				r.in.Reports[a][0].At = r.now.Add(after)
			}
			r.next(after)
		}
		type point struct {
			at     time.Time
			shares []Share
		}
		var trail []point
		for range 400 {
			if rnd.IntN(3) == 0 {
				load()
			}
			next(time.Duration(rnd.IntN(3000)) * time.Millisecond)
			now := point{r.now, r.shares()}
			for _, p := range slices.Backward(trail) {
				if r.now.Sub(p.at) >= baseTTL {
					break
				}
				if m := moved(p.shares, now.shares); m > 202 { // two of rounding
					t.Fatalf("seed %d: %d of 1000 moved within %v: %v to %v", seed, m, r.now.Sub(p.at), p.shares, now.shares)
				}
			}
			trail = append(trail, now)
		}
		for range 10 {
			next(baseTTL)
		}
		all := r.in.Config.Groups[0].Answers
		want := toShares(all, (&decider{in: &r.in, verdicts: r.last.Answers}).weights(all, true))
		if moved(want, r.shares()) > 0 {
			t.Errorf("seed %d: they came to %v, not %v", seed, r.choice().Shares, want)
		}
	}
}

// shares are those of all answers, also of who has none.
func (r *rig) shares() (all []Share) {
	for _, name := range r.in.Config.Groups[0].Answers {
		s := Share{Answer: name}
		for _, c := range r.choice().Shares {
			if c.Answer == name {
				s = c
			}
		}
		all = append(all, s)
	}
	return all
}

func moved(a, b []Share) (n int) {
	for i := range a {
		n += max(0, b[i].Of1000-a[i].Of1000)
	}
	return n
}

// What gets hot loses its share by and by, and gets it back so, also when all were hot.
func TestWhoIsHotLosesItsShareSlowly(t *testing.T) {
	r := newRig(t, LeastLoaded)
	for _, step := range []struct {
		east, others float64 // percent in use
		want         string
		basis        Basis
	}{
		{50, 50, "[{east 334} {west 333} {south 333}]", ByHealth},
		{91, 50, "[{east 133} {west 434} {south 433}]", ByHealth},
		{91, 50, "[{west 500} {south 500}]", ByHealth},
		{91, 91, "[{east 200} {west 400} {south 400}]", ByHot},
		{70, 91, "[{east 400} {west 300} {south 300}]", ByHealth},
		{70, 91, "[{east 600} {west 200} {south 200}]", ByHealth},
	} {
		for a, used := range map[string]float64{"east": step.east, "west": step.others, "south": step.others} {
			r.in.Reports[a] = []Report{{From: "lb", At: r.now.Add(baseTTL), Used: used, Capacity: 100}}
		}
		r.next(baseTTL)
		if c := r.choice(); fmt.Sprint(c.Shares) != step.want || c.Basis != step.basis {
			t.Errorf("at %v and %v: %v by %s (%s), want %s by %s", step.east, step.others, c.Shares, c.Basis, c.Why, step.want, step.basis)
		}
	}
}

func TestWhoIsOutLosesItsShareAtOnce(t *testing.T) {
	r := newRig(t, LeastLoaded)
	r.next(0)
	r.see("gss-a", "west", Failing)
	r.next(time.Second)
	r.expect("west is out", ByHealth, "east", "south")
	if s := r.choice().Shares; s[0].Of1000 != 500 {
		t.Errorf("the others share as %v", s)
	}
	r.see("gss-a", "west", Passing)
	r.next(time.Second)
	r.next(10 * time.Second)
	if s := r.choice().Shares; s[1].Of1000 > 200 {
		t.Errorf("when it comes back it has %v at once", s)
	}
}
