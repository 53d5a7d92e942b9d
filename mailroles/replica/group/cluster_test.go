package group

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestAppendInOrder has many operations under way at once keep their order on all replicas.
func TestAppendInOrder(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
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

// TestTransfer has each replica lead in turn, with nothing lost on the way.
func TestTransfer(t *testing.T) {
	t.Parallel()
	c := running(t, five, nil)
	var want []string
	for i, to := range []string{"w2", "e2", "w1", "e1"} {
		l := c.leader()
		var waits []func() (uint64, error)
		for _, r := range records(20, to) {
			wait, err := l.group().Append([]byte(r))
			if err != nil {
				t.Fatal(err)
			}
			waits, want = append(waits, wait), append(want, r)
		}
		eventually(t, 10*time.Second, to+" answers", func() bool { return l.group().mayLead(l.group().raft.Load(), to) == nil })
		start := time.Now()
		if err := l.group().Transfer(t.Context(), to); err != nil {
			t.Fatal(err)
		}
		if err := l.group().Lease(); !errors.Is(err, ErrPassive) {
			t.Errorf("round %d: the old leader's lease: %v", i, err)
		}
		if _, err := l.group().Append([]byte("late")); !errors.Is(err, ErrPassive) {
			t.Errorf("round %d: the old leader takes an operation: %v", i, err)
		}
		for _, wait := range waits {
			if _, err := wait(); err != nil {
				t.Errorf("round %d: an operation under way: %v", i, err)
			}
		}
		next := c.leader()
		t.Logf("handed over to %s in %v", to, time.Since(start))
		if next.name != to {
			t.Errorf("%s leads, want %s", next.name, to)
		}
	}
	if diff := cmp.Diff(want, c.agree()); diff != "" {
		t.Errorf("applied (-want +got):\n%s", diff)
	}
	l := c.leader()
	for _, to := range []string{l.name, "wit", "nobody"} {
		if err := l.group().Transfer(t.Context(), to); err == nil {
			t.Errorf("handed over to %s", to)
		}
	}
	if err := l.group().Lease(); err != nil {
		t.Errorf("after hand-overs that were refused: %v", err)
	}
}

// TestIsolatedLeader has a leader that is cut off lose its lease before another can lead, and no operation that it then
// has under way be acknowledged.
func TestIsolatedLeader(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"both", "out", "in"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			c := running(t, five, nil)
			l := c.leader()
			for _, m := range five {
				if way != "in" {
					c.net.cut(l.name, m.Name, true)
				}
				if way != "out" {
					c.net.cut(m.Name, l.name, true)
				}
			}
			wait, err := l.group().Append([]byte("lost"))
			if err != nil {
				t.Fatal(err)
			}
			var next *node
			eventually(t, 10*time.Second, "another leads", func() bool {
				held := l.group().Lease() == nil
				for _, n := range c.nodes {
					if n != l && n.group().Lease() == nil {
						next = n
						// What was asked first is compared: had it the lease at first, and another one later, there
						// may have been a moment with none between the two.
						if held && l.group().Lease() == nil {
							t.Fatalf("%s and %s have a lease at once", l.name, n.name)
						}
					}
				}
				return next != nil
			})
			if _, err := wait(); !errors.Is(err, ErrPassive) {
				t.Errorf("the operation of the one that is cut off: %v", err)
			}
			eventually(t, 5*time.Second, "Lost was called", func() bool { return !l.leading() })
			if _, err := next.add("kept"); err != nil {
				t.Fatal(err)
			}
			c.isolate(l.name, false)
			want := []string{"kept"}
			if way == "in" { // the others have it, and only their answers were lost
				want = []string{"lost", "kept"}
			}
			if diff := cmp.Diff(want, c.agree()); diff != "" {
				t.Errorf("applied (-want +got):\n%s", diff)
			}
		})
	}
}

// TestOldMemberDisruptsNobody has a member that was away for many elections' time come back without another leader or
// term for the rest.
func TestOldMemberDisruptsNobody(t *testing.T) {
	t.Parallel()
	c := running(t, five, nil)
	l := c.leader()
	_, term := l.group().Leader()
	c.isolate("w2", true)
	if _, err := l.add("while it is away"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(6 * quick.Election) // there is nothing to wait for: nothing must happen
	c.isolate("w2", false)
	c.agree()
	if name, now := l.group().Leader(); name != l.name || now != term {
		t.Errorf("%s leads in term %d, before %s in %d", name, now, l.name, term)
	}
}

// TestWitnessHandsOver has the witness alone have the newest log, so that only it can win, and a replica lead for good.
func TestWitnessHandsOver(t *testing.T) {
	t.Parallel()
	c := running(t, three, nil)
	l := c.leader()
	c.isolate("w1", true)
	if _, err := l.add("on e1 and the witness"); err != nil {
		t.Fatal(err)
	}
	c.kill(l.name)
	c.isolate("w1", false)
	next := c.leader()
	if next.name != "w1" {
		t.Errorf("%s leads, want w1", next.name)
	}
	if len(c.nodes["wit"].led) > 0 {
		t.Error("Led was called on the witness")
	}
	if diff := cmp.Diff([]string{"on e1 and the witness"}, c.agree()); diff != "" {
		t.Errorf("applied (-want +got):\n%s", diff)
	}
}

// TestRandom hands over, cuts and kills at random while operations are appended from several sides. Each one that was
// acknowledged is there once, and none twice. The machines check the chain at each operation.
func TestRandom(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	c := running(t, five, nil)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var mu sync.Mutex
	acked := map[string]bool{}
	for i := range 4 {
		wg.Go(func() {
			for k := 0; ctx.Err() == nil; k++ {
				record := fmt.Sprintf("%d-%d", i, k)
				done := false
				for _, m := range five {
					if n := c.nodes[m.Name]; n.leading() {
						_, err := n.add(record)
						done = err == nil
						break // once only, whatever became of it
					}
				}
				if done {
					mu.Lock()
					acked[record] = true
					mu.Unlock()
				} else {
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	for range 14 {
		name := five[random.IntN(4)].Name
		l := c.leader()
		switch random.IntN(5) {
		case 0:
			if l.name != name {
				if err := l.group().Transfer(t.Context(), name); err != nil {
					t.Logf("transfer: %v", err)
				}
			}
		case 1:
			c.isolate(name, true)
			time.Sleep(time.Duration(random.IntN(600)) * time.Millisecond)
			c.isolate(name, false)
		case 2:
			c.isolate(l.name, true)
			time.Sleep(time.Duration(random.IntN(600)) * time.Millisecond)
			c.isolate(l.name, false)
		case 3:
			c.net.cut(l.name, name, true)
			time.Sleep(time.Duration(random.IntN(300)) * time.Millisecond)
			c.net.cut(l.name, name, false)
		case 4:
			c.kill(l.name)
			time.Sleep(time.Duration(random.IntN(300)) * time.Millisecond)
			c.start(l.name)
		}
		time.Sleep(time.Duration(random.IntN(100)) * time.Millisecond)
	}
	c.leader()
	stop()
	wg.Wait()
	count := map[string]int{}
	for _, r := range c.agree() {
		count[r]++
	}
	t.Logf("%d acknowledged, %d applied", len(acked), len(count))
	for r := range acked {
		if count[r] != 1 {
			t.Errorf("%s was acknowledged and is there %d times", r, count[r])
		}
	}
	for r, n := range count {
		if n > 1 {
			t.Errorf("%s is there %d times", r, n)
		}
	}
	for _, n := range c.nodes {
		if err := n.failure(); err != nil && !errors.Is(err, errKilled) {
			t.Errorf("%s is broken: %v", n.name, err)
		}
	}
}
