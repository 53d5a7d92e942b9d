package demo

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"anycastle/lab/client"

	"github.com/google/go-cmp/cmp"
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

func TestOutage(t *testing.T) {
	tests := []struct {
		name, pattern string
		want          int // ms
		unfinished    bool
	}{
		{name: "no failure", pattern: "++++", want: 0},
		{name: "one gap", pattern: "+---++", want: 35},
		{name: "good between failures does not end it", pattern: "-+-+-+", want: 55},
		{name: "never ends", pattern: "++--", unfinished: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := outage(tries("vip", "a", 0, tt.pattern), "vip", window{fault: "f", from: zero, to: at(1000)})
			if tt.unfinished {
				if err == nil || !strings.Contains(err.Error(), "had not ended") {
					t.Fatalf("error is %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got != time.Duration(tt.want)*time.Millisecond {
				t.Errorf("outage is %v, want %d ms", got, tt.want)
			}
		})
	}
}

// A client that gets no processor time sees no failure either: that must not pass for a short outage.
func TestOutageWantsAttemptsAllAlong(t *testing.T) {
	w := window{fault: "f", from: zero, to: at(3000)}
	all := strings.Repeat("+", 300)
	for name, events := range map[string][]client.Event{
		"none at all":      nil,
		"none at first":    tries("vip", "a", 1500, all[:150]),
		"none in the end":  tries("vip", "a", 0, all[:150]),
		"a long pause":     append(tries("vip", "a", 0, all[:100]), tries("vip", "a", 2200, all[:80])...),
		"none of its kind": tries("name", "a", 0, all),
	} {
		if d, err := outage(events, "vip", w); err == nil || !strings.Contains(err.Error(), "began no attempt") {
			t.Errorf("%s: outage %v, error %v", name, d, err)
		}
	}
	if _, err := outage(tries("vip", "a", 0, all), "vip", w); err != nil {
		t.Error(err)
	}
}

// An attempt that was under way when the fault came and failed of it is where the outage begins.
func TestOutageBeginsWithWhatTheFaultHit(t *testing.T) {
	events := append(tries("vip", "a", -3, "-"), tries("vip", "a", 7, "-+++")...)
	if d, err := outage(events, "vip", window{fault: "f", from: zero, to: at(100)}); err != nil || d != 25*time.Millisecond {
		t.Errorf("outage %v, %v; want 25 ms", d, err)
	}
	// one that had failed before has nothing to do with it
	events = append(tries("vip", "a", -8, "-"), tries("vip", "a", 2, "+++")...)
	if d, err := outage(events, "vip", window{fault: "f", from: zero, to: at(100)}); err != nil || d != 0 {
		t.Errorf("outage %v, %v; want none", d, err)
	}
}

func TestNoOutageIsRoundedAway(t *testing.T) {
	for d, want := range map[time.Duration]int64{0: 0, 1: 1, time.Millisecond: 1, 1500 * time.Microsecond: 2} {
		if got := msUp(d); got != want {
			t.Errorf("%v is %d ms, want %d", d, got, want)
		}
	}
}

func TestClockThatWasSetIsAnError(t *testing.T) {
	for wall, ok := range map[time.Duration]bool{time.Minute: true, time.Minute + 30*time.Millisecond: true, 58 * time.Second: false, time.Hour: false} {
		if err := clockStood(wall, time.Minute); (err == nil) != ok {
			t.Errorf("%v by the clock in a minute: %v", wall, err)
		}
	}
}

// Sessions that hang count for the fault that they hang from, however late that shows; what fits no fault is not lost.
func TestSessionsCountFromTheUnansweredNOOP(t *testing.T) {
	events := append(tries("vip", "a", 0, strings.Repeat("+", 30)), tries("name", "a", 0, strings.Repeat("+", 30))...)
	events = append(events,
		client.Event{Kind: "held", Start: at(20), End: at(10_020)},
		client.Event{Kind: "held", Start: at(150), End: at(151)},
	)
	windows := []window{{fault: "one", from: zero, to: at(100)}, {fault: "two", from: at(200), to: at(300)}}
	got, err := rows(windows, events)
	if err != nil {
		t.Fatal(err)
	}
	if got[0].ConnectionsBroken != 1 || got[1].ConnectionsBroken != 0 {
		t.Errorf("%d and %d broken, want 1 and 0", got[0].ConnectionsBroken, got[1].ConnectionsBroken)
	}
	if diff := cmp.Diff(map[string]int{"held": 1}, failedBetween(windows, events)); diff != "" {
		t.Errorf("between the faults (-want +got):\n%s", diff)
	}
}

func TestCalmWantsEverySessionHeld(t *testing.T) {
	c := newCollector()
	for _, kind := range []string{client.KindVIP, client.KindName} {
		c.add(client.Event{Kind: kind, OK: true, Start: at(10)})
	}
	for i := range held {
		if c.goodSince(zero) {
			t.Fatalf("calm with %d sessions", i)
		}
		c.add(client.Event{Kind: client.KindHeld, ID: strconv.Itoa(i), OK: true, Start: at(1)})
	}
	if !c.goodSince(zero) {
		t.Error("not calm with all sessions held")
	}
	c.add(client.Event{Kind: client.KindHeld, ID: "7", Start: at(2)})
	if c.goodSince(zero) {
		t.Error("calm with a session broken")
	}
}

func TestRowsCountOnlyTheirOwnWindow(t *testing.T) {
	events := tries("vip", "mx1", 0, "++++++++++")
	events = append(events, tries("vip", "mx2", 100, "--+")...)
	events = append(events, tries("name", "mx2", 0, "+++++++++++++")...)
	events = append(events,
		client.Event{Kind: "held", OK: false, Start: at(50), End: at(50)},
		client.Event{Kind: "held", OK: false, Start: at(105), End: at(110)},
		client.Event{Kind: "held", OK: true, Start: at(110), End: at(111)},
	)
	got, err := rows([]window{
		{fault: "before", from: zero, to: at(100)},
		{fault: "after", from: at(100), to: at(200)},
		{fault: "routed", from: at(100), to: at(200), tookOver: "lb2"},
	}, events)
	if err != nil {
		t.Fatal(err)
	}
	want := []Row{
		{Fault: "before", ConnectionsBroken: 1, TookOver: "mx1"},
		{Fault: "after", OutageVIPMS: 25, ConnectionsBroken: 1, TookOver: "mx2"},
		{Fault: "routed", OutageVIPMS: 25, ConnectionsBroken: 1, TookOver: "lb2"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

func TestMails(t *testing.T) {
	ack, repeated := mails([]client.Event{
		{Kind: "mail", ID: "1", To: "alice@example.org", OK: false},
		{Kind: "mail", ID: "1", To: "alice@example.org", OK: true},
		{Kind: "mail", ID: "2", To: "bob@example.org", OK: false},
		{Kind: "vip", OK: true},
	})
	if diff := cmp.Diff(map[string]string{"1": "alice@example.org"}, ack); diff != "" || repeated != 2 {
		t.Errorf("acknowledged (-want +got):\n%s\nrepeated %d, want 2", diff, repeated)
	}
}

func TestTableLinesUp(t *testing.T) {
	got := table([]Row{{Fault: "real killed", OutageVIPMS: 210, OutageNameMS: 0, ConnectionsBroken: 9, TookOver: "mx2"}})
	want := `fault        outage at the VIP  outage by DNS name  connections broken  what took over
-----        -----------------  ------------------  ------------------  --------------
real killed  210 ms             none                9                   mx2
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}
