package decide

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// A part of a rule has its own answers while they are well, also by another clause, and else what the rule has, unless that is no
// better.
func TestPartOfARule(t *testing.T) {
	r := newRig(t, Ordered)
	c := r.in.Config.Rules[0].Clauses[0]
	c.Group, c.TTL = "none/v6", time.Second
	some := c
	some.Group, some.TTL = "all/v6", baseTTL
	r.in.Config.Groups = append(r.in.Config.Groups, Group{Name: "none/v6"}, Group{"all/v6", []string{"south", "east"}})
	r.in.Config.Rules = append(r.in.Config.Rules, Rule{Name: "smtp/v6", Clauses: []Clause{c, some}, PartOf: "smtp"})
	expect := func(what string, b Basis, names ...string) {
		t.Helper()
		if c := r.last.Rules["smtp/v6"].Choices[0]; !slices.Equal(c.Names(), names) || c.Basis != b {
			t.Errorf("%s: answered with %v by %s (%s), want %v by %s", what, c.Names(), c.Basis, c.Why, names, b)
		}
	}
	r.next(0)
	r.expect("all serve", ByHealth, "east")
	expect("all serve", ByHealth, "south")
	r.see("gss-a", "south", Failing)
	r.next(time.Second)
	expect("south is out", ByHealth, "east")
	r.in.Orders["east"] = Order{Kind: KindDrain, Since: r.now}
	r.next(time.Minute)
	expect("east drains, and west does not", ByHealth, "west")
	const why = "east is draining (order drain), so there is none of this family"
	if got := r.last.Rules["smtp/v6"].Choices[0].Why; !strings.Contains(got, why) {
		t.Errorf("why: %s", got)
	}
	r.next(2 * time.Second)
	if d := r.last.Drains["east"]; !d.Done(r.now) {
		t.Errorf("the drain is %+v", d)
	}
	r.see("gss-a", "west", Failing)
	r.next(time.Second)
	expect("all that works drains", ByDraining, "east")
	r.see("gss-a", "east", Failing)
	r.next(time.Second)
	expect("nothing works", LastGood, "east")
	r.in.Orders["east"] = Order{Kind: KindSuspend}
	r.next(time.Second)
	expect("and east is suspended", WholeGroup, "south")
	r.in.Orders["south"] = Order{Kind: KindSuspend}
	r.next(time.Second)
	expect("and south", WholeGroup, "south", "east")
}
