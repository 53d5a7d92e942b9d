package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// queueStory is one of everything that can be done to a queue. Each part is done by whoever leads.
var queueStory = []func(l *queueLUN) error{
	func(l *queueLUN) error { _, err := l.add(1); return err },
	func(l *queueLUN) error { _, err := l.add(2); return err },
	func(l *queueLUN) error { return l.change(1, "tried") },
	func(l *queueLUN) error { _, err := l.add(3); return err },
	func(l *queueLUN) error { return l.keeper().Finish(queueID(1), true) },
	func(l *queueLUN) error { return l.keeper().Finish(queueID(2), false) },
	func(l *queueLUN) error { return l.change(3, "held") },
	func(l *queueLUN) error { _, err := l.add(4); return err },
	func(l *queueLUN) error {
		return l.keeper().SetAside(queueID(4), errors.New("its sender cannot be told"))
	},
	func(l *queueLUN) error { _, err := l.add(5); return err },
	func(l *queueLUN) error { return l.keeper().Finish(queueID(5), true) },
	func(l *queueLUN) error { return l.keeper().Forget(queueID(1)) },
	func(l *queueLUN) error { _, err := l.add(6); return err },
}

// TestQueueAtBothReplicas has one replica lead after the other: nothing is lost, and both have the same.
func TestQueueAtBothReplicas(t *testing.T) {
	l := newQueueLUN(t, 2)
	for i, part := range queueStory {
		l.lead(i % 2)
		if err := part(l); err != nil {
			t.Fatalf("part %d: %v", i, err)
		}
		if diff := cmp.Diff(queueDump(t, l.replicas[0].s), queueDump(t, l.replicas[1].s)); diff != "" {
			t.Fatalf("after part %d the replicas differ (-0 +1):\n%s", i, diff)
		}
	}
	for n := range 2 {
		l.lead(n)
		entries, done := loaded(t, l.keeper())
		if len(entries) != 2 || !strings.Contains(entries[queueID(3)], `"held"`) || !strings.Contains(entries[queueID(6)], `"new"`) {
			t.Errorf("replica %d has %v, want entry 3 that is held, and 6", l.leader, entries)
		}
		if len(done) != 1 || !done[queueID(5)].Equal(standstill()) {
			t.Errorf("replica %d remembers %v, want entry 5", l.leader, done)
		}
		for _, n := range []int{3, 6} {
			if text, err := readBody(t, l.keeper(), n); err != nil || text != queueText(n) {
				t.Errorf("body %d at replica %d: %q, %v", n, l.leader, text, err)
			}
		}
	}
}

// TestQueueCrashAtEveryChange ends the process of a replica at each change of its disk, starts it from its checkpoint, and
// compares it with the one that was never ended.
func TestQueueCrashAtEveryChange(t *testing.T) {
	for _, saveAt := range []int{-1, 6} { // the part after which there is a checkpoint
		for n := 1; ; n++ {
			l := newQueueLUN(t, 2)
			r, c := l.replicas[1], &crash{left: n}
			r.s.files.fault = c.fault
			for i, part := range queueStory {
				if err := part(l); err != nil {
					t.Fatalf("part %d: %v", i, err)
				}
				if c.left > 0 && i == saveAt {
					_ = r.s.Checkpoint() // it may end in it
				}
				if c.left <= 0 && !r.cut { // its process has ended
					r.stop()
					r.cut = true
				}
			}
			whole := !r.cut
			r.s.files.fault = nil
			if r.cut {
				r.cut = false
				r.open()
				if err := r.catchUp(); err != nil {
					t.Fatal(err)
				}
				fetchAll(t, r)
			}
			if err := r.s.Checkpoint(); err != nil {
				t.Fatal(err)
			}
			for range 2 { // also of what the checkpoint alone has
				if diff := cmp.Diff(needed(t, l.replicas[0]), needed(t, r)); diff != "" {
					t.Fatalf("ended at change %d, the replica differs:\n%s", n, diff)
				}
				r.restart()
			}
			if whole {
				if n < 30 {
					t.Errorf("the story has only %d changes", n)
				}
				break
			}
		}
	}
}

// fetchAll gets what a replica misses.
func fetchAll(t *testing.T, r *queueReplica) {
	t.Helper()
	counted(t, r.s)
	list, total, _ := r.s.queueMissing(1000)
	if total != len(list) {
		t.Errorf("%d bodies are missing, and %d are named", total, len(list))
	}
	for _, b := range list {
		if err := r.Fetch(t.Context(), b); err != nil {
			t.Errorf("fetch %s: %v", b.Name, err)
		}
	}
	if list, total, _ := r.s.queueMissing(1); total != 0 {
		t.Errorf("still missing: %v", list)
	}
}

// TestQueueAtRandom has operations, ends of processes, checkpoints, full disks and changes of the leader at random.
func TestQueueAtRandom(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	rounds := 10
	if thorough {
		rounds = 100
	}
	for round := range rounds {
		l := newQueueLUN(t, 3)
		var live []int
		for n := range 60 {
			for _, r := range l.replicas {
				switch rnd.IntN(12) {
				case 0:
					if r.n != l.leader {
						r.cut = !r.cut
					}
				case 1:
					r.restart()
				case 2:
					if err := r.s.Checkpoint(); err != nil && r.s.files.fault == nil {
						t.Fatal(err)
					}
				case 3: // or there is room again; what the leader takes must have it
					r.s.files.fault = nil
					if r.n != l.leader {
						r.s.files.fault = full
					}
				case 4:
					if !r.cut {
						r.s.files.fault = nil
						l.lead(r.n)
					}
				}
			}
			l.noPush = rnd.IntN(2) == 0
			live = queueStep(t, l, rnd, live, n)
			for _, r := range l.replicas {
				counted(t, r.s)
			}
		}
		checkQueue(t, l, live)
		if t.Failed() {
			t.Fatalf("seed %d, round %d", seed, round)
		}
	}
}

// full is a disk that has no room for more.
func full(step, _ string) error {
	if strings.HasPrefix(step, "sync") || step == "remove" {
		return nil
	}
	return syscall.ENOSPC
}

// queueStep does something, and gives the entries that are in the queue then.
func queueStep(t *testing.T, l *queueLUN, rnd *rand.Rand, live []int, n int) []int {
	t.Helper()
	var err error
	if len(live) == 0 || rnd.IntN(3) == 0 {
		_, err = l.add(n)
		live = append(live, n)
	} else {
		i := rnd.IntN(len(live))
		which := live[i]
		switch rnd.IntN(6) {
		case 0:
			err = l.keeper().Finish(queueID(which), true)
		case 1:
			err = l.keeper().Finish(queueID(which), false)
		case 2:
			err = l.keeper().SetAside(queueID(which), errors.New("test"))
		default:
			return append(live[:0:0], append(live, mustChange(t, l, which, fmt.Sprint("change ", n))...)...)
		}
		live = append(live[:i:i], live[i+1:]...)
	}
	if err != nil {
		t.Error(err)
	}
	return live
}

func mustChange(t *testing.T, l *queueLUN, n int, more string) []int {
	t.Helper()
	if err := l.change(n, more); err != nil {
		t.Error(err)
	}
	return nil
}

// needed is queueDump without what nobody asks for: the store removes it in its time.
func needed(t *testing.T, r *queueReplica) string {
	t.Helper()
	var list []string
	for line := range strings.Lines(queueDump(t, r.s)) {
		if !strings.HasPrefix(line, incomingDir) && !strings.HasPrefix(line, queueAsideDir) {
			list = append(list, strings.TrimSpace(line))
		}
	}
	return strings.Join(list, "\n")
}

// checkQueue compares all replicas once all hear of everything.
func checkQueue(t *testing.T, l *queueLUN, live []int) {
	t.Helper()
	for _, r := range l.replicas {
		r.cut, r.s.files.fault = false, nil
		if err := r.catchUp(); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range l.replicas {
		fetchAll(t, r)
		if err := r.s.Checkpoint(); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range l.replicas[1:] {
		if diff := cmp.Diff(needed(t, l.replicas[0]), needed(t, r)); diff != "" {
			t.Errorf("replica %d differs:\n%s", r.n, diff)
		}
	}
	entries, _ := loaded(t, l.keeper())
	if len(entries) != len(live) {
		t.Errorf("the queue has %d entries, want %d", len(entries), len(live))
	}
	for _, n := range live {
		if text, err := readBody(t, l.keeper(), n); err != nil || text != queueText(n) {
			t.Errorf("body %d: %q, %v", n, text, err)
		}
	}
}

// What may be acknowledged, and what stays of what may not.
func TestQueueAcknowledges(t *testing.T) {
	oops := errors.New("oops")
	for name, tc := range map[string]struct {
		set           func(l *queueLUN)
		kept, body    bool // there is an entry, and a body that may belong to one
		err           error
		provedIfAsked bool
	}{
		"all is well":      {set: func(*queueLUN) {}, kept: true, body: true},
		"not admitted":     {set: func(l *queueLUN) { l.refuse = ErrAlone }, err: ErrAlone},
		"not the leader":   {set: func(l *queueLUN) { l.leader = 2 }, err: ErrPassive},
		"nobody knows":     {set: func(l *queueLUN) { l.lost = ErrPassive }, body: true, err: ErrPassive},
		"not at two sites": {set: func(l *queueLUN) { l.alone = oops }, kept: true, body: true, err: oops},
	} {
		t.Run(name, func(t *testing.T) {
			l := newQueueLUN(t, 2)
			k := l.keeper()
			id, body := queueID(1), queueText(1)
			text, sum := queueEnvelope(id, body, "new")
			if err := k.PutBody(id, strings.NewReader(body)); err != nil {
				t.Fatal(err)
			}
			tc.set(l)
			kept, err := k.Add(id, text, sum, int64(len(body)))
			if kept != tc.kept || !errors.Is(err, tc.err) {
				t.Errorf("kept %v, %v; want %v, %v", kept, err, tc.kept, tc.err)
			}
			here := false
			for _, dir := range []string{incomingDir, queueBodyDir} {
				_, err := os.Stat(filepath.Join(l.replicas[0].root, dir, id))
				here = here || err == nil
			}
			if here != tc.body {
				t.Errorf("body is there: %v, want %v", here, tc.body)
			}
			l.proved = nil
			if err := k.Prove(id); tc.kept && (!errors.Is(err, l.alone) || len(l.proved) != 1 || l.proved[0] != "1 "+id) {
				t.Errorf("proof of a repetition: %v, asked for %q", err, l.proved)
			}
		})
	}
}

// TestQueueBodies has a replica lead without bodies, or with rotten ones.
func TestQueueBodies(t *testing.T) {
	l := newQueueLUN(t, 2)
	l.noPush = true
	for n := range 4 {
		if _, err := l.add(n); err != nil {
			t.Fatal(err)
		}
	}
	r := l.replicas[1]
	if list, total, first := r.s.queueMissing(2); len(list) != 2 || total != 4 || first != 1 {
		t.Errorf("missing: %v of %d from %d, want 2 of 4 from 1", list, total, first)
	}
	l.lead(1)
	if text, err := readBody(t, l.keeper(), 0); err != nil || text != queueText(0) {
		t.Errorf("a body that was fetched: %q, %v", text, err)
	}
	fetchAll(t, r)
	rot := func(n int) {
		path := filepath.Join(r.root, queueBodyDir, queueID(n))
		if err := os.WriteFile(path, []byte(strings.Replace(queueText(n), "S", "T", 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rot(1)
	if text, err := readBody(t, l.keeper(), 1); err != nil || text != queueText(1) {
		t.Errorf("a body that was rotten: %q, %v", text, err)
	}
	rot(2)
	if checked, rotten, err := r.s.queueVerify(t.Context(), func(int) error { return nil }); checked != 4 || rotten != 1 || err != nil {
		t.Errorf("%d checked, %d rotten, %v", checked, rotten, err)
	}
	if list, _, _ := r.s.queueMissing(9); len(list) != 1 || list[0].Name != queueID(2) {
		t.Errorf("missing: %v, want body 2", list)
	}
	if kept, err := r.s.Quarantine(); err != nil || len(kept) != 2 {
		t.Errorf("quarantine: %v, %v", kept, err)
	}
	l.replicas[0].cut = true
	if _, err := readBody(t, l.keeper(), 2); !errors.Is(err, ErrMissing) {
		t.Errorf("a body that nobody gives: %v", err)
	}
	list, _, _ := r.s.queueMissing(9)
	if err := r.s.queueGiveUp(list[0]); err != nil {
		t.Fatal(err)
	}
	if entries, _ := loaded(t, l.keeper()); len(entries) != 3 {
		t.Errorf("%d entries, want 3", len(entries))
	}
}

// TestQueueEnvelopeIsDamaged has a replica with a damaged envelope be not complete until an operation heals it.
func TestQueueEnvelopeIsDamaged(t *testing.T) {
	l := newQueueLUN(t, 2)
	if _, err := l.add(1); err != nil {
		t.Fatal(err)
	}
	r := l.replicas[1]
	if err := r.s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(r.root, queueEntryDir, queueID(1)), 9); err != nil {
		t.Fatal(err)
	}
	r.restart()
	if _, total, _ := r.s.queueMissing(1); total != 1 {
		t.Errorf("%d missing, want 1", total)
	}
	if queueDump(t, r.s) == queueDump(t, l.replicas[0].s) {
		t.Error("digests do not tell of it")
	}
	if err := l.change(1, "tried"); err != nil {
		t.Fatal(err)
	}
	fetchAll(t, r)
	if diff := cmp.Diff(queueDump(t, l.replicas[0].s), queueDump(t, r.s)); diff != "" {
		t.Error(diff)
	}
}
