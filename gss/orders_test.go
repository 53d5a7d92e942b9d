package gss

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"anycastle/gss/decide"
	"anycastle/internal/probe"
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

// The log of an order has what was told, and nothing else.
func TestLogOfAnOrder(t *testing.T) {
	for _, tc := range []struct {
		o    Order
		want string
	}{
		{Order{Kind: decide.KindSuspend, Site: "east"}, "[kind suspend site east]"},
		{Order{Kind: decide.KindDrain, Answer: "smtp-east", Start: clock, By: "root", Why: "disk"},
			"[kind drain start 2026-11-24 12:00:00 +0000 UTC answer smtp-east by root why disk]"},
	} {
		if got := fmt.Sprint(tc.o.attrs()); got != tc.want {
			t.Errorf("%+v is logged with %s", tc.o, got)
		}
	}
}

// The address of a connection that fails is told once.
func TestWhyOfAProbe(t *testing.T) {
	for err, want := range map[string]string{
		"tcp 203.0.113.110:25: connect: connection refused": "smtp 203.0.113.110:25: connect: connection refused",
		"no answer within 400ms":                            "smtp 203.0.113.110:25: no answer within 400ms",
		"tcp 192.0.2.1:443: connect: connection refused":    "smtp 203.0.113.110:25: tcp 192.0.2.1:443: connect: connection refused",
	} {
		one := target{Target: probe.Target{Addr: netip.MustParseAddrPort("203.0.113.110:25"), Config: &probe.Config{Type: "smtp"}}, err: errors.New(err)}
		if got := one.why(); got != want {
			t.Errorf("%s: it says %q", err, got)
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
		"a later one":   `{"kind":"suspend","site":"east","since":"2262-06-01T00:00:00Z"}`,
		"an early time": `{"kind":"suspend","site":"east","since":"1970-01-01T00:00:00Z"}`,
		"a far start":   `{"kind":"drain","site":"east","since":"2026-01-01T00:00:00Z","start":"2262-06-01T00:00:00Z"}`,
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
		again, err := p.engine.order(Order{Kind: decide.KindDrain, Site: "east"})
		if err != nil || !again.Stood || !again.Since.Equal(fast.Since) {
			t.Errorf("given again here it is kept as %+v, %v", again, err)
		}
		synctest.Wait()
		if got := p.ask(); got != west {
			t.Errorf("given again here, it is answered with %s", got)
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
