package board

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"anycastle/lab/client"
)

var zero = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(ms int) time.Time { return zero.Add(time.Duration(ms) * time.Millisecond) }

// lines writes events as the client does, in pieces that end anywhere.
func lines(t *testing.T, c *collector, events ...client.Event) {
	t.Helper()
	var all bytes.Buffer
	enc := json.NewEncoder(&all)
	for _, e := range events {
		if err := enc.Encode(e); err != nil {
			t.Fatal(err)
		}
	}
	for all.Len() > 0 {
		if _, err := c.Write(all.Next(7)); err != nil {
			t.Fatal(err)
		}
	}
}

// sessions opens all that the client holds of a pod.
func sessions(pod string) (events []client.Event) {
	for i := range held {
		events = append(events, client.Event{Kind: client.KindHeld, Pod: pod, ID: fmt.Sprintf("%s/%d", pod, i), OK: true, Start: at(1)})
	}
	return events
}

func TestCollectorSaysWhatIsWrong(t *testing.T) {
	vip := client.Event{Kind: client.KindVIP, Pod: "1", OK: true, Start: at(500)}
	mail := client.Event{Kind: client.KindMail, Pod: "1", To: "alice", OK: true, Start: at(400)}
	tests := []struct {
		name   string
		events []client.Event
		want   string
	}{
		{"all is well", append(sessions("1"), vip, mail), ""},
		{"nothing came", sessions("1"), "no new connection has been answered"},
		{"too few sessions", append(sessions("1")[1:], vip), "39 of 40 sessions are held"},
		{"a session broke", append(sessions("1"), vip, client.Event{Kind: client.KindHeld, Pod: "1", ID: "1/3", Start: at(10)}), "39 of 40 sessions are held"},
		{"a name failed", append(sessions("1"), vip, client.Event{Kind: client.KindName, Pod: "1", Start: at(200), Err: "refused"}), "name : refused"},
		{"a name failed before", append(sessions("1"), vip, client.Event{Kind: client.KindName, Pod: "1", Start: at(50)}), ""},
		{"a mailbox waits", append(sessions("1"), vip, client.Event{Kind: client.KindMail, Pod: "1", To: "bob", Start: at(50), Err: "451"}, mail), "mail bob: 451"},
		{"another pod is in ruins", append(sessions("1"), vip, client.Event{Kind: client.KindVIP, Pod: "2", Start: at(500), Err: "refused"}), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newCollector()
			lines(t, c, tt.events...)
			if got := c.wrongSince(at(100), "1"); got != tt.want {
				t.Errorf("wrong: %q, want %q", got, tt.want)
			}
		})
	}
	c := newCollector()
	lines(t, c, append(sessions("1"), vip, client.Event{Kind: client.KindVIP, Pod: "2", Start: at(500), Err: "refused"})...)
	if got := c.wrongSince(at(100), ""); got != "vip : refused" {
		t.Errorf("wrong in any pod: %q", got)
	}
}

func TestCollectorKnowsWhoAnsweredNames(t *testing.T) {
	c := newCollector()
	lines(t, c, client.Event{Kind: client.KindName, OK: true, Way: client.WaySelector})
	if got := c.resolver(); !strings.Contains(got, "selectors themselves") {
		t.Error(got)
	}
	lines(t, c, client.Event{Kind: client.KindName, OK: true, Way: client.WayResolver})
	if got := c.resolver(); !strings.Contains(got, "unbound") {
		t.Error(got)
	}
}

func TestCollectorRefusesWhatIsNoEvent(t *testing.T) {
	if _, err := newCollector().Write([]byte("no event\n")); err == nil {
		t.Error("no error")
	}
}

func TestClockThatWasSetIsAnError(t *testing.T) {
	for wall, ok := range map[time.Duration]bool{time.Minute: true, time.Minute + 30*time.Millisecond: true, 58 * time.Second: false, time.Hour: false} {
		if err := clockStood(wall, time.Minute); (err == nil) != ok {
			t.Errorf("%v by the clock in a minute: %v", wall, err)
		}
	}
}
