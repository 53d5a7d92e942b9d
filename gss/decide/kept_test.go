package decide

import (
	"encoding/json"
	"testing"
	"time"
)

// A State that was kept need not be kept again only because time has passed; and does for anything else that a restart goes by.
func TestKeptState(t *testing.T) {
	r := newRig(t, Ordered)
	r.next(0)
	text, err := json.Marshal(r.state)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := DecodeState(text)
	if err != nil {
		t.Fatal(err)
	}
	look := func(what string, want bool) {
		t.Helper()
		if got := r.state.KeptBy(kept); got != want {
			t.Errorf("%s it is kept: %v", what, got)
		}
	}
	look("at first", true)
	if r.state.KeptBy(State{}) {
		t.Error("it is kept by nothing")
	}
	r.next(9 * time.Second)
	look("after 9s", true)
	r.next(2 * time.Second)
	look("after 11s", false)
	kept = r.state
	r.in.Orders["west"] = Order{Kind: KindSuspend, Since: r.now}
	r.next(time.Second)
	look("when an answer that is not given is suspended", false)
	kept = r.state
	was := r.last
	r.in.Orders["east"] = Order{Kind: KindSuspend, Since: r.now}
	r.next(time.Second)
	look("when one that is given is", false)
	kept = r.state
	r.state, r.last = Late(r.state, r.last, was, r.now.Add(3*time.Second))
	look("when that was given still", false)
	kept = r.state
	r.state.Rules = nil
	look("without rules", false)
}
