package decide

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What an earlier decision gives until the replies of the next are made is held from then, and a drain knows it.
func TestLate(t *testing.T) {
	r := newRig(t, Ordered)
	was := r.next(0)
	r.in.Orders["east"] = Order{Kind: KindSuspend, Since: r.now}
	r.next(time.Second)
	r.drained("east", r.now.Add(baseTTL))
	r.now = r.now.Add(3 * time.Second)
	if d, ok := r.last.Drain("east", was, r.now); !ok || !d.Given || !d.Clear.Equal(r.now.Add(baseTTL)) {
		t.Errorf("while it is given on the drain is %+v, %v", d, ok)
	}
	if d, ok := r.last.Drain("west", was, r.now); ok {
		t.Errorf("west has a drain: %+v", d)
	}
	state, last := r.state, r.last
	before := state.Answers["east"]
	r.state, r.last = Late(state, last, was, r.now)
	r.drained("east", r.now.Add(baseTTL))
	if state.Answers["east"] != before || !last.Drains["east"].Clear.Before(r.last.Drains["east"].Clear) {
		t.Error("the arguments are changed")
	}
	if diff := cmp.Diff(last.Rules, r.last.Rules); diff != "" {
		t.Errorf("the rules are others (-want +got):\n%s", diff)
	}
	held := r.now.Add(baseTTL)
	r.next(time.Second)
	r.drained("east", held)
}

// A drain that has no end gets none by that.
func TestLateDrainOfTheOnlyOne(t *testing.T) {
	r := newRig(t, Ordered)
	r.see("gss-a", "west", Failing)
	r.see("gss-a", "south", Failing)
	was := r.next(0)
	r.in.Orders["east"] = Order{Kind: KindDrain, Since: r.now}
	r.next(time.Minute)
	r.state, r.last = Late(r.state, r.last, was, r.now.Add(time.Second))
	if d := r.last.Drains["east"]; !d.Given || !d.Clear.IsZero() {
		t.Errorf("the drain: %+v", d)
	}
}
