package score

import (
	"strings"
	"testing"
	"time"

	"anycastle/lab/client"
)

var zero = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(ms int) time.Time { return zero.Add(time.Duration(ms) * time.Millisecond) }

// tries makes one attempt every 10 ms from start; '+' is a good one, '-' a failed one. Each takes 5 ms.
func tries(kind, server string, start int, pattern string) []client.Event {
	var events []client.Event
	for i, c := range pattern {
		e := client.Event{Kind: kind, Server: server, OK: c == '+', Start: at(start + 10*i), End: at(start + 10*i + 5)}
		if c == '-' {
			e.Err = "connection refused"
		}
		events = append(events, e)
	}
	return events
}

// window is one of so many milliseconds with a promise.
func window(t *testing.T, ms int, promise string) Window {
	t.Helper()
	p, err := ParsePromise(promise)
	if err != nil {
		t.Fatal(err)
	}
	return Window{Fault: "f", From: zero, To: at(ms), Promise: p}
}

// one computes the only row of a window.
func one(w Window, events []client.Event) Row { return Rows("two-site", []Window{w}, events)[0] }

func TestOutage(t *testing.T) {
	tests := []struct {
		name, pattern string
		want          int64 // ms
		why           string
	}{
		{name: "no failure", pattern: "++++", want: 0},
		{name: "one gap", pattern: "+---++", want: 35},
		{name: "good between failures does not end it", pattern: "-+-+-+", want: 55},
		{name: "never ends", pattern: "++--", want: 980, why: "had not ended after 1s: connection refused"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := one(window(t, 1000, "vip 1s"), tries("vip", "a", 0, tt.pattern))
			if r.OutageVIPMS != tt.want || !strings.Contains(r.Why, tt.why) || r.Pass != (tt.why == "") {
				t.Errorf("%+v, want an outage of %d ms and %q", r, tt.want, tt.why)
			}
		})
	}
}

// A client that gets no processor time sees no failure either: that must not pass for a short outage.
func TestOutageWantsAttemptsAllAlong(t *testing.T) {
	all := strings.Repeat("+", 300)
	for name, events := range map[string][]client.Event{
		"none at all":      nil,
		"none at first":    tries("vip", "a", 1500, all[:150]),
		"none in the end":  tries("vip", "a", 0, all[:150]),
		"a long pause":     append(tries("vip", "a", 0, all[:100]), tries("vip", "a", 2200, all[:80])...),
		"none of its kind": tries("name", "a", 0, all),
	} {
		if r := one(window(t, 3000, "vip 0"), events); r.Pass || !strings.Contains(r.Why, "began no attempt") {
			t.Errorf("%s: %+v", name, r)
		}
		if r := one(window(t, 3000, "broken 0"), events); !r.Pass {
			t.Errorf("%s, and nothing promised of it: %+v", name, r)
		}
	}
	if r := one(window(t, 3000, "vip 0"), tries("vip", "a", 0, all)); !r.Pass {
		t.Error(r)
	}
}

// An attempt that was under way when the fault came and failed of it is where the outage begins.
func TestOutageBeginsWithWhatTheFaultHit(t *testing.T) {
	events := append(tries("vip", "a", -3, "-"), tries("vip", "a", 7, "-+++")...)
	if r := one(window(t, 100, "vip 25ms"), events); r.OutageVIPMS != 25 || !r.Pass {
		t.Errorf("%+v; want 25 ms", r)
	}
	// one that had failed before has nothing to do with it
	events = append(tries("vip", "a", -8, "-"), tries("vip", "a", 2, "+++")...)
	if r := one(window(t, 100, "vip 0"), events); r.OutageVIPMS != 0 || !r.Pass {
		t.Errorf("%+v; want none", r)
	}
}

// Two outages with all well between them are added up: the time between them is none.
func TestTwoOutages(t *testing.T) {
	good := strings.Repeat("+", 110)
	for _, tt := range []struct {
		name, pattern string
		want          int64
	}{
		{"far apart", "+--" + good + "-+" + good, 25 + 15},
		{"less than a second apart", "+--" + good[:50] + "-+" + good, 535},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := one(window(t, 10*len(tt.pattern), "vip 1s"), tries("vip", "a", 0, tt.pattern))
			if r.OutageVIPMS != tt.want || !r.Pass {
				t.Errorf("%+v, want an outage of %d ms", r, tt.want)
			}
		})
	}
}

// mails is one sender's attempts: start, end and whether it was acknowledged.
func mails(to string, attempts ...[3]int) (events []client.Event) {
	for _, a := range attempts {
		events = append(events, client.Event{Kind: client.KindMail, To: to, ID: to, Start: at(a[0]), End: at(a[1]), OK: a[2] == 1})
	}
	return events
}

func TestDeliveryOutage(t *testing.T) {
	tests := []struct {
		name   string
		events []client.Event
		want   int64
		why    string
	}{
		{name: "all is quick", events: mails("a", [3]int{0, 50, 1}, [3]int{500, 600, 1})},
		{name: "one waits", events: mails("a", [3]int{0, 50, 1}, [3]int{500, 2600, 1}, [3]int{2700, 2800, 1}), want: 2100},
		{name: "one is refused", events: mails("a", [3]int{0, 50, 0}, [3]int{500, 600, 0}, [3]int{1000, 1100, 1}), want: 1100},
		{name: "the worst mailbox counts", want: 1100,
			events: append(mails("b", [3]int{0, 50, 1}), mails("a", [3]int{0, 50, 0}, [3]int{1000, 1100, 1})...)},
		{name: "another's success does not end it", want: 4000, why: "the mail outage of a had not ended after 4s",
			events: append(mails("a", [3]int{0, 50, 0}), mails("b", [3]int{0, 50, 1}, [3]int{500, 600, 1})...)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := one(window(t, 4000, "delivery 5s"), tt.events)
			if r.OutageDeliveryMS != tt.want || !strings.Contains(r.Why, tt.why) || r.Pass != (tt.why == "") {
				t.Errorf("%+v, want %d ms and %q", r, tt.want, tt.why)
			}
		})
	}
}

// Sessions that hang count for the fault that they hang from, however late that shows; what fits no fault is not counted.
func TestSessionsCountFromTheUnansweredQuestion(t *testing.T) {
	events := []client.Event{
		{Kind: "held", Reconnect: true, Start: at(20), End: at(10_020)},
		{Kind: "held", Reconnect: true, Start: at(150), End: at(151)},
		{Kind: "held", Start: at(30), End: at(31)}, // moved without the client's knowing
		{Kind: "idle", Reconnect: true, Start: at(210), End: at(9_000)},
		{Kind: "idle", Reconnect: true, Reason: client.ReasonBye, Start: at(220), End: at(221)},
	}
	windows := []Window{{Fault: "one", From: zero, To: at(100)}, {Fault: "two", From: at(200), To: at(300)}}
	got := Rows("", windows, events)
	if got[0].ConnectionsBroken != 1 || got[1].ConnectionsBroken != 0 || got[0].IdleBroken != 0 || got[1].IdleBroken != 1 || got[1].SessionsEnded != 1 {
		t.Errorf("%+v", got)
	}
}

// A row is about the client of one pod, if the window says so.
func TestRowOfAPod(t *testing.T) {
	w := window(t, 100, "vip 0")
	w.Pod = "2"
	events := tries("vip", "a", 0, "+--+++++++")
	for i := range events {
		events[i].Pod = "1"
	}
	of2 := tries("vip", "b", 0, "++++++++++")
	for i := range of2 {
		of2[i].Pod = "2"
	}
	if r := one(w, append(events, of2...)); !r.Pass || r.TookOver != "b" {
		t.Errorf("%+v", r)
	}
}

func TestRowSaysWhichPromisesItBreaks(t *testing.T) {
	w := window(t, 100, "vip 10ms, failed 1, broken 0, lost 0")
	w.Lost, w.Expect = []string{"x"}, "west"
	events := append(tries("vip", "mx1.east", 0, "+--+++++++"), client.Event{Kind: "held", Reconnect: true, Start: at(20), End: at(30)})
	r := one(w, events)
	want := "vip: promised 10 ms, was 25 ms; failed: promised 1, was 2; broken: promised 0, was 1; lost: promised 0, was 1; " +
		"not one mail was acknowledged, so none could be lost; took over: \"mx1.east\", expected west"
	if r.Pass || r.Why != want {
		t.Errorf("why is\n%s\nwant\n%s", r.Why, want)
	}
	if r.PromiseMS != 10 || r.PromiseOf != VIP || r.Promise != "vip 10ms, failed 1, broken 0, lost 0" {
		t.Errorf("%+v", r)
	}
}

func TestFlawFailsARow(t *testing.T) {
	w := window(t, 100, "broken 0")
	w.Flaws = []string{"the clock was set"}
	if r := one(w, nil); r.Pass || r.Why != "the clock was set" {
		t.Errorf("%+v", r)
	}
}

func TestNoOutageIsRoundedAway(t *testing.T) {
	for d, want := range map[time.Duration]int64{0: 0, 1: 1, time.Millisecond: 1, 1500 * time.Microsecond: 2} {
		if got := msUp(d); got != want {
			t.Errorf("%v is %d ms, want %d", d, got, want)
		}
	}
}

func TestParsePromiseSaysWhatIsWrong(t *testing.T) {
	for text, want := range map[string]string{
		"":               "want a measure",
		"vip":            "want a measure",
		"vip 1":          "no time in whole milliseconds",
		"vip -1s":        "no time in whole milliseconds",
		"name 1us":       "no time in whole milliseconds",
		"lost 1s":        "is no count",
		"lost -1":        "is no count",
		"mood 1":         "there are: vip, name, delivery",
		"vip 1s, vip 2s": "promised twice",
	} {
		if _, err := ParsePromise(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func FuzzParsePromise(f *testing.F) {
	f.Add("vip 1s, name 8s, broken 0")
	f.Add("lost 0")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePromise(text)
		if err != nil {
			return
		}
		again, err := ParsePromise(p.String())
		if err != nil || again.String() != p.String() {
			t.Errorf("%q is read as %q, and that as %q, %v", text, p, again, err)
		}
	})
}
