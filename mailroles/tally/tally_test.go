package tally

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestCounts(t *testing.T) {
	var tally Tally
	for i := range 3 {
		if in := tally.Open(2); in != (i < 2) {
			t.Errorf("session %d of 2 is let in: %v", i+1, in)
		}
	}
	tally.Close()
	tally.Done()
	tally.Reject("password")
	tally.Reject("password")
	for _, d := range []time.Duration{0, time.Millisecond, 2 * time.Millisecond, 50 * time.Millisecond, 10 * time.Minute} {
		tally.Observe("store", d)
	}
	want := Counts{Sessions: 1, Done: 1, Rejects: map[string]uint64{"password": 2}, Legs: map[string]Spread{"store": {
		Count: 5, Sum: 10*time.Minute + 53*time.Millisecond, Buckets: []uint64{2, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4},
	}}}
	got := tally.Counts()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	got.Legs["store"].Buckets[0], got.Rejects["password"] = 9, 9
	if diff := cmp.Diff(want, tally.Counts()); diff != "" {
		t.Errorf("a reader changes the counts (-want +got):\n%s", diff)
	}
}

func TestNothingIsCountedYet(t *testing.T) {
	var tally Tally
	if diff := cmp.Diff(Counts{Rejects: map[string]uint64{}}, tally.Counts()); diff != "" {
		t.Error(diff)
	}
}
