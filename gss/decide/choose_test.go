package decide

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTiers(t *testing.T) {
	r := newRig(t, Ordered)
	r.in.Config.Groups = []Group{{"main", []string{"east"}}, {"spare", []string{"west"}}, {"last", []string{"south"}}}
	r.in.Config.Rules[0].Clauses = nil
	for _, g := range r.in.Config.Groups {
		c := Clause{Group: g.Name, Method: Ordered, TTL: baseTTL, ShortTTL: time.Second}
		r.in.Config.Rules[0].Clauses = append(r.in.Config.Rules[0].Clauses, c)
	}
	hot := func(answer string, used float64) {
		r.in.Reports[answer] = []Report{{From: "lb1", At: r.now, Used: used, Capacity: 100}}
	}
	r.next(0)
	r.expect("all serve", ByHealth, "east")
	hot("east", 95)
	r.next(0)
	r.expect("the first clause is hot", ByHealth, "west")
	r.see("gss-a", "west", Failing)
	r.next(0)
	r.expect("the second is out", ByHealth, "south")
	if c := r.choice().Clause; c != 2 {
		t.Errorf("by clause %d", c)
	}
	r.see("gss-a", "south", Failing)
	r.next(0)
	r.expect("nothing serves, one is hot", ByHot, "east")
	r.see("gss-a", "east", Failing)
	r.next(0)
	r.expect("nothing works", LastGood, "east")
	r.see("gss-a", "south", Passing)
	r.next(0)
	r.expect("one waits to fail back", ByWaiting, "south")
	r.in.Orders["south"] = Order{Kind: KindDrain, Since: r.now.Add(-time.Minute)}
	r.next(0)
	r.expect("it is to drain, and the only one", ByDraining, "south")
	r.in.Orders["south"] = Order{Kind: KindSuspend}
	r.next(0)
	r.expect("it is suspended; the last good was it", WholeGroup, "east")
}

func TestBalanceMethods(t *testing.T) {
	for _, c := range []struct {
		method Method
		count  int
		want   []Share
	}{
		{Ordered, 0, []Share{{"east", 1000}}},
		{Ordered, 2, []Share{{"east", 1000}, {"west", 0}}},
		{Ordered, 9, []Share{{"east", 1000}, {"west", 0}, {"south", 0}}},
		{RoundRobin, 1, []Share{{"east", 334}, {"west", 333}, {"south", 333}}},
		{Weighted, 1, []Share{{"east", 167}, {"west", 333}, {"south", 500}}},
		{Hashed, 1, []Share{{"east", 167}, {"west", 333}, {"south", 500}}},
		{LeastLoaded, 1, []Share{{"east", 154}, {"west", 154}, {"south", 692}}},
	} {
		t.Run(fmt.Sprint(c.method, c.count), func(t *testing.T) {
			r := newRig(t, c.method)
			r.in.Config.Rules[0].Clauses[0].Count = c.count
			for i := range r.in.Config.Answers {
				r.in.Config.Answers[i].Weight = 100 * (i + 1)
			}
			half := Report{From: "lb1", At: r.now, Used: 25, Capacity: 50}
			r.in.Reports["west"] = []Report{half, half}
			r.in.Reports["south"] = []Report{{From: "lb3", At: r.now}} // it does not know its capacity
			if c.method == LeastLoaded {
				r.in.Config.Answers[2].Weight = 450
			}
			r.next(0)
			if diff := cmp.Diff(c.want, r.choice().Shares); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestNearest(t *testing.T) {
	r := newRig(t, Nearest)
	r.in.Config.Rules[0].Clauses[0].Near = [][]string{nil, {"south", "west"}, {"west"}}
	r.next(0)
	var got []string
	for _, c := range r.last.Rules["smtp"].Choices {
		got = append(got, c.Shares[0].Answer)
	}
	if diff := cmp.Diff([]string{"east", "south", "west"}, got); diff != "" {
		t.Errorf("by place (-want +got):\n%s", diff)
	}
	r.see("gss-a", "south", Failing)
	r.next(0)
	if a := r.last.Rules["smtp"].Choices[1].Shares[0].Answer; a != "west" {
		t.Errorf("the next nearest is %s", a)
	}
}

// When nothing works, clients keep what those of their place had, also by a state from before places were remembered.
func TestLastGoodOfAPlace(t *testing.T) {
	r := newRig(t, Nearest)
	r.in.Config.Rules[0].Clauses[0].Near = [][]string{nil, {"south"}, {"west"}}
	r.next(0)
	for _, a := range []string{"east", "west", "south"} {
		r.see("gss-a", a, Failing)
	}
	given := func(want string) {
		t.Helper()
		var got []string
		for _, c := range r.last.Rules["smtp"].Choices {
			got = append(got, strings.Join(c.Names(), "+"))
		}
		if strings.Join(got, " ") != want || r.choice().Basis != LastGood {
			t.Errorf("by place it is answered with %v by %s, want %s", got, r.choice().Basis, want)
		}
	}
	r.next(time.Second)
	given("east south west")
	r.in.Config.Rules[0].Clauses[0].Near = [][]string{nil, {"south"}, {"west"}, {"west"}}
	r.restart()
	r.next(time.Second)
	given("east south west east")
	var err error
	if r.state, err = DecodeState([]byte(`{"rules": {"smtp": {"last_good": ["west"]}}}`)); err != nil {
		t.Fatal(err)
	}
	r.next(time.Second)
	given("west west west west")
}

// What was given last counts only as far as the rule may still give it.
func TestLastGoodOfAnotherGroup(t *testing.T) {
	r := newRig(t, Ordered)
	r.in.Config.Rules[0].Clauses[0].Count = 2
	r.next(0)
	r.expect("all serve", ByHealth, "east", "west")
	r.in.Config.Groups = append(r.in.Config.Groups, Group{"new", []string{"south", "west"}})
	r.in.Config.Rules[0].Clauses[0].Group = "new"
	for _, a := range []string{"east", "west", "south"} {
		r.see("gss-a", a, Failing)
	}
	r.next(time.Second)
	r.expect("of what was given only west is in the group", LastGood, "west")
	r.in.Config.Groups[1].Answers = []string{"south"}
	r.next(time.Second)
	r.expect("nothing of what was given is", WholeGroup, "south")
}

// What is suspended is given only when no clause has anything else.
func TestSuspendedClause(t *testing.T) {
	r := newRig(t, Ordered)
	r.in.Config.Groups = []Group{{"main", []string{"east"}}, {"spare", []string{"south", "west"}}}
	r.in.Config.Rules[0].Clauses = []Clause{
		{Group: "main", Method: Ordered, TTL: time.Minute, ShortTTL: time.Minute},
		{Group: "spare", Method: Ordered, TTL: baseTTL, ShortTTL: time.Second},
	}
	for _, a := range []string{"west", "south"} {
		r.see("gss-a", a, Failing)
	}
	r.in.Orders["east"] = Order{Kind: KindSuspend}
	r.in.Orders["south"] = Order{Kind: KindSuspend}
	r.next(0)
	r.expect("west is out, and not suspended", WholeGroup, "west")
	if c, ttl := r.choice().Clause, r.last.Rules["smtp"].TTL; c != 1 || ttl != time.Second {
		t.Errorf("by clause %d with a TTL of %v", c, ttl)
	}
	r.in.Orders["west"] = Order{Kind: KindSuspend}
	r.next(0)
	r.expect("all are suspended", WholeGroup, "east")
}

// The generation grows by each change of what clients are given, and by nothing else.
func TestGeneration(t *testing.T) {
	r := newRig(t, Ordered)
	for i, c := range []struct {
		change func()
		want   uint64
	}{
		{func() {}, 1},
		{func() { r.see("gss-a", "south", Failing) }, 2}, // a shorter TTL
		{func() { r.see("gss-a", "west", Failing) }, 2},
		{func() { r.see("gss-a", "east", Failing) }, 3},
		{func() { r.in.Orders["south"] = Order{Kind: KindSuspend} }, 3},
		{func() {
			r.in.Config.Rules = append(r.in.Config.Rules, Rule{Name: "imap", Clauses: r.in.Config.Rules[0].Clauses})
		}, 4},
		{func() { r.in.Config.Rules = r.in.Config.Rules[:1] }, 5},
		{func() { r.see("gss-a", "east", Passing) }, 6},
		{func() { r.in.Config.Digest = "other addresses" }, 7},
		{r.restart, 7},
	} {
		c.change()
		if g := r.next(time.Second).Generation; g != c.want {
			t.Errorf("step %d: generation %d, want %d", i, g, c.want)
		}
	}
	if len(r.state.Rules) != 1 {
		t.Error("a rule that is gone is remembered")
	}
}

// An answer of two clauses is named once.
func TestWhyNamesAnswersOnce(t *testing.T) {
	r := newRig(t, Ordered)
	r.in.Config.Groups = append(r.in.Config.Groups, Group{"two", []string{"east", "west"}})
	r.in.Config.Rules[0].Clauses = append([]Clause{{Group: "two", TTL: baseTTL, ShortTTL: baseTTL}}, r.in.Config.Rules[0].Clauses...)
	r.in.Orders["east"], r.in.Orders["west"] = Order{Kind: KindSuspend}, Order{Kind: KindSuspend}
	r.next(0)
	if why := r.choice().Why; strings.Count(why, "west is suspended") != 1 {
		t.Errorf("it says %q", why)
	}
}
