package transfer

import (
	"testing"
	"time"
)

func TestSchedule(t *testing.T) {
	for name, tc := range map[string]struct {
		numbers  string
		failures int
		random   float64
		wait     time.Duration
		expires  time.Duration
	}{
		"as it says":       {"1 3600 600 86400 5", 0, 0, time.Hour, 24 * time.Hour},
		"spread":           {"1 3600 600 86400 5", 0, 1, 54 * time.Minute, 24 * time.Hour},
		"failed":           {"1 3600 600 86400 5", 3, 0, 10 * time.Minute, 24 * time.Hour},
		"too short":        {"1 1 1 1 5", 0, 0, minWait, 2 * minWait},
		"too long":         {"1 2147483647 600 2147483647 5", 0, 0, maxWait, 2147483647 * time.Second},
		"expires too soon": {"1 3600 600 60 5", 0, 0, time.Hour, 70 * time.Minute},
	} {
		s := schedule{soa: versionOf(t, tc.numbers).SOA(), refreshed: start, failures: tc.failures}
		if got := s.wait(tc.random); got != tc.wait {
			t.Errorf("%s: it waits for %v, want %v", name, got, tc.wait)
		}
		if got := s.expires().Sub(start); got != tc.expires {
			t.Errorf("%s: it expires after %v, want %v", name, got, tc.expires)
		}
	}
}
