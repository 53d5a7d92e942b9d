package sign

import (
	"strings"
	"testing"
	"time"
)

// TestClockThatWasAhead: while the clock says less than what was written by it, nothing is taken for proof, somebody is told, and
// may say that the clock is right now.
func TestClockThatWasAhead(t *testing.T) {
	t.Parallel()
	policy := DefaultPolicy()
	k := newTestKeeper(t, t.TempDir(), "example.org.", policy)
	now := time.Now()
	ahead := now.Add(365 * 24 * time.Hour)
	step(t, k, nil, ahead)
	_, d := step(t, k, nil, ahead.Add(48*time.Hour))
	if len(d.Request.Keys) != 1 || d.Alarm != "" {
		t.Fatalf("after two days the parent is asked for %+v, alarm %q", d.Request, d.Alarm)
	}
	seen := func(after time.Duration) *Observation {
		return &Observation{At: now.Add(after), Sets: [][]string{d.Request.Keys}, Complete: true}
	}
	for day := range 10 {
		_, d = step(t, k, seen(time.Duration(day)*24*time.Hour), now.Add(time.Duration(day)*24*time.Hour))
		if d.Keys[0].State != Ready || !strings.Contains(d.Alarm, "was 8") || !strings.Contains(d.Alarm, "ahead when the state of the keys was written") {
			t.Fatalf("on day %d the key is %s, alarm %q", day, d.Keys[0].State, d.Alarm)
		}
	}
	o, err := k.DSSeen(now.Add(10*24*time.Hour), d.Request.Keys...)
	if err != nil {
		t.Fatal(err)
	}
	if _, d = step(t, k, &o, now.Add(10*24*time.Hour)); d.Alarm != "" {
		t.Errorf("once somebody has looked there is the alarm %q", d.Alarm)
	}
	if _, d = step(t, k, seen(12*24*time.Hour), now.Add(12*24*time.Hour)); d.Keys[0].State != Active {
		t.Errorf("two days later the key is %+v", d.Keys[0])
	}
}
