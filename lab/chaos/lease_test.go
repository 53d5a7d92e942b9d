package chaos

import (
	"testing"
	"time"
)

func TestTwoActive(t *testing.T) {
	at := func(ms int, store string, active bool, term uint64) Sample {
		asked := time.Duration(ms) * time.Millisecond
		return Sample{"lun-east", store, asked, asked + time.Millisecond, active, term}
	}
	for _, tc := range []struct {
		name    string
		samples []Sample
		want    int
	}{
		{"one", []Sample{at(0, "a", true, 1), at(50, "a", true, 1), at(0, "b", false, 1), at(50, "b", false, 1)}, 0},
		{"handed over", []Sample{at(0, "a", true, 1), at(50, "a", false, 1), at(0, "b", false, 1), at(50, "b", true, 2)}, 0},
		{"handed over within a sample", []Sample{at(0, "a", true, 1), at(50, "a", true, 1), at(51, "b", true, 2), at(90, "b", true, 2)}, 0},
		{"both", []Sample{at(0, "a", true, 1), at(100, "a", true, 1), at(20, "b", true, 2), at(60, "b", true, 2)}, 1},
		{"resumed and still active", []Sample{at(0, "a", true, 1), at(60_000, "a", true, 1), at(900, "b", true, 2), at(60_000, "b", true, 2)}, 1},
		{"one term, never at a time", []Sample{at(0, "a", true, 1), at(50, "a", false, 1), at(500, "b", true, 1)}, 1},
		{"back again", []Sample{at(0, "a", true, 1), at(10, "a", false, 1), at(90, "a", true, 3), at(120, "a", true, 3), at(20, "b", true, 2), at(60, "b", true, 2)}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := TwoActive(tc.samples); len(got) != tc.want {
				t.Errorf("found %q, want %d", got, tc.want)
			}
		})
	}
}
