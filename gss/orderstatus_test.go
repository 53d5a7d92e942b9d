package gss

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"anycastle/gss/decide"
)

// The drain of a site ends whatever the state of its answers is, and whatever is ordered about one of them.
func TestDrainOfASiteEnds(t *testing.T) {
	for name, tc := range map[string]struct {
		out   []string
		last  []string // what is out too, later
		order Order    // given before the drain has ended
		ends  bool
	}{
		"its answer is activated":       {order: Order{Kind: decide.KindActivate, Answer: "smtp-east"}, ends: true},
		"its answer is suspended":       {order: Order{Kind: decide.KindSuspend, Answer: "smtp-east"}, ends: true},
		"its answer drains of itself":   {order: Order{Kind: decide.KindDrain, Answer: "smtp-east"}, ends: true},
		"its answer is out":             {out: []string{east}, ends: true},
		"nothing else works":            {out: []string{west}},
		"nothing works":                 {out: []string{west}, last: []string{east, west}},
		"nothing works, it's suspended": {out: []string{west}, order: Order{Kind: decide.KindSuspend, Answer: "smtp-east"}, ends: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := startProbing(t)
				defer p.end()
				p.after(time.Second)
				p.sites.set(tc.out...)
				p.after(2 * time.Second)
				if tc.last != nil {
					p.sites.set(tc.last...)
					p.after(2 * time.Second)
				}
				give := func(o Order) {
					t.Helper()
					if _, err := p.engine.order(o); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
				}
				drained := func() AnswerDrain {
					t.Helper()
					for _, o := range p.Orders() {
						if o.Site == "east" && len(o.Answers) == 1 {
							return o.Answers[0]
						}
					}
					t.Fatalf("orders are %+v", p.Orders())
					return AnswerDrain{}
				}
				give(Order{Kind: decide.KindDrain, Site: "east"})
				if d := drained(); d.Done || len(d.Only) > 0 {
					t.Errorf("at once: %+v", d)
				}
				p.after(time.Second)
				if tc.order.Kind != "" {
					give(tc.order)
				}
				p.after(time.Second)
				if d := drained(); d.Done {
					t.Errorf("after two seconds: %+v", d)
				}
				p.after(time.Minute)
				if d := drained(); d.Done != tc.ends || tc.ends != (len(d.Only) == 0) {
					t.Errorf("in the end: %+v", d)
				}
			})
		})
	}
}

// Of an order about an answer and one about its site, the one that asks for more counts, whichever is newer.
func TestOrdersAboutAnAnswerAndItsSite(t *testing.T) {
	cfg := mustDecode(t, nodeFile)
	a := &cfg.Answers[0]
	give := func(kind decide.Kind, at, start int) Order {
		o := Order{Kind: kind, Since: clock.Add(time.Duration(at) * time.Minute)}
		if start > 0 {
			o.Start = clock.Add(time.Duration(start) * time.Minute)
		}
		return o
	}
	for name, tc := range map[string]struct {
		own, site Order
		ofSite    bool
		listed    string // what is said of the one that does not count
	}{
		"suspend and activate": {own: give(decide.KindSuspend, 1, 0), site: give(decide.KindActivate, 2, 0),
			listed: "smtp-east: suspend of the answer counts; `anycastle activate answer smtp-east` undoes it"},
		"activate and drain": {own: give(decide.KindActivate, 2, 0), site: give(decide.KindDrain, 1, 0), ofSite: true,
			listed: "drain of site east counts; `anycastle activate site east` undoes it"},
		"drain and suspend":  {own: give(decide.KindDrain, 2, 0), site: give(decide.KindSuspend, 1, 0), ofSite: true, listed: "suspend of site east counts"},
		"drained before":     {own: give(decide.KindDrain, 2, 0), site: give(decide.KindDrain, 1, 0), ofSite: true, listed: "drain of site east counts"},
		"drained later":      {own: give(decide.KindDrain, 1, 0), site: give(decide.KindDrain, 2, 0), listed: "smtp-east: drain of the answer counts"},
		"to be drained":      {own: give(decide.KindDrain, 1, 60), site: give(decide.KindDrain, 2, 0), ofSite: true, listed: "drain of site east counts"},
		"activated twice":    {own: give(decide.KindActivate, 1, 0), site: give(decide.KindActivate, 2, 0), ofSite: true},
		"activated both":     {own: give(decide.KindActivate, 2, 0), site: give(decide.KindActivate, 1, 0)},
		"suspended by order": {own: give(decide.KindSuspend, 1, 0), site: give(decide.KindDrain, 2, 0), listed: "smtp-east: suspend of the answer counts"},
	} {
		t.Run(name, func(t *testing.T) {
			tc.own.Answer, tc.site.Site = a.Name, a.site()
			all := orderList{tc.own.key(): tc.own, tc.site.key(): tc.site}
			want, other := tc.own, tc.site
			if tc.ofSite {
				want, other = other, want
			}
			if got, ok := all.of(&cfg, a); !ok || got != want {
				t.Errorf("%+v counts", got)
			}
			if list := cfg.notInForce(want, all); len(list) > 0 {
				t.Errorf("what counts is not in force: %q", list)
			}
			list := strings.Join(cfg.notInForce(other, all), "\n")
			if !strings.HasPrefix(list, tc.listed) || tc.listed == "" && list != "" {
				t.Errorf("of the other is said %q", list)
			}
		})
	}
}

// Who takes away what alone works is told of the rules.
func TestOrderThatLeavesNothing(t *testing.T) {
	for _, tc := range []struct {
		failing []string
		o       Order
		want    []string
	}{
		{nil, Order{Kind: decide.KindDrain, Site: "east"}, nil},
		{nil, Order{Kind: decide.KindSuspend, Answer: "smtp-west"}, []string{"lab"}}, // its group is smtp-west alone
		{[]string{"smtp-west"}, Order{Kind: decide.KindDrain, Site: "east"}, []string{"smtp", "mx"}},
		{[]string{"smtp-west"}, Order{Kind: decide.KindActivate, Site: "east"}, nil},
		{[]string{"smtp-east"}, Order{Kind: decide.KindDrain, Site: "west"}, []string{"lab", "smtp", "mx"}},
	} {
		d := newDeciding(t, nodeFile, tc.failing...)
		if taken, err := d.engine.order(tc.o); err != nil || !slices.Equal(taken.Alone, tc.want) {
			t.Errorf("with %q out %+v leaves nothing to %q, %v", tc.failing, tc.o, taken.Alone, err)
		}
	}
}
