package group

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestAppendInOrder has many operations under way at once keep their order on all replicas.
func TestAppendInOrder(t *testing.T) {
	c := running(t, five, nil)
	l := c.leader()
	want := records(500, "op")
	var waits []func() (uint64, error)
	for _, r := range want {
		wait, err := l.group().Append([]byte(r))
		if err != nil {
			t.Fatal(err)
		}
		waits = append(waits, wait)
	}
	last := uint64(0)
	for _, wait := range waits {
		index, err := wait()
		if err != nil || index <= last {
			t.Fatalf("index %d after %d: %v", index, last, err)
		}
		last = index
	}
	if diff := cmp.Diff(want, c.agree()); diff != "" {
		t.Errorf("applied (-want +got):\n%s", diff)
	}
	for _, m := range five {
		eventually(t, 5*time.Second, m.Name+" has the log", func() bool { return l.group().Matched(m.Name) >= last })
	}
	record, at, err := l.group().Record(last)
	if string(record) != want[len(want)-1] || err != nil || time.Since(at) > time.Minute {
		t.Errorf("Record(%d) = %q at %v, %v", last, record, at, err)
	}
}

// TestLeaderKilled has another member take over soon, and the dead one come back.
func TestLeaderKilled(t *testing.T) {
	c := running(t, five, nil)
	l := c.leader()
	if _, err := l.add("before"); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	c.kill(l.name)
	next := c.leader()
	if _, err := next.add("after"); err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	t.Logf("killed → next commit: %v", took)
	if took > 5*time.Second {
		t.Errorf("the next operation was committed after %v", took)
	}
	c.start(l.name)
	if diff := cmp.Diff([]string{"before", "after"}, c.agree()); diff != "" {
		t.Errorf("applied (-want +got):\n%s", diff)
	}
	if !slices.Equal(l.state.all(), []string{"before", "after"}) {
		t.Errorf("the dead one has %q", l.state.all())
	}
}
