package store

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"anycastle/mailroles/maildir"
)

// tempRoot makes a LUN's directory, in memory where there is such a file system: tests that open a store many times
// would wait for what everybody else on the machine writes.
func tempRoot(t *testing.T) string {
	t.Helper()
	if _, err := os.Stat("/dev/shm"); err != nil {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp("/dev/shm", "anycastle-store-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// dump tells everything that clients can see of a mailbox.
func dump(t *testing.T, m *Mailbox) string {
	t.Helper()
	var b strings.Builder
	names, err := m.Folders()
	if err != nil {
		t.Fatal(err)
	}
	subs, err := m.Subscriptions()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&b, "subscribed %q, usage %+v\n", subs, m.Usage())
	for _, name := range names {
		f := folder(t, m, name)
		snap := f.Snapshot()
		fmt.Fprintf(&b, "%s %d %d %q\n", name, snap.Validity, snap.Next, snap.Keywords)
		for _, msg := range snap.Messages {
			file, err := f.Open(msg.UID)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(file)
			if err := errors.Join(err, file.Close()); err != nil {
				t.Fatal(err)
			}
			date := msg.Date.UTC().Format("060102150405")
			fmt.Fprintf(&b, "  %d %d %d %s %s %q %q\n", msg.UID, msg.Size, msg.Wide, date, msg.Flags, msg.Keywords, text)
		}
	}
	return b.String()
}

// story is one of everything that can be done to a mailbox.
var story = []func(m *Mailbox) error{
	func(m *Mailbox) error { return deliverText(m, "one") },
	func(m *Mailbox) error { return deliverText(m, "two\r\n") },
	func(m *Mailbox) error { return m.Create("Work") },
	func(m *Mailbox) error { return flag(m, "INBOX", 1, maildir.Seen, "$Junk") },
	func(m *Mailbox) error {
		f, err := m.Folder("Work")
		if err != nil {
			return err
		}
		in := incoming("three\n")
		in.Keywords, in.Flags = []string{"Blue"}, maildir.Draft
		_, err = f.Append(in)
		return err
	},
	func(m *Mailbox) error { return transferAll(m, "INBOX", "Work", (*Folder).Copy) },
	func(m *Mailbox) error { return m.Create("Work.2024") },
	func(m *Mailbox) error { return m.Subscribe("Work", true) },
	func(m *Mailbox) error { return flag(m, "Work", 2, maildir.Deleted) },
	func(m *Mailbox) error { return m.Rename("Work", "Entwürfe") },
	func(m *Mailbox) error { return transferAll(m, "INBOX", "Entwürfe.2024", (*Folder).Move) },
	func(m *Mailbox) error { return m.Create("Work") }, // the name of before
	func(m *Mailbox) error {
		f, err := m.Folder("Entwürfe")
		if err != nil {
			return err
		}
		return f.Expunge(all)
	},
	func(m *Mailbox) error { return transferAll(m, "Entwürfe", "Entwürfe", (*Folder).Move) },
	func(m *Mailbox) error { return transferAll(m, "Entwürfe", "Work", (*Folder).Copy) },
	func(m *Mailbox) error { return m.Delete("Entwürfe") },
	func(m *Mailbox) error { return m.Rename("Work", "Entwürfe") },
	func(m *Mailbox) error { return m.store.Checkpoint() },
	func(m *Mailbox) error { return deliverText(m, "four") },
	func(m *Mailbox) error { return flag(m, "Entwürfe", 1, maildir.Answered, "Red") },
	func(m *Mailbox) error { return m.Rename("Entwürfe.2024", "Old") },
	func(m *Mailbox) error { return m.Subscribe("Work", false) },
	func(m *Mailbox) error { return m.Delete("Old") },
}

func deliverText(m *Mailbox, text string) error {
	_, err := m.Deliver(incoming(text))
	return err
}

func flag(m *Mailbox, name string, uid uint32, flags maildir.Flags, keywords ...string) error {
	f, err := m.Folder(name)
	if err != nil {
		return err
	}
	return f.SetFlags([]uint32{uid}, add(flags, keywords...))
}

func transferAll(m *Mailbox, from, to string, do func(*Folder, []uint32, string) (uint32, []Pair, error)) error {
	f, err := m.Folder(from)
	if err != nil {
		return err
	}
	var uids []uint32
	for _, msg := range f.Snapshot().Messages {
		uids = append(uids, msg.UID)
	}
	_, _, err = do(f, uids, to)
	return err
}

// chapters gives what can be seen after each part of the story.
func chapters(t *testing.T) []string {
	t.Helper()
	s := openAt(t, tempRoot(t), nil)
	m := box(t, s)
	list := []string{dump(t, m)}
	for i, part := range story {
		if err := part(m); err != nil {
			t.Fatalf("part %d: %v", i, err)
		}
		list = append(list, dump(t, m))
	}
	return list
}

var errCrash = errors.New("crash")

// crash lets a process get as far as its n-th change of the disk.
type crash struct {
	left   int
	during string // which change it was
}

func (c *crash) fault(step, path string) error {
	if c.left--; c.left > 0 {
		return nil
	}
	if c.during == "" {
		c.during = step + " " + path
	}
	return errCrash
}

// openWith opens a store whose clock stands still, so that what is made at different times is the same.
func openWith(root string, fault func(step, path string) error) (*Store, error) {
	return OpenWith(Options{Root: root, Log: slog.New(slog.DiscardHandler), fault: fault, now: standstill})
}

func openAt(t *testing.T, root string, fault func(step, path string) error) *Store {
	t.Helper()
	s, err := openWith(root, fault)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// die gives up what the end of a process gives up.
func die(t *testing.T, s *Store) {
	t.Helper()
	if err := errors.Join(s.ops.Close(), s.lock.Close()); err != nil {
		t.Fatal(err)
	}
}

// thorough has tests do all that they can, which takes minutes: for runs at night. Else they do a part of it, another one each
// time.
var thorough = os.Getenv("ANYCASTLE_THOROUGH") != ""

// oneOf gives where to begin and how far to go each time, so that one of so many is done.
func oneOf(t *testing.T, of int) (first, step int) {
	if thorough {
		return 1, 1
	}
	first = 1 + rand.IntN(of)
	t.Logf("1 of %d, from %d on", of, first)
	return first, of
}

// TestCrashAtEveryChange ends a process at each change of the disk, and the next ones at changes of their start. What was
// acknowledged is there then, and what was not is there as a whole or not at all. It takes one change of four unless it is to
// be thorough.
func TestCrashAtEveryChange(t *testing.T) {
	want := chapters(t)
	first, step := oneOf(t, 4)
	for n := first; ; n += step {
		root := tempRoot(t)
		c := &crash{left: n}
		done := -1
		s, err := openWith(root, c.fault)
		if err == nil {
			var m *Mailbox
			if m, err = s.Mailbox(user); err == nil {
				done = 0
				for done < len(story) && err == nil && c.left > 0 {
					if err = story[done](m); err == nil {
						done++
					}
				}
			}
			die(t, s)
		}
		if err == nil && done == len(story) {
			if n < 100 {
				t.Errorf("the story has only %d changes", n)
			}
			return
		}
		startAtChanges(t, root, n%3, func(s *Store, what string) {
			got, now := dump(t, box(t, s)), max(done, 0)
			began := err != nil && now+1 < len(want)
			if got != want[now] && (!began || got != want[now+1]) {
				t.Fatalf("crash at %d (%s), %s: %d parts were acknowledged, then %v; there is\n%s\nwanted\n%s",
					n, c.during, what, done, err, got, want[now])
			}
			if r := s.report; r.Lost > 0 || r.Odd > 0 || r.Adopted > 0 {
				t.Fatalf("crash at %d (%s), %s: report %+v", n, c.during, what, r)
			}
		})
	}
}

// startAtChanges starts a copy of the LUN, ending at each third change, and then once more.
func startAtChanges(t *testing.T, root string, skip int, look func(s *Store, what string)) {
	t.Helper()
	for k := 1 + skip; ; k += 3 {
		dir := filepath.Join(tempRoot(t), "copy")
		if err := os.CopyFS(dir, os.DirFS(root)); err != nil {
			t.Fatal(err)
		}
		c := &crash{left: k}
		s, err := openWith(dir, c.fault)
		whole := err == nil
		if err == nil {
			die(t, s)
		}
		s = openAt(t, dir, nil)
		look(s, fmt.Sprintf("start ended at %d (%s)", k, c.during))
		die(t, s)
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if whole && c.left > 0 {
			return
		}
	}
}

// TestCutLog ends the log at many bytes (package oplog does so at each), with a tree that has nothing of what the log
// says: as if the power had failed before anything but the log, and the bodies, was durable.
func TestCutLog(t *testing.T) {
	root, states := lazyStory(t)
	segments, err := filepath.Glob(filepath.Join(root, logDir, "*.log"))
	if err != nil || len(segments) != 1 {
		t.Fatalf("segments %v, %v", segments, err)
	}
	text, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	end := len(strings.TrimRight(string(text), "\x00"))
	seen := map[uint64]bool{}
	for cut := 0; cut <= end; cut += min(1+cut%23, max(end-cut, 1)) {
		dir := filepath.Join(tempRoot(t), "copy")
		if err := os.CopyFS(dir, os.DirFS(root)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, logDir, filepath.Base(segments[0])), text[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		s := openAt(t, dir, nil)
		last, _ := s.ops.Size()
		seen[last] = true
		if got := dump(t, box(t, s)); got != states[last] {
			t.Fatalf("cut at byte %d, operation %d: there is\n%s\nwanted\n%s", cut, last, got, states[last])
		}
		if r := s.report; r.Lost > 0 || r.Odd > 0 || r.Adopted > 0 || len(r.Damage) > 0 {
			t.Fatalf("cut at byte %d: report %+v", cut, r)
		}
		die(t, s)
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	if len(seen) != len(states) {
		t.Errorf("the cuts lead to %d states, want %d", len(seen), len(states))
	}
}

// lazyStory lives through the story with nothing on the disk but the log and the bodies. It gives what can be seen after
// each operation, by its index.
func lazyStory(t *testing.T) (root string, states map[uint64]string) {
	t.Helper()
	root = tempRoot(t)
	lazy := false
	s, err := openWith(root, func(step, _ string) error {
		if lazy && step != "create" && step != "link" && !strings.HasPrefix(step, "sync") {
			return errCrash
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	m := box(t, s)
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	lazy = true
	states = map[uint64]string{1: dump(t, m)}
	for i, part := range story {
		if err := part(m); err != nil && !errors.Is(err, errCrash) { // a checkpoint
			t.Fatalf("part %d: %v", i, err)
		}
		last, _ := s.ops.Size()
		states[last] = dump(t, m)
	}
	die(t, s)
	return root, states
}
