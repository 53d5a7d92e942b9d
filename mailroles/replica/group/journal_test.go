package group

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"

	"anycastle/mailroles/replica/chain"
)

// TestKeep has the log kept for its time, and cut when that is over or it takes too much room.
func TestKeep(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
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
	eventually(t, 20*time.Second, "a marker was made", func() bool {
		for _, r := range records(100, "more") {
			_, _ = c.leader().group().Append([]byte(r)) // another may lead by now
		}
		_, _ = c.leader().add("last")
		return n.state.Saved().Index > 1000
	})
	c.kill("w1")
	c.start("w1")
	if last := n.state.expects[len(n.state.expects)-1]; last < n.state.Saved().Index {
		t.Errorf("operations up to %d are expected, and %d is saved", last, n.state.Saved().Index)
	}
	c.agree()
}

// TestStaleIsRefused has the log take no operation of another term, and none that does not follow.
func TestStaleIsRefused(t *testing.T) {
	t.Parallel()
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

// TestReopenAfterShortening has a member read all of its log after a start, also when the leader of a newer term had it take
// entries back: each time that happens a segment ends early.
func TestReopenAfterShortening(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "group")
	if err := Bootstrap(dir, "e1", chain.Position{}); err != nil {
		t.Fatal(err)
	}
	gen, err := current(dir)
	if err != nil {
		t.Fatal(err)
	}
	open := func() *journal {
		t.Helper()
		j, err := openJournal(gen, chain.Position{}, 4<<10, newHealth(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	store := func(j *journal, term, from, to uint64) {
		t.Helper()
		for i := from; i <= to; i++ {
			f := frame{term: term, prev: j.tip().Chain, record: fmt.Appendf(nil, "%d in term %d", i, term)}
			l := &raft.Log{Index: i, Term: term, Type: raft.LogCommand, Data: f.append(nil), AppendedAt: time.Now()}
			if err := j.StoreLog(l); err != nil {
				t.Fatal(err)
			}
		}
	}
	j := open()
	store(j, 1, 2, 10)
	terms := map[uint64]uint64{}
	for n, from := range []uint64{8, 8, 60, 20, 3, 40} { // some within the last segment, some before it
		term := uint64(n + 2)
		if from <= j.last.Load() {
			if err := j.DeleteRange(from, j.last.Load()); err != nil {
				t.Fatal(err)
			}
		} else {
			from = j.last.Load() + 1
		}
		store(j, term, from, from+60)
		for i := from; i <= from+60; i++ {
			terms[i] = term
		}
		if err := j.close(); err != nil {
			t.Fatal(err)
		}
		j = open()
		for i := uint64(2); i <= j.last.Load(); i++ {
			var l raft.Log
			if err := j.entry(i, &l); err != nil {
				t.Fatalf("shortened to %d: %v", from-1, err)
			}
			if want := max(terms[i], 1); l.Term != want {
				t.Errorf("entry %d is of term %d, want %d", i, l.Term, want)
			}
		}
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
}
