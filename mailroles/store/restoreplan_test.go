package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"anycastle/mailroles/maildir"
)

// snapshotNow takes a snapshot.
func snapshotNow(t *testing.T, s *Store) LUNSnapshot {
	t.Helper()
	l, err := s.TakeSnapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// restore puts something back, and checks that the plan told what came of it, and that doing it again changes nothing.
func restore(t *testing.T, s *Store, o RestoreOrder) Restored {
	t.Helper()
	o.Mailbox = user
	p, err := s.Plan(o)
	if err != nil {
		t.Fatal(err)
	}
	done, err := s.Restore(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if done.Put != len(p.Messages) || done.Folders != len(p.Folders) || done.Bytes != p.Bytes || len(done.Failed) > 0 {
		t.Errorf("planned %+v, did %+v", p, done)
	}
	before := dump(t, box(t, s))
	again, err := s.Restore(t.Context(), o)
	if err != nil || again.Put+again.Folders+len(again.Failed) > 0 {
		t.Errorf("again: %+v, %v", again, err)
	}
	if diff := cmp.Diff(before, dump(t, box(t, s))); diff != "" {
		t.Errorf("restored again: %s", diff)
	}
	return done
}

// must fails the test at the first error.
func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// fillForRestore gives a mailbox two folders with messages.
func fillForRestore(t *testing.T, m *Mailbox) {
	t.Helper()
	for i := range 4 {
		deliver(t, m, fmt.Sprintf("Subject: number %d\nMessage-ID: <m%d@example.org>\n\ntext\n", i, i))
	}
	must(t, m.Create("Work"), flag(m, "INBOX", 2, maildir.Seen|maildir.Flagged, "Blue"), transferAll(m, "INBOX", "Work", (*Folder).Copy),
		flag(m, "Work", 3, maildir.Answered))
}

func expunge(t *testing.T, m *Mailbox, name string, uids ...uint32) {
	t.Helper()
	f := folder(t, m, name)
	must(t, f.SetFlags(uids, add(maildir.Deleted)), f.Expunge(all))
}

// TestRestore has messages and folders be lost in different ways, and come back as they were.
func TestRestore(t *testing.T) {
	snap := func(l LUNSnapshot) Point { return Point{Snapshot: l.ID} }
	for name, test := range map[string]struct {
		lose  func(t *testing.T, m *Mailbox)
		order RestoreOrder
		put   int
		want  func(before string) string // nil: all is as before
	}{
		"messages": {lose: func(t *testing.T, m *Mailbox) { expunge(t, m, "INBOX", 1, 2, 4) }, put: 3},
		"one message": {
			lose: func(t *testing.T, m *Mailbox) { expunge(t, m, "INBOX", 2) }, order: RestoreOrder{Folder: "inbox", UID: 2}, put: 1,
		},
		"by Message-ID": {
			lose: func(t *testing.T, m *Mailbox) { expunge(t, m, "Work", 3) }, order: RestoreOrder{ID: "m2@example.org"}, put: 1,
		},
		"deleted folder": {lose: func(t *testing.T, m *Mailbox) { must(t, m.Delete("Work")) }, put: 4},
		"deleted folder that gave UIDs since": {
			lose: func(t *testing.T, m *Mailbox) {
				must(t, transferAll(m, "INBOX", "Work", (*Folder).Copy), m.Delete("Work"))
			}, put: 4,
			want: func(before string) string {
				head := strings.Split(before[strings.Index(before, "Work "):], "\n")[0]
				return strings.Replace(before, head, strings.Replace(head, " 5 ", " 9 ", 1), 1)
			},
		},
		"renamed folder": {
			lose: func(t *testing.T, m *Mailbox) { must(t, m.Rename("Work", "Home")); expunge(t, m, "Home", 1, 3) }, put: 2,
			order: RestoreOrder{Folder: "Work"}, want: func(before string) string { return strings.Replace(before, "\nWork ", "\nHome ", 1) },
		},
		"moved message stays where it is": {
			lose: func(t *testing.T, m *Mailbox) {
				_, _, err := folder(t, m, "INBOX").Move([]uint32{1, 2, 3, 4}, "Work")
				must(t, err)
			},
			want: func(string) string { return "" },
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := openAt(t, tempRoot(t), nil)
			m := box(t, s)
			fillForRestore(t, m)
			want := dump(t, m)
			l := snapshotNow(t, s)
			test.lose(t, m)
			if test.want != nil {
				if want = test.want(want); want == "" {
					want = dump(t, m)
				}
			}
			test.order.Point = snap(l)
			if done := restore(t, s, test.order); done.Put != test.put {
				t.Errorf("did %+v, want %d messages", done, test.put)
			}
			if diff := cmp.Diff(want, dump(t, m)); diff != "" {
				t.Error(diff)
			}
			reopened := dump(t, box(t, reopen(t, s)))
			if diff := cmp.Diff(want, reopened); diff != "" {
				t.Errorf("after a restart: %s", diff)
			}
		})
	}
}

// reopen ends a store as a crash does, and opens it once more.
func reopen(t *testing.T, s *Store) *Store {
	t.Helper()
	die(t, s)
	next := openAt(t, s.root, nil)
	if r := next.report; r.Lost+r.Odd+r.Adopted+r.Quarantined > 0 {
		t.Errorf("restart finds %+v", r)
	}
	return next
}

// TestRestoreAsNew gives messages new UIDs, in their folder or another.
func TestRestoreAsNew(t *testing.T) {
	s := openAt(t, tempRoot(t), nil)
	m := box(t, s)
	fillForRestore(t, m)
	l := snapshotNow(t, s)
	expunge(t, m, "INBOX", 2)
	order := RestoreOrder{Folder: "INBOX", Point: Point{Snapshot: l.ID}, AsNew: true}
	restore(t, s, order)
	order.AsNew, order.Into = false, "Restored.All"
	restore(t, s, order)
	inbox, all := folder(t, m, "INBOX").Snapshot().Messages, folder(t, m, "Restored.All").Snapshot().Messages
	if n := len(inbox); n != 4 || inbox[3].UID != 5 || inbox[3].Flags != maildir.Seen|maildir.Flagged || !cmp.Equal(inbox[3].Keywords, []string{"Blue"}) {
		t.Errorf("INBOX has %d messages, the last is %+v", n, inbox[n-1])
	}
	if len(all) != 4 || all[0].UID != 1 || all[1].Flags != maildir.Seen|maildir.Flagged {
		t.Errorf("the other folder has %+v", all)
	}
}

// TestRestoreToPoint goes back to operations and times between snapshots.
func TestRestoreToPoint(t *testing.T) {
	clock := standstill()
	s, err := OpenWith(Options{Root: tempRoot(t), now: func() time.Time { return clock }})
	must(t, err)
	defer s.Close()
	m := box(t, s)
	deliver(t, m, "one")
	l := snapshotNow(t, s)
	clock = clock.Add(time.Hour)
	deliver(t, m, "two")
	must(t, flag(m, "INBOX", 2, maildir.Seen))
	seen, last := s.lastIndex(), clock
	clock = clock.Add(time.Hour)
	must(t, flag(m, "INBOX", 2, maildir.Flagged))
	expunge(t, m, "INBOX", 1, 2)
	for name, point := range map[string]Point{"operation": {Index: seen}, "time": {Time: last.Add(time.Minute)}} {
		p, err := s.Plan(RestoreOrder{Mailbox: user, Point: point})
		if err != nil || len(p.Messages) != 2 || p.Messages[1].Flags != maildir.Seen || p.Snapshot != l.ID || p.Index != seen {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	restore(t, s, RestoreOrder{Point: Point{Index: seen}})
	if got := show(t, folder(t, m, "INBOX")); got != "1  one\n2 S two\n" {
		t.Errorf("INBOX is\n%s", got)
	}
	must(t, s.Checkpoint())
	for want, p := range map[error]Point{
		ErrNotKept: {Index: seen}, ErrNoSnapshot: {Snapshot: "20000101T000000Z-1"},
	} {
		if _, err := s.Plan(RestoreOrder{Mailbox: user, Point: p}); !errors.Is(err, want) {
			t.Errorf("%+v: %v, want %v", p, err, want)
		}
	}
	if _, err := s.Plan(RestoreOrder{Mailbox: user}); err == nil {
		t.Error("a restore without a point is planned")
	}
}

// TestRestoreOfRottenBody has the body of a message be damaged wherever it is kept: it is not put back.
func TestRestoreOfRottenBody(t *testing.T) {
	root := tempRoot(t)
	s := openAt(t, root, nil)
	m := box(t, s)
	fillForRestore(t, m)
	l := snapshotNow(t, s)
	expunge(t, m, "INBOX", 2)
	expunge(t, m, "Work", 2)
	body := filepath.Join(root, snapshotDir, l.ID, user, folder(t, m, "INBOX").guid, "2")
	text, err := os.ReadFile(body)
	must(t, err)
	text[3] ^= 1
	must(t, os.WriteFile(body, text, 0o600)) // second names of one file
	done, err := s.Restore(t.Context(), RestoreOrder{Mailbox: user, Folder: "INBOX", Point: Point{Snapshot: l.ID}})
	if err != nil || done.Put != 0 || len(done.Failed) != 1 || done.Failed[0].UID != 2 || !strings.Contains(done.Failed[0].Why, "damaged") {
		t.Errorf("restore of a rotten body: %+v, %v", done, err)
	}
	if left, err := os.ReadDir(filepath.Join(root, incomingDir)); err != nil || len(left) > 0 {
		t.Errorf("the incoming directory has %v, %v", left, err)
	}
}
