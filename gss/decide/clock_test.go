package decide

import (
	"testing"
	"time"
)

// A clock that is set back makes nothing that was heard before count for longer, and no wait longer than it was.
func TestClockIsSetBack(t *testing.T) {
	r := newRig(t, LeastLoaded)
	r.vantages("gss-a", "gss-b")
	for v := range r.in.Vantages {
		for _, a := range r.in.Config.Groups[0].Answers {
			r.see(v, a, Passing)
		}
	}
	r.in.Reports["west"] = []Report{{From: "lb", At: r.now, Used: 99, Capacity: 100}}
	r.next(0)
	for v := range r.in.Vantages {
		r.see(v, "south", Failing)
	}
	r.next(time.Second)
	for v := range r.in.Vantages {
		r.see(v, "south", Passing)
	}
	r.next(0)
	if r.place("west") != Hot || r.place("south") != Waiting {
		t.Fatalf("west is %s, south %s", r.place("west"), r.place("south"))
	}
	r.in.Orders["south"] = Order{Kind: KindDrain, Since: r.now}
	r.now = r.now.Add(-time.Hour)
	r.see("gss-a", "east", Failing)
	r.next(0)
	if r.place("west") != Serving {
		t.Errorf("by a report of before west is %s", r.place("west"))
	}
	if v := r.last.Answers["east"].Votes; v.Heard != 1 {
		t.Errorf("%d vantages count as heard", v.Heard)
	}
	r.next(r.in.Config.Vote.Hold)
	if r.place("east") != Out {
		t.Errorf("east is %s: %s", r.place("east"), r.last.Answers["east"].Why)
	}
	r.next(10*time.Second - r.in.Config.Vote.Hold)
	if r.place("south") != Draining || !r.last.Drains["south"].Done(r.now) {
		t.Errorf("south is %s: %s, and its drain %+v", r.place("south"), r.last.Answers["south"].Why, r.last.Drains["south"])
	}
	delete(r.in.Orders, "south")
	r.next(0)
	before := r.shares()
	r.next(baseTTL)
	if moved(before, r.shares()) == 0 {
		t.Errorf("shares stay at %v", before)
	}
}
