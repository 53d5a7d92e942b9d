package mesh

import (
	"math"
	"testing"
)

func TestClockNeverGoesBack(t *testing.T) {
	c := clock{node: "a"}
	var got []stamp
	for _, now := range []int64{100, 100, 99, 101} {
		got = append(got, c.next(now))
	}
	c.observe(stamp{500, 7, "b"})
	got = append(got, c.next(102))
	c.observe(stamp{400, 9, "b"}) // older: nothing to learn
	got = append(got, c.next(103))
	c.observe(stamp{500, math.MaxUint32, "b"})
	got = append(got, c.next(104), c.next(600))
	want := []stamp{{100, 0, "a"}, {100, 1, "a"}, {100, 2, "a"}, {101, 0, "a"}, {500, 8, "a"}, {500, 9, "a"}, {501, 0, "a"}, {600, 0, "a"}}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("stamp %d is %v, want %v", i, got[i], want[i])
		}
		if i > 0 && got[i].compare(got[i-1]) <= 0 {
			t.Errorf("stamp %d, %v, is not after %v", i, got[i], got[i-1])
		}
	}
}
