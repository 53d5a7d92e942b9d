package group

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestKeep has the log kept for its time, and cut when that is over or it takes too much room.
func TestKeep(t *testing.T) {
	var mu sync.Mutex
	now := time.Now()
	ahead := func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(d)
	}
	c := running(t, three[:1], func(o *Options) {
		o.test.trailing, o.test.segment = 1, 8<<10
		o.test.now = func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return now
		}
	})
	n := c.nodes["e1"]
	fill := func() uint64 {
		t.Helper()
		last := uint64(0)
		for _, r := range records(100, strings.Repeat("y", 200)) {
			index, err := n.add(r)
			if err != nil {
				t.Fatal(err)
			}
			last = index
		}
		if err := n.group().raft.Load().Snapshot().Error(); err != nil {
			t.Fatal(err)
		}
		return last
	}
	first := fill()
	ahead(39 * time.Hour)
	if got := n.group().Status().First; got > 2 {
		t.Errorf("after 39 h the log begins at %d", got)
	}
	// A clock that ran ahead is not believed before an entry of the log is as late.
	ahead(1000 * time.Hour)
	if fill(); n.group().Status().First > 2 {
		t.Errorf("after a jump of the clock the log begins at %d", n.group().Status().First)
	}
	j := n.group().journal
	if aged, err := j.aged(2, first); err != nil || aged > 1 {
		t.Errorf("aged up to %d, %v", aged, err)
	}
	j.keep = time.Nanosecond // as if all were old
	if last := fill(); n.group().Status().First < last-100 {
		t.Errorf("of %d operations, all old, the log begins at %d", last, n.group().Status().First)
	}
	if _, _, err := n.group().Record(first); !errors.Is(err, ErrGone) {
		t.Errorf("an operation that is gone: %v", err)
	}
	j.keep, j.keepBytes = 40*time.Hour, 32<<10
	before := n.group().Status().First
	for range 4 {
		fill()
	}
	if got := n.group().Status().First; got <= before {
		t.Errorf("over its bound the log begins at %d, as before at %d", got, before)
	}
	if err := c.shut("e1"); err != nil {
		t.Fatal(err)
	}
	c.start("e1")
	c.leader()
}

// TestRestartReadsLittle has an orderly restart apply nothing again, and a crash only what came after the last marker.
func TestRestartReadsLittle(t *testing.T) {
	c := running(t, three, func(o *Options) { o.test.interval = 50 * time.Millisecond })
	l := c.leader()
	for _, r := range records(50, "op") {
		if _, err := l.add(r); err != nil {
			t.Fatal(err)
		}
	}
	c.agree()
	n := c.nodes["w1"]
	if err := c.shut("w1"); err != nil {
		t.Fatal(err)
	}
	if at := n.state.Saved(); at != l.group().Status().Applied {
		t.Errorf("saved up to %d, applied %d", at.Index, l.group().Status().Applied.Index)
	}
	c.start("w1") // the machine counts an operation that comes twice as an error
	if got := n.group().marker.note().At; got != n.state.Saved() {
		t.Errorf("the marker is at %d", got.Index)
	}
	for _, r := range records(1200, "more") {
		if _, err := l.group().Append([]byte(r)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 15*time.Second, "a marker was made", func() bool { return n.state.Saved().Index > 1000 })
	c.kill("w1")
	c.start("w1")
	if last := n.state.expects[len(n.state.expects)-1]; last < n.state.Saved().Index {
		t.Errorf("operations up to %d are expected, and %d is saved", last, n.state.Saved().Index)
	}
	c.agree()
}

// TestStaleIsRefused has the log take no operation of another term, and none that does not follow.
func TestStaleIsRefused(t *testing.T) {
	c := running(t, three[:1], nil)
	n := c.nodes["e1"]
	if _, err := n.add("first"); err != nil {
		t.Fatal(err)
	}
	g := n.group()
	term, _, _ := g.epoch.is()
	tip := g.journal.tip()
	r := g.raft.Load()
	for name, f := range map[string]frame{
		"older term": {term: term - 1, prev: tip.Chain, record: []byte("stale")},
		"gap":        {term: term, prev: tip.Chain.Next(nil), record: []byte("gap")},
	} {
		term, _, _ = c.leader().group().epoch.is()
		if name == "gap" {
			f.term = term
		}
		applyRaw(r, f.append(nil))
		eventually(t, 10*time.Second, name+": another term begins", func() bool {
			now, open, _ := g.epoch.is()
			return open && now > term && n.leading()
		})
	}
	if _, err := n.add("second"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"first", "second"}, c.agree()); diff != "" {
		t.Errorf("applied (-want +got):\n%s", diff)
	}
}
