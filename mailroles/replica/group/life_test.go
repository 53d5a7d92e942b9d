package group

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"anycastle/mailroles/replica/chain"
)

// TestBlank has an empty directory refused, and only that of a member known as one.
func TestBlank(t *testing.T) {
	c := newCluster(t, three, nil)
	n := c.nodes["e1"]
	if err := c.tryStart("e1"); !errors.Is(err, ErrBlank) {
		t.Errorf("opened an empty directory: %v", err)
	}
	if Initialized(n.dir) {
		t.Error("an empty directory belongs to a group")
	}
	if err := Bootstrap(n.dir, "e1", chain.Position{}); err != nil {
		t.Fatal(err)
	}
	if !Initialized(n.dir) {
		t.Error("the first member's directory belongs to no group")
	}
	if err := Bootstrap(n.dir, "e1", chain.Position{}); err == nil {
		t.Error("a group was begun twice")
	}
}

// TestRejoin has a member whose log is damaged seeded again and vote again, while the others serve.
func TestRejoin(t *testing.T) {
	c := running(t, three, nil)
	l := c.leader()
	for _, r := range records(20, "before") {
		if _, err := l.add(r); err != nil {
			t.Fatal(err)
		}
	}
	c.kill("w1")
	gen, err := current(c.nodes["w1"].dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(gen, "votes"), 0); err != nil {
		t.Fatal(err)
	}
	if err := c.tryStart("w1"); !errors.Is(err, ErrBlank) {
		t.Fatalf("opened with %v", err)
	}
	if _, err := l.add("while it is blank"); err != nil {
		t.Fatal(err)
	}
	c.join(l.name, "w1")
	if got := l.group().Matched("w1"); got == 0 {
		t.Error("nothing is known of it after it was promoted")
	}
	c.kill(l.name)
	if next := c.leader(); next.name != "w1" {
		t.Errorf("%s leads", next.name)
	}
	if _, err := c.nodes["w1"].add("after"); err != nil {
		t.Fatal(err)
	}
	c.start(l.name)
	if got := c.agree(); len(got) != 22 {
		t.Errorf("%d operations", len(got))
	}
}

// TestSeedIsChecked has a seed that does not fit the state, or is none, refused.
func TestSeedIsChecked(t *testing.T) {
	c := running(t, three, nil)
	l := c.leader()
	if _, err := l.add("op"); err != nil {
		t.Fatal(err)
	}
	at := l.group().Status().Applied
	seed, err := l.group().Base(at)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	other := chain.Position{Index: at.Index, Chain: at.Chain.Next(nil)}
	for name, err := range map[string]error{
		"other chain": Seed(dir, other, seed), "other index": Seed(dir, chain.Position{Index: 3, Chain: at.Chain}, seed),
		"no seed": Seed(dir, at, []byte("{}")), "nothing": Seed(dir, at, nil),
	} {
		if err == nil {
			t.Errorf("%s: seeded", name)
		}
	}
	if Initialized(dir) {
		t.Error("a seed that was refused left something")
	}
	if _, err := l.group().Base(other); !errors.Is(err, ErrDiverged) {
		t.Errorf("base for another history: %v", err)
	}
	if _, err := l.group().Base(chain.Position{Index: at.Index + 100}); !errors.Is(err, ErrGone) {
		t.Errorf("base for the future: %v", err)
	}
	if _, err := c.nodes["w1"].group().Base(at); !errors.Is(err, ErrPassive) {
		t.Errorf("base from a follower: %v", err)
	}
}

// TestTooFarBehind has a member that the leader's log no longer reaches say that it is blank.
func TestTooFarBehind(t *testing.T) {
	c := running(t, three, func(o *Options) {
		o.Keep, o.test.trailing, o.test.segment = time.Nanosecond, 1, 8<<10
	})
	l := c.leader()
	c.isolate("w1", true)
	for _, r := range records(1500, "op") {
		if _, err := l.group().Append([]byte(r)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 10*time.Second, "all are committed", func() bool { return len(l.state.all()) == 1500 })
	if err := l.group().raft.Load().Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	if first := l.group().Status().First; first < 1000 {
		t.Fatalf("the log begins at %d", first)
	}
	if _, err := l.add("after the marker"); err != nil {
		t.Fatal(err)
	}
	c.isolate("w1", false)
	eventually(t, 10*time.Second, "w1 is blank", func() bool { return errors.Is(c.nodes["w1"].failure(), ErrBlank) })
	if err := c.shut("w1"); !errors.Is(err, ErrBlank) {
		t.Errorf("Run returned %v", err)
	}
	c.join(l.name, "w1")
	c.agree()
}

// TestRecover has the only member that is left go on alone, in a new era, with all that it had; then others join it.
func TestRecover(t *testing.T) {
	c := running(t, three, nil)
	l := c.leader()
	want := records(30, "op")
	for _, r := range want {
		if _, err := l.add(r); err != nil {
			t.Fatal(err)
		}
	}
	c.agree()
	for _, m := range three {
		c.kill(m.Name)
	}
	n := c.nodes["w1"]
	before, err := Inspect(n.dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"e1", "w1", "wit"}, before.Voters, cmpopts.SortSlices(strings.Compare)); diff != "" {
		t.Errorf("voters (-want +got):\n%s", diff)
	}
	if err := Recover(n.dir, "w1"); err != nil {
		t.Fatal(err)
	}
	after, err := Inspect(n.dir)
	if err != nil {
		t.Fatal(err)
	}
	if after.Era != before.Era+1 || after.Tip != before.Tip || !slices.Equal(after.Voters, []string{"w1"}) {
		t.Errorf("before %+v, after %+v", before, after)
	}
	c.start("w1")
	if got := c.leader(); got != n {
		t.Fatalf("%s leads", got.name)
	}
	if diff := cmp.Diff(want, n.state.all()); diff != "" {
		t.Errorf("applied (-want +got):\n%s", diff)
	}
	if _, err := n.add("in the new era"); err != nil {
		t.Fatal(err)
	}
	c.join("w1", "e1")
	c.join("w1", "wit")
	if got := c.agree(); len(got) != 31 {
		t.Errorf("%d operations", len(got))
	}
	if era := c.nodes["wit"].group().Status().Era; era != before.Era+1 {
		t.Errorf("the witness is of era %d", era)
	}
}

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

// TestRollIsTorn has a crash come between the last write of a segment and the next segment.
func TestRollIsTorn(t *testing.T) {
	for _, test := range []struct{ name, op, file string }{
		{"before the list", "write", "segments"}, {"before the file", "create", ".wal"},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := &badDisk{}
			c := running(t, three[:1], func(o *Options) { o.test.segment, o.test.faults = 8<<10, d.check })
			n := c.nodes["e1"]
			d.fail(test.op, test.file, syscall.EIO, nil)
			var err error
			acked := 0
			for ; err == nil && acked < 1000; acked++ {
				_, err = n.add(strings.Repeat("z", 100))
			}
			if !errors.Is(err, ErrPassive) {
				t.Fatalf("after %d operations: %v", acked, err)
			}
			c.shut("e1")
			d.fail("", "", nil, nil)
			c.start("e1")
			c.leader()
			if _, err := n.add("after"); err != nil {
				t.Fatal(err)
			}
			if got := len(c.agree()); got < acked {
				t.Errorf("%d operations, %d were acknowledged", got, acked)
			}
			if err := c.shut("e1"); err != nil {
				t.Fatal(err)
			}
			c.start("e1")
			c.agree()
		})
	}
}

// TestAllRestart has all members crash at once and come back with all that was acknowledged.
func TestAllRestart(t *testing.T) {
	c := running(t, five, nil)
	want := records(30, "op")
	for _, r := range want {
		if _, err := c.leader().add(r); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range five {
		c.kill(m.Name)
	}
	for _, m := range five {
		c.start(m.Name)
	}
	if diff := cmp.Diff(want, c.agree()); diff != "" {
		t.Errorf("applied (-want +got):\n%s", diff)
	}
}

// TestMatchedIsOnDisk has a member's match stay where its disk is.
func TestMatchedIsOnDisk(t *testing.T) {
	d := &badDisk{}
	c := running(t, five, func(o *Options) {
		o.Times.Stall = time.Minute
		if o.Self == "w1" {
			o.test.faults = d.check
		}
	})
	l := c.leader()
	before, err := l.add("before")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "w1 has it", func() bool { return l.group().Matched("w1") >= before })
	hang := make(chan struct{})
	d.fail("sync", ".wal", nil, hang)
	index, err := l.add("slow")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "w2 has it", func() bool { return l.group().Matched("w2") >= index })
	for range 50 {
		if got := l.group().Matched("w1"); got >= index {
			t.Fatalf("w1 has %d, and its disk has not", got)
		}
		time.Sleep(2 * time.Millisecond)
	}
	moved := l.group().Moved()
	d.fail("", "", nil, nil)
	close(hang)
	select {
	case <-moved:
	case <-time.After(5 * time.Second):
		t.Error("a waiter was not woken")
	}
	eventually(t, 5*time.Second, "w1 has it", func() bool { return l.group().Matched("w1") >= index })
	if got := c.nodes["w1"].group().Matched("w1"); got != 0 {
		t.Errorf("a follower says that it matched %d", got)
	}
}

// TestNothingIsLeft has no goroutine of the library or of ours outlive the groups.
func TestNothingIsLeft(t *testing.T) {
	c := running(t, five, nil)
	l := c.leader()
	if _, err := l.add("op"); err != nil {
		t.Fatal(err)
	}
	c.kill("w2")
	for _, m := range five {
		if err := c.shut(m.Name); err != nil && !errors.Is(err, errKilled) {
			t.Error(err)
		}
	}
	left := func() string {
		b := make([]byte, 1<<20)
		var found []string
		for _, s := range strings.Split(string(b[:runtime.Stack(b, true)]), "\n\n") {
			if strings.Contains(s, "hashicorp") || strings.Contains(s, "group.(*Group)") {
				found = append(found, s)
			}
		}
		return strings.Join(found, "\n\n")
	}
	for end := time.Now().Add(5 * time.Second); left() != ""; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("left over:\n%s", left())
		}
	}
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
