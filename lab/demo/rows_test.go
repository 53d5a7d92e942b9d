package demo

import (
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

func TestOutageWithoutAttemptsIsAnError(t *testing.T) {
	if _, err := outage(nil, "vip", window{fault: "f", from: zero, to: at(1000)}); err == nil {
		t.Error("no attempts at all count as no outage")
	}
}

func TestRowsCountOnlyTheirOwnWindow(t *testing.T) {
	events := tries("vip", "mx1", 0, "++++++++++")
	events = append(events, tries("vip", "mx2", 100, "--+")...)
	events = append(events, tries("name", "mx2", 0, "+++++++++++++")...)
	events = append(events,
		client.Event{Kind: "held", OK: false, Start: at(0), End: at(50)},
		client.Event{Kind: "held", OK: false, Start: at(0), End: at(110)},
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
-----------  -----------------  ------------------  ------------------  --------------
real killed  210 ms             none                9                   mx2
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}
