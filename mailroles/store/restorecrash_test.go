package store

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anycastle/mailroles/maildir"
)

// restoreStory loses mail and puts it back, with a snapshot before and after.
var restoreStory = []func(t *testing.T, m *Mailbox) error{
	func(t *testing.T, m *Mailbox) error { return deliverText(m, "one") },
	func(t *testing.T, m *Mailbox) error { return flag(m, "INBOX", 1, maildir.Seen, "Blue") },
	func(t *testing.T, m *Mailbox) error { return m.Create("Work") },
	func(t *testing.T, m *Mailbox) error { return transferAll(m, "INBOX", "Work", (*Folder).Copy) },
	func(t *testing.T, m *Mailbox) error { return takeSnapshotOf(t, m) },
	func(t *testing.T, m *Mailbox) error { return flag(m, "INBOX", 1, maildir.Deleted) },
	func(t *testing.T, m *Mailbox) error {
		f, err := m.Folder("INBOX")
		if err != nil {
			return err
		}
		return f.Expunge(all)
	},
	func(t *testing.T, m *Mailbox) error { return m.Delete("Work") },
	func(t *testing.T, m *Mailbox) error { return m.store.Checkpoint() },
	func(t *testing.T, m *Mailbox) error { return restoreAll(t, m) },
	func(t *testing.T, m *Mailbox) error { return takeSnapshotOf(t, m) },
	func(t *testing.T, m *Mailbox) error { return m.Delete("Work") },
	func(t *testing.T, m *Mailbox) error { return restoreAll(t, m) },
}

func takeSnapshotOf(t *testing.T, m *Mailbox) error {
	_, err := m.store.TakeSnapshot(t.Context())
	return err
}

// restoreAll restores what the first snapshot has.
func restoreAll(t *testing.T, m *Mailbox) error {
	list := m.store.Snapshots()
	if len(list) == 0 {
		return ErrNoSnapshot
	}
	done, err := m.store.Restore(t.Context(), RestoreOrder{Mailbox: m.address, Point: Point{Snapshot: list[0].ID}})
	if err == nil && len(done.Failed) > 0 {
		err = fmt.Errorf("failed: %+v", done.Failed)
	}
	return err
}

// TestCrashInRestore ends a process at each change of the disk. The next finds each snapshot whole or not at all, loses nothing
// that was acknowledged, and can restore once more.
func TestCrashInRestore(t *testing.T) {
	whole := openAt(t, tempRoot(t), nil)
	m := box(t, whole)
	states := []string{dump(t, m)}
	for i, part := range restoreStory {
		if err := part(t, m); err != nil {
			t.Fatalf("part %d: %v", i, err)
		}
		states = append(states, dump(t, m))
	}
	for n := 1; ; n++ {
		root := tempRoot(t)
		c := &crash{left: n}
		done := 0
		s, err := OpenWith(Options{Root: root, Log: slog.New(slog.DiscardHandler), fault: c.fault, now: standstill})
		if err == nil {
			var m *Mailbox
			if m, err = s.Mailbox(user); err == nil {
				for done < len(restoreStory) && c.left > 0 && err == nil {
					if err = restoreStory[done](t, m); err == nil {
						done++
					}
				}
			}
			die(t, s)
		}
		if err == nil && c.left > 0 {
			if n < 100 {
				t.Errorf("the story has only %d changes", n)
			}
			return
		}
		lookAfterCrash(t, root, states, done, fmt.Sprintf("crash at %d (%s)", n, c.during), err)
	}
}

func lookAfterCrash(t *testing.T, root string, states []string, done int, what string, failed error) {
	t.Helper()
	s, err := openWith(root, nil)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	defer s.Close()
	m := box(t, s)
	got := dump(t, m)
	began := done+1 < len(states) && (got == states[done+1] || messagesIn(got, states[done+1])) // folder by folder
	if got != states[done] && !began {
		t.Fatalf("%s: %d parts were acknowledged, then %v; there is\n%s\nwanted\n%s", what, done, failed, got, states[done])
	}
	if r := s.report; r.Lost > 0 || r.Odd > 0 || r.Adopted > 0 {
		t.Fatalf("%s: report %+v", what, r)
	}
	entries, err := os.ReadDir(filepath.Join(root, snapshotDir))
	if err != nil || len(entries) != len(s.Snapshots()) {
		t.Fatalf("%s: of %v there are %+v, %v", what, entries, s.Snapshots(), err)
	}
	for _, l := range s.Snapshots() {
		checkSnapshot(t, s, l, what)
	}
	if err := restoreAll(t, m); err != nil && !errors.Is(err, ErrNoSnapshot) {
		t.Fatalf("%s: %v", what, err)
	}
	if len(s.Snapshots()) == 0 {
		return
	}
	// a message that is still there is left alone, with its marks
	all := strings.ReplaceAll(withoutValidity(dump(t, m)), " ST [", " S [")
	if diff := cmp.Diff(withoutValidity(states[5]), all); diff != "" {
		t.Fatalf("%s: restored: %s", what, diff)
	}
}

// messagesIn tells whether all messages that one dump shows are in another.
func messagesIn(part, whole string) bool {
	for line := range strings.Lines(part) {
		if line[0] == ' ' && !strings.Contains(whole, line) {
			return false
		}
	}
	return true
}

// checkSnapshot reads all of a snapshot.
func checkSnapshot(t *testing.T, s *Store, l LUNSnapshot, what string) {
	t.Helper()
	was := &past{snapshot: l, state: newState()}
	if err := s.readManifest(was, user); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	for _, c := range was.state.folders {
		for _, m := range c.messages {
			if sum, err := s.sumOf(snapshotFile(l.ID, user, c, m)); err != nil || sum != m.Sum {
				t.Fatalf("%s: UID %d of %s in %s: %v", what, m.UID, c.name, l.ID, err)
			}
		}
	}
}

func FuzzSnapManifest(f *testing.F) {
	m := newSnapWriter(snapHead{Mailbox: user, Index: 7, Counter: 3, Subscribed: []string{"Work"}})
	c := &contents{guid: strings.Repeat("a", 32), name: "Work", validity: 3, next: 9, keywords: []string{"Blue", ""}}
	list := []kept{
		{UID: 2, Base: "1.M1P1Q1.host,S=3,W=4", Size: 3, Wide: 4, Sum: strings.Repeat("0", 64), Keywords: []string{"Blue"}, File: "a/b/2"},
		{UID: 5, Base: "2.x", Size: 1, Wide: 1, Date: 1700000000, File: inPlace},
	}
	if err := m.folder(c, list); err != nil {
		f.Fatal(err)
	}
	text := m.bytes()
	f.Add(text[:len(text)-9])
	f.Add([]byte("{}\n"))
	f.Add([]byte(`{"mailbox":"x"}` + "\n" + `{"guid":"` + strings.Repeat("a", 32) + `","name":"INBOX","validity":1,"next":1,"messages":9}` + "\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		text := sealSnap(slices.Clip(body))
		st, head, err := parseSnapManifest(text)
		if err != nil {
			return
		}
		again := newSnapWriter(head)
		for _, c := range st.sorted() {
			var list []kept
			for _, m := range c.messages {
				k := keptOf(m)
				k.File = m.file
				list = append(list, k)
			}
			if err := again.folder(c, list); err != nil {
				t.Fatal(err)
			}
		}
		next, _, err := parseSnapManifest(again.bytes())
		if err != nil || tell(next) != tell(st) {
			t.Errorf("%q is read as\n%s, and then as\n%v, %v", body, tell(st), next, err)
		}
		if _, _, err := parseSnapManifest(text[:len(text)-1]); err == nil {
			t.Error("a manifest without its end is read")
		}
	})
}
