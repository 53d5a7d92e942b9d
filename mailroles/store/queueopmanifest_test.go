package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// otherQueue gives a replica that has seen the first half of the story, and then some things that nobody else has.
func otherQueue(t *testing.T) *queueReplica {
	t.Helper()
	l := newQueueLUN(t, 1)
	for i, part := range queueStory[:7] {
		if err := part(l); err != nil {
			t.Fatalf("part %d: %v", i, err)
		}
	}
	for _, n := range []int{7, 8} {
		if _, err := l.add(n); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.keeper().Finish(queueID(8), true); err != nil {
		t.Fatal(err)
	}
	return l.replicas[0]
}

// TestQueueManifest makes a replica that went astray, and one that is new, what the leader is, through each crash.
func TestQueueManifest(t *testing.T) {
	l := newQueueLUN(t, 1)
	for i, part := range queueStory {
		if err := part(l); err != nil {
			t.Fatalf("part %d: %v", i, err)
		}
	}
	leader := l.replicas[0]
	text, err := leader.s.queueManifest()
	if err != nil {
		t.Fatal(err)
	}
	for name, start := range map[string]func(t *testing.T) *queueReplica{
		"astray": otherQueue,
		"new":    func(t *testing.T) *queueReplica { return newQueueLUN(t, 1).replicas[0] },
	} {
		for n := 1; ; n++ {
			r := start(t)
			if err := r.s.Checkpoint(); err != nil {
				t.Fatal(err)
			}
			c := &crash{left: n}
			r.s.files.fault = c.fault
			err := r.s.queueInstall(text)
			crashed := err != nil
			if crashed != (c.left <= 0) {
				t.Fatalf("%s: crash at %d: %v", name, n, err)
			}
			if crashed { // the store knows that it is blank, and is given the manifest again
				r.stop()
				r.open()
				if err := r.s.queueInstall(text); err != nil {
					t.Fatal(err)
				}
			}
			r.s.files.fault = nil
			list, _, _ := r.s.queueMissing(9)
			for _, b := range list {
				if err := leader.give(r, b); err != nil {
					t.Error(err)
				}
			}
			if err := r.s.Checkpoint(); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if diff := cmp.Diff(needed(t, leader), needed(t, r)); diff != "" {
					t.Fatalf("%s, ended at change %d: the replica differs:\n%s", name, n, diff)
				}
				if list, total, _ := r.s.queueMissing(9); total != 0 {
					t.Fatalf("%s: missing %v", name, list)
				}
				if r.s.queueChanged() != leader.s.queueChanged() {
					t.Errorf("%s: changed at %d, want %d", name, r.s.queueChanged(), leader.s.queueChanged())
				}
				r.restart()
				if _, _, err := r.s.queueDigest(); err != nil {
					t.Fatal(err)
				}
			}
			kept, err := r.s.Quarantine() // an entry that nobody has, and its body
			if err != nil || name == "astray" && !crashed && len(kept) != 2 {
				t.Errorf("quarantine: %v, %v", kept, err)
			}
			if !crashed {
				break
			}
		}
	}
}

// TestQueueOfAnOldVersion has entries whose envelopes do not name the sum of their bodies.
func TestQueueOfAnOldVersion(t *testing.T) {
	l := newQueueLUN(t, 1)
	id, body := queueID(1), queueText(1)
	if _, err := l.add(1); err != nil {
		t.Fatal(err)
	}
	old := fmt.Sprintf(`{"id":%q,"size":%d}`, id, len(body))
	path := filepath.Join(l.replicas[0].root, queueEntryDir, id)
	if err := os.WriteFile(path, withSum(old), 0o600); err != nil {
		t.Fatal(err)
	}
	l.log = nil
	l.replicas[0].restart()
	text, err := l.replicas[0].s.queueManifest()
	if err != nil {
		t.Fatal(err)
	}
	r := newQueueLUN(t, 1).replicas[0]
	if err := r.s.queueInstall(text); err != nil {
		t.Fatal(err)
	}
	_, sum := queueEnvelope(id, body, "")
	want := []Body{queueBodyOf(id, sum, int64(len(body)))}
	if list, _, _ := r.s.queueMissing(9); cmp.Diff(want, list) != "" {
		t.Errorf("missing: %v, want %v", list, want)
	}
	if err := r.s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	r.restart() // it does not know the sum now, until the next operation tells
	if list, total, _ := r.s.queueMissing(9); len(list) != 0 || total != 1 {
		t.Errorf("missing: %v of %d, want none of 1", list, total)
	}
	if err := l.keeper().Change(id, withSum(strings.Replace(old, "}", `,"more":"tried"}`, 1))); err != nil {
		t.Fatal(err)
	}
	r.lun.log = l.log
	if err := r.catchUp(); err != nil {
		t.Fatal(err)
	}
	if list, _, _ := r.s.queueMissing(9); cmp.Diff(want, list) != "" {
		t.Errorf("missing: %v, want %v", list, want)
	}
}

func TestQueueOpCheck(t *testing.T) {
	id, sum := queueID(1), strings.Repeat("a", 64)
	for name, tc := range map[string]struct {
		o    queueOp
		good bool
	}{
		"add":                {queueOp{Do: queueAdd, IDs: []string{id}, Envelope: "x", Sum: sum}, true},
		"change":             {queueOp{Do: queueChange, IDs: []string{id}, Envelope: "x"}, true},
		"forget none":        {queueOp{Do: queueForget}, true},
		"aside":              {queueOp{Do: queueAside, IDs: []string{id}}, true},
		"add without sum":    {queueOp{Do: queueAdd, IDs: []string{id}, Envelope: "x"}, false},
		"wrong sum":          {queueOp{Do: queueAdd, IDs: []string{id}, Envelope: "x", Sum: "aa"}, false},
		"no envelope":        {queueOp{Do: queueChange, IDs: []string{id}}, false},
		"large envelope":     {queueOp{Do: queueChange, IDs: []string{id}, Envelope: strings.Repeat("x", maxEnvelope+1)}, false},
		"two that are done":  {queueOp{Do: queueFinish, IDs: []string{id, id}}, false},
		"a way out":          {queueOp{Do: queueForget, IDs: []string{"../../../../etc/passwd"}}, false},
		"a hidden file":      {queueOp{Do: queueForget, IDs: []string{".........." + id[10:]}}, false},
		"an unknown deed":    {queueOp{Do: "burn", IDs: []string{id}}, false},
		"a body of size -1":  {queueOp{Do: queueAdd, IDs: []string{id}, Envelope: "x", Sum: sum, Size: -1}, false},
		"an id in uppercase": {queueOp{Do: queueForget, IDs: []string{strings.ToUpper(id[:14]) + "ABCDEFGH"}}, false},
	} {
		if err := tc.o.check(); (err == nil) != tc.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzQueueManifest has no manifest lead out of the queue's folders, or to a state that cannot be told.
func FuzzQueueManifest(f *testing.F) {
	envelope, sum := queueEnvelope(queueID(1), queueText(1), "new")
	for _, m := range []queueManifest{
		{},
		{Changed: 3, Entries: []queueLine{{ID: queueID(1), Envelope: string(envelope), Sum: sum, Size: int64(len(queueText(1))), Index: 2}}},
		{Changed: 9, Entries: []queueLine{{ID: queueID(1), Envelope: string(envelope), Sum: sum, Size: int64(len(queueText(1))), Since: 1700000000}}},
		{Changed: 9, Entries: []queueLine{{ID: "../x", Envelope: string(envelope), Sum: sum, Size: -1}}},
	} {
		text, err := json.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("null"))
	f.Add([]byte(`{"entries":[null]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s := newQueueLUN(t, 1).replicas[0].s
		if err := s.queueInstall([]json.RawMessage{text}); err != nil {
			return
		}
		again, err := s.queueManifest()
		if err != nil {
			t.Fatal(err)
		}
		_, want, err := s.queueDigest()
		if err != nil {
			t.Fatal(err)
		}
		other := newQueueLUN(t, 1).replicas[0].s
		if err := other.queueInstall(again); err != nil {
			t.Fatal(err)
		}
		_, got, err := other.queueDigest()
		if err := errors.Join(err, s.Close(), other.Close()); err != nil || got != want {
			t.Errorf("digest %s, want %s, %v", got, want, err)
		}
	})
}
