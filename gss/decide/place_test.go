package decide

import (
	"strings"
	"testing"
	"time"
)

func TestVotes(t *testing.T) {
	const p, f, n = Passing, Failing, NoView
	for _, c := range []struct {
		name   string
		views  []View // of gss-a, which decides, gss-b and gss-c
		silent []string
		want   Place
		why    string
	}{
		{"one vantage passes", []View{p}, nil, Serving, "passes from gss-a"},
		{"one vantage fails", []View{f}, nil, Out, "fails from gss-a (no answer within 500ms)"},
		{"nothing is known", []View{n}, nil, Unknown, "not probed yet"},
		{"two agree", []View{f, f}, nil, Out, "fails from gss-a, gss-b"},
		{"a tie changes nothing", []View{f, p}, nil, Serving, "a tie changes nothing: passing"},
		{"two of three", []View{f, f, p}, nil, Out, "fails from gss-a, gss-b"},
		{"one of three", []View{f, p, p}, nil, Serving, "passes from gss-b, gss-c"},
		{"one of three has no opinion, the others agree", []View{n, f, f}, nil, Out, "fails from gss-b, gss-c"},
		{"one of three has no opinion, the others do not agree", []View{n, f, p}, nil, Serving, "tie"},
		{"two of three are heard and agree", []View{f, f, p}, []string{"gss-c"}, Out, "fails from gss-a, gss-b"},
		{"alone, what was agreed holds", []View{f, p, p}, []string{"gss-b", "gss-c"}, Serving, "only 1 of 3 vantages are heard; what"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, Ordered)
			names := []string{"gss-a", "gss-b", "gss-c"}[:len(c.views)]
			r.vantages(names...)
			agreed := c.views[0] != NoView || len(c.views) > 1
			for i, name := range names {
				r.see(name, "east", c.views[i])
				if agreed {
					r.see(name, "east", Passing)
				}
			}
			r.next(0)
			for i, name := range names {
				r.see(name, "east", c.views[i])
			}
			for _, name := range c.silent {
				r.silent(name, 2*time.Second)
			}
			v := r.next(0).Answers["east"]
			if v.Place != c.want || !strings.Contains(v.Why, c.why) {
				t.Errorf("it is %s: %s; want %s: %s", v.Place, v.Why, c.want, c.why)
			}
		})
	}
}

// Who hears no other GSS keeps what was agreed for a moment and then believes its own probes, in both directions.
func TestLoneVantage(t *testing.T) {
	r := newRig(t, Ordered)
	r.vantages("gss-a", "gss-b")
	for _, v := range []string{"gss-a", "gss-b"} {
		for _, a := range []string{"east", "west", "south"} {
			r.see(v, a, Passing)
		}
	}
	r.next(0)
	r.see("gss-a", "east", Failing)
	if r.next(0); r.place("east") != Serving {
		t.Fatalf("while the other sees it pass it is %s", r.place("east"))
	}
	vote := r.in.Config.Vote
	for _, wake := range []time.Duration{vote.Fresh, vote.Fresh + vote.Hold} { // nothing is decided meanwhile
		w := r.last.Wake(r.now)
		if !w.Equal(epoch.Add(wake)) {
			t.Fatalf("it wakes at %v, want %v after the other was heard", w.Sub(epoch), wake)
		}
		if r.place("east") != Serving {
			t.Fatalf("before that it is %s: %s", r.place("east"), r.last.Answers["east"].Why)
		}
		r.next(w.Sub(r.now))
	}
	if r.place("east") != Out {
		t.Fatalf("after the hold it is %s: %s", r.place("east"), r.last.Answers["east"].Why)
	}
	r.expect("alone", ByHealth, "west")
	r.see("gss-a", "east", Passing)
	if r.next(0); r.place("east") != Waiting {
		t.Errorf("after it passes alone it is %s", r.place("east"))
	}
}

// What holds for a moment holds from when the last GSS that a majority takes was lost, not from an earlier one.
func TestHoldBeginsWhenTheQuorumIsLost(t *testing.T) {
	r := newRig(t, Ordered)
	r.vantages("gss-a", "gss-b", "gss-c", "gss-d", "gss-e")
	for v := range r.in.Vantages {
		r.see(v, "east", Passing)
	}
	r.next(0)
	r.now = r.now.Add(time.Minute)
	r.see("gss-a", "east", Failing)
	r.silent("gss-b", 59*time.Second)
	r.silent("gss-c", 1600*time.Millisecond)
	r.silent("gss-d", 2*time.Second)
	r.silent("gss-e", 0)
	r.next(0)
	if w := r.last.Wake(r.now); !w.Equal(r.now.Add(900*time.Millisecond)) || r.place("east") != Serving {
		t.Errorf("it is %s and wakes in %v, want 900ms: %s", r.place("east"), w.Sub(r.now), r.last.Answers["east"].Why)
	}
}

// All balancers and one path probe take an answer out at once; neither can alone.
func TestBalancersAndAProbe(t *testing.T) {
	out := Report{From: "lb1", Out: true, Why: "VIP smtp: 0 of 2 reals in service"}
	fine := Report{From: "lb2"}
	for _, c := range []struct {
		name    string
		reports []Report
		doubt   string // vantage whose last probe failed
		age     time.Duration
		want    Place
	}{
		{"balancers alone", []Report{out}, "", 0, Serving},
		{"a probe alone", nil, "gss-b", 0, Serving},
		{"both", []Report{out}, "gss-b", 0, Out},
		{"one of two balancers and a probe", []Report{out, fine}, "gss-b", 0, Serving},
		{"an old report and a probe", []Report{out}, "gss-b", 4 * time.Second, Serving},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, Ordered)
			r.vantages("gss-a", "gss-b", "gss-c")
			for v := range r.in.Vantages {
				r.see(v, "east", Passing)
			}
			r.next(0)
			for _, report := range c.reports {
				report.At = r.now.Add(-c.age)
				r.in.Reports["east"] = append(r.in.Reports["east"], report)
			}
			if c.doubt != "" {
				r.in.Vantages[c.doubt].Answers["east"] = Seen{View: Passing, Failed: true, Why: "refused"}
			}
			v := r.next(0).Answers["east"]
			if v.Place != c.want {
				t.Errorf("it is %s: %s; want %s", v.Place, v.Why, c.want)
			}
			why := "lb1 says VIP smtp: 0 of 2 reals in service, and the probe from gss-b agrees: refused"
			if c.want == Out && v.Why != why {
				t.Errorf("why: %s", v.Why)
			}
		})
	}
}

// The reason that is given is that of a vantage that is named.
func TestReasonIsOfWhoIsNamed(t *testing.T) {
	r := newRig(t, Ordered)
	r.in.Self = "gss-c"
	r.vantages("gss-a", "gss-b", "gss-c")
	r.in.Vantages["gss-a"].Answers["east"] = Seen{View: Passing, Failed: true, Why: "refused"}
	for _, v := range []string{"gss-b", "gss-c"} {
		r.in.Vantages[v].Answers["east"] = Seen{View: Failing, Failed: true, Why: "timed out"}
	}
	if why := r.next(0).Answers["east"].Why; why != "fails from gss-b, gss-c (timed out), passes from gss-a" {
		t.Errorf("by the majority it is out as it %s", why)
	}
	r.in.Reports["east"] = []Report{{From: "lb1", At: r.now, Out: true, Why: "no reals"}}
	if why := r.next(0).Answers["east"].Why; why != "lb1 says no reals, and the probe from gss-a agrees: refused" {
		t.Errorf("by its balancer it is out as %s", why)
	}
	r.in.Self = "gss-b"
	r.in.Vantages["gss-c"].Answers["east"] = Seen{View: Failing, Failed: true, Why: "no route"}
	r.in.Vantages["gss-b"].Answers["east"] = Seen{View: NoView, Failed: true, Why: "timed out"}
	delete(r.in.Reports, "east")
	if why := r.next(0).Answers["east"].Why; !strings.HasPrefix(why, "fails from gss-c (no route), passes from gss-a") {
		t.Errorf("in a tie it %s", why)
	}
}

func TestFailBack(t *testing.T) {
	r := newRig(t, Ordered)
	r.next(0)
	r.see("gss-a", "east", Failing)
	r.next(time.Second)
	r.expect("east is out", ByHealth, "west")
	r.see("gss-a", "east", Passing)
	r.next(time.Second)
	r.expect("east passes again", ByHealth, "west")
	wake := r.last.Wake(r.now)
	if want := r.now.Add(10 * time.Second); !wake.Equal(want) {
		t.Fatalf("wakes at %v, want %v", wake, want)
	}
	r.see("gss-a", "east", Failing)
	r.next(9 * time.Second)
	r.see("gss-a", "east", Passing)
	r.next(time.Second)
	if r.next(9 * time.Second); r.place("east") != Waiting {
		t.Errorf("the time does not begin anew: %s", r.place("east"))
	}
	r.next(time.Second)
	r.expect("east has waited", ByHealth, "east")
}

func TestFailBackByHand(t *testing.T) {
	r := newRig(t, Ordered)
	r.in.Config.Answers[0].Manual = true
	r.in.Orders["east"] = Order{Kind: KindActivate, Since: r.now}
	r.next(time.Second)
	r.see("gss-a", "east", Failing)
	r.next(time.Second)
	r.see("gss-a", "east", Passing)
	r.next(time.Hour)
	r.next(time.Hour)
	r.expect("an order from before it failed does not count", ByHealth, "west")
	if why := r.last.Answers["east"].Why; !strings.Contains(why, "anycastle activate answer east") {
		t.Errorf("why: %s", why)
	}
	r.in.Orders["east"] = Order{Kind: KindActivate, Since: r.now}
	r.next(time.Second)
	r.expect("activated", ByHealth, "east")
}

func TestHotHasTwoThresholds(t *testing.T) {
	r := newRig(t, Ordered)
	for i, c := range []struct {
		used float64
		want Place
	}{{50, Serving}, {89, Serving}, {90, Hot}, {80, Hot}, {75, Hot}, {74, Serving}, {89, Serving}} {
		r.in.Reports["east"] = []Report{{From: "lb1", At: r.now, Used: c.used, Capacity: 100}}
		if r.next(0); r.place("east") != c.want {
			t.Errorf("step %d: at %.0f of 100 it is %s, want %s", i, c.used, r.place("east"), c.want)
		}
	}
	r.in.Reports["east"][0].Used = 95
	r.next(0)
	r.expect("hot", ByHealth, "west")
	r.next(4 * time.Second)
	r.expect("the report is too old to count", ByHealth, "east")
}

func TestOrders(t *testing.T) {
	r := newRig(t, Ordered)
	r.next(0)
	r.in.Orders["east"] = Order{Kind: KindSuspend, Since: r.now, By: "root", Why: "reboot"}
	r.next(0)
	r.expect("suspended", ByHealth, "west")
	if why := r.last.Answers["east"].Why; why != "order suspend by root: reboot" {
		t.Errorf("why: %s", why)
	}
	r.see("gss-a", "west", Failing)
	r.see("gss-a", "south", Failing)
	r.next(0)
	r.expect("what is suspended is not given while anything else is there", LastGood, "west")
	r.in.Orders["west"], r.in.Orders["south"] = r.in.Orders["east"], r.in.Orders["east"]
	r.next(0)
	r.expect("all are suspended", WholeGroup, "east", "west", "south")
}

func TestBalancersDrain(t *testing.T) {
	r := newRig(t, Ordered)
	r.in.Reports["east"] = []Report{{From: "lb1", At: r.now, Draining: true}, {From: "lb2", At: r.now}}
	r.next(0)
	r.expect("one of two drains", ByHealth, "east")
	r.in.Reports["east"][1].Draining = true
	r.next(0)
	r.expect("both drain", ByHealth, "west")
}
