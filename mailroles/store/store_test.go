package store

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"anycastle/mailroles/maildir"
)

const user = "alice@example.org"

func open(t *testing.T, root string) *Store {
	t.Helper()
	s, err := Open(root, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// standstill is a clock that shows one time.
func standstill() time.Time { return time.Unix(1700000000, 0) }

func box(t *testing.T, s *Store) *Mailbox {
	t.Helper()
	m, err := s.Mailbox(user)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func folder(t *testing.T, m *Mailbox, name string) *Folder {
	t.Helper()
	f, err := m.Folder(name)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func incoming(text string) Incoming {
	return Incoming{Body: strings.NewReader(text), Size: int64(len(text))}
}

func deliver(t *testing.T, m *Mailbox, text string) {
	t.Helper()
	if _, err := m.Deliver(incoming(text)); err != nil {
		t.Fatal(err)
	}
}

// show gives a folder as "UID flags text" lines.
func show(t *testing.T, f *Folder) string {
	t.Helper()
	var b strings.Builder
	for _, m := range f.Snapshot().Messages {
		file, err := f.Open(m.UID)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(file)
		file.Close()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%d %s %s\n", m.UID, m.Flags, text)
	}
	return b.String()
}

func add(f maildir.Flags, keywords ...string) func(Marks) Marks {
	return func(old Marks) Marks {
		return Marks{Flags: old.Flags | f, Keywords: append(slices.Clone(old.Keywords), keywords...)}
	}
}

func all(uint32) bool { return true }

func TestReopenKeepsEverything(t *testing.T) {
	root := tempRoot(t)
	s := open(t, root)
	m := box(t, s)
	for _, text := range []string{"one", "two", "three"} {
		deliver(t, m, text)
	}
	inbox := folder(t, m, "INBOX")
	if err := inbox.SetFlags([]uint32{2, 99}, add(maildir.Seen|maildir.Flagged)); err != nil {
		t.Fatal(err)
	}
	if err := inbox.SetFlags([]uint32{3}, add(maildir.Deleted)); err != nil {
		t.Fatal(err)
	}
	if err := inbox.Expunge(all); err != nil {
		t.Fatal(err)
	}
	if err := m.Create("Work"); err != nil {
		t.Fatal(err)
	}
	date := time.Unix(1500000000, 0)
	in := incoming("four")
	in.Date, in.Flags = date, maildir.Answered
	if _, err := folder(t, m, "Work").Append(in); err != nil {
		t.Fatal(err)
	}
	validity := inbox.Snapshot().Validity
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	m = box(t, open(t, root))
	inbox = folder(t, m, "inbox")
	if got := show(t, inbox); got != "1  one\n2 FS two\n" {
		t.Errorf("INBOX is\n%s", got)
	}
	if snap := inbox.Snapshot(); snap.Validity != validity || snap.Next != 4 {
		t.Errorf("UIDVALIDITY %d, next UID %d; want %d, 4", snap.Validity, snap.Next, validity)
	}
	work := folder(t, m, "Work").Snapshot()
	if work.Validity == validity || len(work.Messages) != 1 || work.Messages[0].Flags != maildir.Answered || !work.Messages[0].Date.Equal(date) {
		t.Errorf("Work is %+v", work)
	}
}

func TestCrashes(t *testing.T) {
	for _, tc := range []struct {
		name   string
		damage func(t *testing.T, dir string)
		want   string
		next   uint32
		same   bool // UIDVALIDITY
	}{
		{"file left in tmp", func(t *testing.T, dir string) { write(t, dir, "tmp/half", "half a mess") }, "1  one\n2  two\n", 3, true},
		{"record without file", func(t *testing.T, dir string) { appendTo(t, dir, "3 :never-renamed\n") }, "1  one\n2  two\n", 4, true},
		{"torn record", func(t *testing.T, dir string) { appendTo(t, dir, "3 :never-ren") }, "1  one\n2  two\n", 4, true},
		{"file without record", func(t *testing.T, dir string) { write(t, dir, "cur/other:2,S", "three") }, "1  one\n2  two\n3 S three\n", 4, true},
		{"list lost", func(t *testing.T, dir string) { remove(t, dir, maildir.UIDListFile) }, "1  one\n2  two\n", 3, false},
		{"list damaged", func(t *testing.T, dir string) { write(t, dir, maildir.UIDListFile, "3 V1 N1\n\x00\n") }, "1  one\n2  two\n", 3, false},
		{"list and counter lost", func(t *testing.T, dir string) {
			remove(t, dir, maildir.UIDListFile)
			remove(t, dir, validityFile)
		}, "1  one\n2  two\n", 3, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := tempRoot(t)
			s := open(t, root)
			s.now = func() time.Time { return time.Unix(1700000000, 0) }
			m := box(t, s)
			deliver(t, m, "one")
			s.now = func() time.Time { return time.Unix(1700000001, 0) }
			deliver(t, m, "two")
			before := folder(t, m, "INBOX").Snapshot()
			s.Close()
			tc.damage(t, filepath.Join(root, user))

			for range 2 { // and once more, to see that the repair lasts
				s := open(t, root)
				inbox := folder(t, box(t, s), "INBOX")
				snap := inbox.Snapshot()
				if got := show(t, inbox); got != tc.want || snap.Next != tc.next || (snap.Validity == before.Validity) != tc.same {
					t.Errorf("UIDVALIDITY %d (was %d), next %d, messages\n%s", snap.Validity, before.Validity, snap.Next, got)
				}
				s.Close()
			}
			if tc.name == "file left in tmp" {
				if _, err := os.Stat(filepath.Join(root, user, "tmp/half")); err != nil {
					t.Errorf("the file in tmp was touched: %v", err)
				}
			}
		})
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func appendTo(t *testing.T, dir, text string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, maildir.UIDListFile), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

func TestTransactionIsDoneOnce(t *testing.T) {
	root := tempRoot(t)
	now := time.Unix(1700000000, 0)
	s := open(t, root)
	s.now = func() time.Time { return now }
	m := box(t, s)
	send := func(tx string, want bool) {
		t.Helper()
		in := incoming("text")
		in.Tx = tx
		if again, err := m.Deliver(in); err != nil || again != want {
			t.Errorf("delivery of %.4s: again = %v, %v; want %v", tx, again, err, want)
		}
	}
	one, two := strings.Repeat("1a", 16), strings.Repeat("2b", 16)
	send(one, false)
	send(one, true)
	send(two, false)
	send("", false)
	send("", false)
	s.Close()
	s = open(t, root)
	s.now = func() time.Time { return now }
	m = box(t, s)
	send(one, true) // also after a restart
	now = now.Add(txMemory + time.Second)
	send(one, false)
	if n := len(folder(t, m, "INBOX").Snapshot().Messages); n != 5 {
		t.Errorf("%d messages, want 5", n)
	}
	if left, err := os.ReadDir(filepath.Join(root, incomingDir)); err != nil || len(left) != 0 {
		t.Errorf("the incoming directory holds %v, %v", left, err)
	}
}

func TestFailuresLeaveNothing(t *testing.T) {
	root := tempRoot(t)
	m := box(t, open(t, root))
	inbox := folder(t, m, "INBOX")
	short := incoming("text")
	short.Size = 10
	if _, err := inbox.Append(short); !errors.Is(err, ErrTruncated) {
		t.Errorf("short body: %v, want ErrTruncated", err)
	}
	if _, err := m.Deliver(Incoming{Body: io.MultiReader(strings.NewReader("te"), failing{}), Size: 4}); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("failing body: %v", err)
	}
	deliver(t, m, "whole")
	if got := show(t, inbox); got != "1  whole\n" {
		t.Errorf("INBOX is\n%s", got)
	}
	for _, sub := range []string{user + "/tmp", user + "/cur", incomingDir} {
		if left, err := os.ReadDir(filepath.Join(root, sub)); err != nil || len(left) != 0 {
			t.Errorf("%s holds %v, %v", sub, left, err)
		}
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrNoProgress }

func TestCopyIsAllOrNothing(t *testing.T) {
	root := tempRoot(t)
	m := box(t, open(t, root))
	deliver(t, m, "one")
	deliver(t, m, "two")
	if err := m.Create("Work"); err != nil {
		t.Fatal(err)
	}
	inbox, work := folder(t, m, "INBOX"), folder(t, m, "Work")
	if err := os.Remove(filepath.Join(root, user, inbox.Snapshot().Messages[1].file)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := inbox.Copy([]uint32{1, 2}, "Work"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("copy: %v", err)
	}
	if left, err := os.ReadDir(filepath.Join(root, user, ".Work/cur")); err != nil || len(left) != 0 || show(t, work) != "" {
		t.Errorf("Work holds %v, %v", left, err)
	}
	if _, pairs, err := inbox.Copy([]uint32{1}, "Work"); err != nil || len(pairs) != 1 || pairs[0] != (Pair{From: 1, To: 1}) {
		t.Errorf("copy: %v, %v; want UID 1, as the copy before was not done", pairs, err)
	}
	if _, _, err := inbox.Copy([]uint32{1}, "Nowhere"); !errors.Is(err, ErrNoFolder) {
		t.Errorf("copy to nowhere: %v", err)
	}
}

func TestValidityIsNeverUsedTwice(t *testing.T) {
	m := box(t, open(t, tempRoot(t)))
	seen := map[uint32]bool{folder(t, m, "INBOX").Snapshot().Validity: true}
	for range 3 {
		if err := m.Create("Work"); err != nil {
			t.Fatal(err)
		}
		f := folder(t, m, "Work")
		if v := f.Snapshot().Validity; seen[v] {
			t.Fatalf("UIDVALIDITY %d comes back", v)
		} else {
			seen[v] = true
		}
		if err := m.Create("work."); err != nil { // another name
			t.Fatal(err)
		}
		seen[folder(t, m, "work").Snapshot().Validity] = true
		for _, name := range []string{"Work", "work"} {
			if err := m.Delete(name); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := f.Append(incoming("late")); !errors.Is(err, ErrNoFolder) && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("append to a deleted folder: %v", err)
		}
		if !f.Snapshot().Gone {
			t.Error("deleted folder is not gone")
		}
	}
}

func TestValidityOutlivesTheMailbox(t *testing.T) {
	root := tempRoot(t)
	seen := map[uint32]bool{}
	now := time.Unix(1700000000, 0)
	for range 3 {
		s := open(t, root)
		now = now.Add(time.Minute)
		s.now = func() time.Time { return now }
		m := box(t, s)
		if err := m.Create("Work"); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"INBOX", "Work"} {
			v := folder(t, m, name).Snapshot().Validity
			if seen[v] {
				t.Errorf("UIDVALIDITY %d comes back", v)
			}
			seen[v] = true
		}
		s.Close()
		if err := os.RemoveAll(filepath.Join(root, user)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSecondStoreIsRefused(t *testing.T) {
	root := tempRoot(t)
	first := open(t, root)
	if _, err := Open(root, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrInUse) {
		t.Errorf("second store: %v, want ErrInUse", err)
	}
	first.Close()
	open(t, root)
	if _, err := Open(filepath.Join(root, "unmounted"), slog.New(slog.DiscardHandler)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v, want ErrNotExist", err)
	}
}

func TestConcurrentDeliveries(t *testing.T) {
	m := box(t, open(t, tempRoot(t)))
	inbox := folder(t, m, "INBOX")
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 5 {
				changed := inbox.Changed(inbox.Snapshot().Generation)
				if _, err := m.Deliver(incoming(fmt.Sprint(i, j))); err != nil {
					t.Error(err)
				}
				<-changed
				if err := inbox.SetFlags([]uint32{uint32(j + 1)}, add(maildir.Seen)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for i, msg := range inbox.Snapshot().Messages {
		if msg.UID != uint32(i)+1 {
			t.Errorf("message %d has UID %d", i, msg.UID)
		}
	}
	if n := len(inbox.Snapshot().Messages); n != 20 {
		t.Errorf("%d messages, want 20", n)
	}
}
