package gss

import (
	"testing"
	"time"

	"anycastle/gss/decide"
	"anycastle/internal/mesh"
)

// What a GSS that is heard tells no more, as its config has it no more, is no view of it, and is forgotten.
func TestViewsThatAreToldNoMore(t *testing.T) {
	v, now, number := newVantages("gss-a"), clock, int64(0)
	tell := func(answer, order string, digest uint32) {
		t.Helper()
		texts, err := encodeTellings(1, &number, map[string]view{answer: {Seen: decide.Seen{View: decide.Passing}, digest: digest}},
			[]drained{{Order: order, Since: clock.UnixNano()}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.take("gss-b", texts[0], now); err != nil {
			t.Fatal(err)
		}
	}
	members, digests := []mesh.Member{{Name: "gss-b", State: mesh.Alive}}, map[string]uint32{"x": 7, "z": 1}
	look := func(what string, views, differ, drains int) {
		t.Helper()
		answers := v.of(members, digests, now)["gss-b"].Answers
		others, said := v.differ(digests, now), v.drained(Order{Answer: "x", Since: clock})
		if len(answers) != views || len(others["z"]) != differ || len(said) != drains {
			t.Errorf("%s there are the views %v, others of %v and the drains %v", what, answers, others, said)
		}
	}
	tell("x", "answer/x", 7)
	tell("z", "answer/x", 2)
	look("at first", 1, 1, 1)
	for range int(stale / beat) {
		now = now.Add(beat)
		tell("y", "answer/y", 0)
	}
	look("while it may be late", 2, 1, 1)
	now = now.Add(beat)
	tell("y", "answer/y", 0)
	look("when it is told no more", 1, 0, 0)
	for range 2 * int(stale/beat) {
		now = now.Add(beat)
		tell("y", "answer/y", 0)
	}
	if is := v.byName["gss-b"]; len(is.views) != 1 || len(is.drains) != 1 {
		t.Errorf("it is remembered: %+v", is)
	}
	now = now.Add(time.Hour)
	look("after silence", 1, 0, 0)
}
