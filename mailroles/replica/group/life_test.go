package group

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
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

// TestRejoin has a member whose log is damaged seeded again and vote again, while the others serve. On a busy machine another one
// may lead than did a moment ago, at any time.
func TestRejoin(t *testing.T) {
	t.Parallel()
	c := running(t, three, nil)
	want := append(records(20, "before"), "while it is blank", "after")
	add := func(records ...string) {
		t.Helper()
		for _, r := range records {
			c.lead(func(l *node) error { _, err := l.add(r); return err })
		}
	}
	add(want[:20]...)
	away := map[string]string{"e1": "w1", "w1": "e1"}[c.leader().name]
	c.kill(away)
	gen, err := current(c.nodes[away].dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(gen, "votes"), 0); err != nil {
		t.Fatal(err)
	}
	if err := c.tryStart(away); !errors.Is(err, ErrBlank) {
		t.Fatalf("opened with %v", err)
	}
	add(want[20])
	l := c.leader()
	_, term := l.group().Leader()
	c.join(away)
	known := l.group().Matched(away)
	if name, now := l.group().Leader(); known == 0 && name == l.name && now == term {
		t.Error("nothing is known of it after it was promoted")
	}
	if l = c.leader(); l.name != away {
		c.kill(l.name)
	}
	if next := c.leader(); next.name != away {
		t.Errorf("%s leads", next.name)
	}
	add(want[21])
	if l.name != away {
		c.start(l.name)
	}
	got := c.agree()
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, slices.Compact(got)); diff != "" { // what a former leader did not acknowledge may be there twice
		t.Errorf("applied (-want +got):\n%s", diff)
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
	t.Parallel()
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
	c.join("w1")
	c.agree()
}

// TestRecover has the only member that is left go on alone, in a new era, with all that it had; then others join it.
func TestRecover(t *testing.T) {
	t.Parallel()
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
	c.join("e1")
	c.join("wit")
	if got := c.agree(); len(got) != 31 {
		t.Errorf("%d operations", len(got))
	}
	if era := c.nodes["wit"].group().Status().Era; era != before.Era+1 {
		t.Errorf("the witness is of era %d", era)
	}
}

// TestRollIsTorn has a crash come between the last write of a segment and the next segment.
func TestRollIsTorn(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, op, file string }{
		{"before the list", "write", "segments"}, {"before the file", "create", ".wal"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
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
	t.Parallel()
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
	t.Parallel()
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
