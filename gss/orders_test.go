package gss

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"anycastle/gss/decide"
)

func TestOrdersAreObeyed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startProbing(t)
		defer p.end()
		p.after(time.Second)
		order := func(o Order) {
			t.Helper()
			if _, err := p.engine.order(o); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		order(Order{Kind: decide.KindSuspend, Answer: "smtp-east", By: "root", Why: "disk"})
		if got := p.ask(); got != west {
			t.Errorf("suspended, it is answered with %s", got)
		}
		p.after(time.Second)
		order(Order{Kind: decide.KindActivate, Site: "east"})
		if got := p.ask(); got != west {
			t.Errorf("with its site activated, not itself, it is answered with %s", got)
		}
		order(Order{Kind: decide.KindActivate, Answer: "smtp-east"})
		if got := p.ask(); got != east {
			t.Errorf("activated, it is answered with %s", got)
		}
		p.after(time.Second)
		order(Order{Kind: decide.KindDrain, Site: "east"})
		if got := p.ask(); got != east {
			t.Errorf("a drain that has just begun answers with %s", got)
		}
		// the rule lab does not give it, so its TTL of a minute is no matter
		p.after(5 * time.Second)
		if got := p.ask(); got != west {
			t.Errorf("when the old answers have expired it is answered with %s", got)
		}
		all := p.Orders()
		if len(all) != 1 || all[0].Site != "east" || len(all[0].Answers) != 1 || all[0].Answers[0].Done {
			t.Errorf("orders are %+v", all)
		}
		p.after(time.Second)
		if all = p.Orders(); !all[0].Answers[0].Done {
			t.Errorf("after another second it is not done: %+v", all[0].Answers[0])
		}
	})
}

// An order that is given again is the one that stands: what is drained stays so.
func TestOrderGivenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startProbing(t)
		defer p.end()
		p.after(time.Second)
		order := func(kind decide.Kind, start time.Duration, why string) Taken {
			t.Helper()
			o := Order{Kind: kind, Answer: "smtp-east", By: "root", Why: why}
			if start > 0 {
				o.Start = time.Now().Add(start)
			}
			taken, err := p.engine.order(o)
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			return taken
		}
		first := order(decide.KindDrain, 0, "disk")
		p.after(20 * time.Second)
		for _, start := range []time.Duration{0, time.Hour} {
			again := order(decide.KindDrain, start, "")
			if first.Order != again.Order || first.Stood || !again.Stood || p.ask() != west {
				t.Errorf("drained again with a start in %v: %+v, and answered with %s", start, again, p.ask())
			}
		}
		if again := order(decide.KindDrain, 0, "memory"); again.Why != "memory" || again.Since != first.Since || p.ask() != west {
			t.Errorf("drained for another reason: %+v, and answered with %s", again, p.ask())
		}
		if other := order(decide.KindSuspend, 0, "fire"); other.Stood || other.Why != "fire" || other.Since == first.Since {
			t.Errorf("suspended: %+v", other)
		}
		if again := order(decide.KindActivate, 0, ""); again.Stood {
			t.Errorf("activated: %+v", again)
		}
		p.after(time.Minute)
		later := order(decide.KindDrain, time.Hour, "")
		p.after(time.Minute)
		if sooner := order(decide.KindDrain, time.Minute, ""); sooner.Stood || !sooner.Start.Before(later.Start) {
			t.Errorf("a drain that is to begin sooner: %+v", sooner)
		}
	})
}

// The drain of a site that is dead for long is done at once, and says so.
func TestDrainOfADeadSite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startProbing(t)
		defer p.end()
		p.after(time.Second)
		p.sites.set(east)
		p.after(time.Hour)
		if _, err := p.engine.order(Order{Kind: decide.KindDrain, Site: "east"}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		all := p.Orders()
		if len(all) != 1 || len(all[0].Answers) != 1 || !all[0].Answers[0].Done {
			t.Errorf("orders are %+v", all)
		}
	})
}

// An order about what a reload took out of the config is about nothing, and can be undone, if only that.
func TestOrdersAboutNothing(t *testing.T) {
	d := newDeciding(t, nodeFile)
	for _, o := range []Order{{Kind: decide.KindSuspend, Answer: "smtp-east"}, {Kind: decide.KindDrain, Site: "east"}} {
		if _, err := d.engine.order(o); err != nil {
			t.Fatal(err)
		}
	}
	cfg := mustDecode(t, strings.NewReplacer("smtp-east", "smtp-north", "east\n      addr", "north\n      addr").Replace(nodeFile))
	cfg.StateDir = d.engine.serving().config.StateDir
	if err := d.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	d.see()
	for _, o := range d.Orders() {
		if !o.Void || len(o.Answers) > 0 {
			t.Errorf("the order is shown as %+v", o)
		}
	}
	if _, err := d.engine.order(Order{Kind: decide.KindDrain, Answer: "smtp-east"}); err == nil {
		t.Error("another one about nothing is taken")
	}
	for _, o := range []Order{{Answer: "smtp-east"}, {Site: "east"}} {
		o.Kind = decide.KindActivate
		if _, err := d.engine.order(o); err != nil {
			t.Error(err)
		}
		if _, err := d.engine.order(o); err == nil || !strings.Contains(err.Error(), "is called") && !strings.Contains(err.Error(), "is at a site") {
			t.Errorf("undone twice: %v", err)
		}
	}
	if left := d.Orders(); len(left) > 0 {
		t.Errorf("orders stand: %+v", left)
	}
}

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

func TestOrdersThatAreRefused(t *testing.T) {
	d := newDeciding(t, nodeFile)
	for _, tc := range []struct {
		o    Order
		want string
	}{
		{Order{Kind: "stop", Site: "east"}, `no order is called "stop"`},
		{Order{Kind: decide.KindDrain}, "about an answer or about a site"},
		{Order{Kind: decide.KindDrain, Site: "east", Answer: "smtp-east"}, "about an answer or about a site"},
		{Order{Kind: decide.KindDrain, Site: "eest"}, `no answer is at a site "eest"; did you mean east?`},
		{Order{Kind: decide.KindDrain, Answer: "smtp"}, `no answer is called "smtp"`},
		{Order{Kind: decide.KindSuspend, Site: "east", Start: clock}, "only a drain may begin later"},
		{Order{Kind: decide.KindSuspend, Site: "east", Why: strings.Repeat("x", 257)}, "one line of at most 256 bytes"},
		{Order{Kind: decide.KindSuspend, Site: "east", Why: "disk\nfull"}, "one line of at most 256 bytes"},
		{Order{Kind: decide.KindSuspend, Site: "east", By: "\x1b[2J"}, "one line of at most 256 bytes"},
		{Order{Kind: decide.KindDrain, Site: "east", Start: clock.AddDate(8000, 0, 0)}, "no time of this era"},
	} {
		if _, err := d.engine.order(tc.o); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v is refused with %v, want %s", tc.o, err, tc.want)
		}
	}
	if len(d.Orders()) > 0 {
		t.Error("an order that was refused is kept")
	}
}

// What another GSS hands on is no order unless it could have been given here.
func TestOrdersOfOthers(t *testing.T) {
	const key, good = "order/site/east", `{"kind":"suspend","site":"east","since":"2026-01-01T00:00:00Z"}`
	if _, err := decodeOrder(key, []byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"no time":       `{"kind":"suspend","site":"east"}`,
		"a far time":    `{"kind":"suspend","site":"east","since":"9999-01-01T00:00:00Z"}`,
		"another's key": strings.Replace(good, "east", "west", 1),
		"control":       strings.Replace(good, `"since"`, `"why":"\u001b[2J","since"`, 1),
		"more":          good + good,
	} {
		if o, err := decodeOrder(key, []byte(text)); err == nil {
			t.Errorf("%s: taken as %+v", name, o)
		}
	}
}

// An order that was stamped by a clock that is fast is obeyed at once, and the next one, of whatever kind, takes its place.
func TestOrdersOfAFastClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startProbing(t)
		defer p.end()
		p.after(time.Second)
		fast := Order{Kind: decide.KindDrain, Site: "east", Since: time.Now().Add(30 * time.Minute).UTC(), By: "root"}
		text, err := json.Marshal(fast)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.engine.data.Set(fast.key(), text); err != nil {
			t.Fatal(err)
		}
		p.after(6 * time.Second)
		if got := p.ask(); got != west {
			t.Errorf("drained by a fast clock, it is answered with %s", got)
		}
		if o := p.Orders(); len(o) != 1 || len(o[0].Answers) != 1 {
			t.Errorf("how far the drain is: %+v", o)
		}
		kept, err := p.engine.order(Order{Kind: decide.KindActivate, Site: "east"})
		if err != nil || !kept.Since.After(fast.Since) {
			t.Errorf("a later order is kept as %+v, %v", kept, err)
		}
		synctest.Wait()
		if got := p.ask(); got != east {
			t.Errorf("activated after that, it is answered with %s", got)
		}
		if kept, err = p.engine.order(Order{Kind: decide.KindDrain, Answer: "smtp-east"}); err != nil {
			t.Fatal(err)
		}
		p.after(6 * time.Second)
		if got := p.ask(); got != west {
			t.Errorf("drained by a right clock, it is answered with %s", got)
		}
		if n := strings.Count(p.log.String(), `level=WARN msg="an order comes from the future: set the clock of that site selector`); n != 1 {
			t.Errorf("the log has %d lines of the fast clock:\n%s", n, p.log)
		}
	})
}
