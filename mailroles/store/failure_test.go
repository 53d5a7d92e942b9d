package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"anycastle/mailroles/maildir"
)

func TestTransactionOutlivesItsMessage(t *testing.T) {
	root := tempRoot(t)
	id := strings.Repeat("1a", 16)
	held := strings.Repeat("2b", 16)
	send := func(s *Store, tx, name string, want bool) {
		t.Helper()
		in := incoming("text")
		in.Tx, in.Folder = tx, name
		if again, err := box(t, s).Deliver(in); err != nil || again != want {
			t.Errorf("delivery: again %v, %v; want %v", again, err, want)
		}
	}
	s := openAt(t, root, nil)
	send(s, id, "", false)
	send(s, held, "Quarantine", false)
	if err := box(t, s).Delete("Quarantine"); err != nil {
		t.Fatal(err)
	}
	if err := flag(box(t, s), "INBOX", 1, maildir.Deleted); err != nil {
		t.Fatal(err)
	}
	if err := folder(t, box(t, s), "INBOX").Expunge(all); err != nil {
		t.Fatal(err)
	}
	send(s, id, "", true)
	die(t, s)
	for range 3 { // from the log, and then from the checkpoint, also of a start that did not read the mailbox
		s = openAt(t, root, nil)
		send(s, id, "", true)
		send(s, held, "Quarantine", true)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := openAt(t, root, nil).Close(); err != nil {
			t.Fatal(err)
		}
	}
	s = openAt(t, root, nil)
	m := box(t, s)
	s.now = func() time.Time { return standstill().Add(txMemory + time.Second) }
	in := incoming("text")
	in.Tx = id
	if again, err := m.Deliver(in); err != nil || again {
		t.Errorf("after an hour: again %v, %v", again, err)
	}
}

// TestTransactionOfLostFolder has the log deliver into a folder of before the checkpoint, that is gone by now.
func TestTransactionOfLostFolder(t *testing.T) {
	root := tempRoot(t)
	s := openAt(t, root, nil)
	m := box(t, s)
	if err := m.Create("Quarantine"); err != nil {
		t.Fatal(err)
	}
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	send := func(m *Mailbox, want bool) {
		t.Helper()
		in := incoming("text")
		in.Tx, in.Folder = strings.Repeat("1a", 16), "Quarantine"
		if again, err := m.Deliver(in); err != nil || again != want {
			t.Errorf("delivery: again %v, %v; want %v", again, err, want)
		}
	}
	send(m, false)
	if err := m.Delete("Quarantine"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		die(t, s)
		s = openAt(t, root, nil)
		m = box(t, s)
		if err := m.Create("Quarantine"); err != nil && !errors.Is(err, ErrExists) {
			t.Fatal(err)
		}
		send(m, true)
	}
}

// TestDiskFailsUnderTheLog has the log's fsync fail. Nothing more is done by this store; the next one has what was
// acknowledged.
func TestDiskFailsUnderTheLog(t *testing.T) {
	for _, broken := range []string{"synclog", "syncdir"} {
		root := tempRoot(t)
		var fail atomic.Bool
		s := openAt(t, root, func(step, _ string) error {
			if fail.Load() && step == broken {
				return unix.EIO
			}
			return nil
		})
		m := box(t, s)
		deliver(t, m, "one")
		inbox := folder(t, m, "INBOX")
		before := dump(t, m)
		done := make(chan error)
		go func() { done <- s.Run(context.Background()) }()
		fail.Store(true)
		if _, err := m.Deliver(incoming("two")); !errors.Is(err, unix.EIO) {
			t.Errorf("%s: delivery: %v, want EIO", broken, err)
		}
		fail.Store(false)
		if _, err := m.Deliver(incoming("three")); !errors.Is(err, ErrStopped) {
			t.Errorf("%s: delivery afterwards: %v, want ErrStopped", broken, err)
		}
		if err := inbox.SetFlags([]uint32{1}, add(maildir.Seen)); err == nil {
			t.Errorf("%s: flags are set afterwards", broken)
		}
		if err := m.Create("Work"); err == nil {
			t.Errorf("%s: a folder is made afterwards", broken)
		}
		if err := s.Checkpoint(); !errors.Is(err, ErrStopped) {
			t.Errorf("%s: checkpoint afterwards: %v, want ErrStopped", broken, err)
		}
		if err := <-done; !errors.Is(err, ErrStopped) {
			t.Errorf("%s: run ends with %v", broken, err)
		}
		if got := show(t, inbox); got != "1  one\n" {
			t.Errorf("%s: INBOX is\n%s", broken, got)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		m = box(t, openAt(t, root, nil))
		whole := strings.Contains(dump(t, m), `"two"`)
		if got := dump(t, m); got != before && !whole {
			t.Errorf("%s: after a restart there is\n%s", broken, got)
		}
		deliver(t, m, "four")
	}
}

// TestFullDiskUnderTheTree has no room where the tree would change. What the log has is done all the same, and stays.
func TestFullDiskUnderTheTree(t *testing.T) {
	root := tempRoot(t)
	var full atomic.Bool
	fault := func(step, path string) error {
		if full.Load() && (step == "rename" || step == "mkdir" || step == "remove" || step == "put" || step == "write") {
			return unix.ENOSPC
		}
		return nil
	}
	s := openAt(t, root, fault)
	m := box(t, s)
	deliver(t, m, "one")
	deliver(t, m, "gone")
	full.Store(true)
	deliver(t, m, "two")
	for _, err := range []error{
		flag(m, "INBOX", 1, maildir.Seen, "k"), flag(m, "INBOX", 2, maildir.Deleted), m.Create("Work"),
		transferAll(m, "INBOX", "Work", (*Folder).Copy), folder(t, m, "INBOX").Expunge(all),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	got := dump(t, m)
	if strings.Count(got, `"gone"`) != 1 || strings.Count(got, `S ["k"] "one"`) != 2 || !strings.Contains(got, `"two"`) {
		t.Errorf("on a full disk there is\n%s", got)
	}
	if err := s.Checkpoint(); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("checkpoint: %v, want ENOSPC", err)
	}
	full.Store(false)
	deliver(t, m, "three")
	want := dump(t, m)
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, dump(t, m)); diff != "" {
		t.Errorf("after the checkpoint: %s", diff)
	}
	left, err := os.ReadDir(filepath.Join(root, incomingDir))
	if err != nil || len(left) > 0 {
		t.Errorf("the incoming directory has %v, %v", left, err)
	}
	die(t, s)
	s = openAt(t, root, nil)
	if diff := cmp.Diff(want, dump(t, box(t, s))); diff != "" || s.report.Adopted+s.report.Lost+s.report.Quarantined > 0 {
		t.Errorf("after a restart: %s, %+v", diff, s.report)
	}
}

// TestDamagedLog has a batch in the middle of the log go bad.
func TestDamagedLog(t *testing.T) {
	root := tempRoot(t)
	s := openAt(t, root, nil)
	m := box(t, s)
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"one", "two", "three"} {
		deliver(t, m, text)
	}
	die(t, s)
	segments, err := filepath.Glob(filepath.Join(root, logDir, "*.log"))
	if err != nil || len(segments) != 1 {
		t.Fatal(segments, err)
	}
	text, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(text), `"uid":2`)
	text[at] ^= 1
	if err := os.WriteFile(segments[0], text, 0o600); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, root, nil)
	if got := show(t, folder(t, box(t, s), "INBOX")); got != "1  one\n3  three\n4  two\n" {
		t.Errorf("INBOX is\n%s", got) // the file of the operation that is lost was there, and is adopted
	}
	if d := s.report.Damage; len(d) != 1 || d[0].From != 3 || d[0].To != 3 {
		t.Errorf("damage is %+v", d)
	}
	list, err := s.Quarantine()
	if err != nil || len(list) != 1 {
		t.Fatalf("quarantine: %+v, %v", list, err)
	}
	kept, err := os.ReadFile(filepath.Join(root, quarantineDir, list[0].File))
	if err != nil || !cmp.Equal(kept, text) {
		t.Errorf("the damaged segment is not kept as it was, %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s = openAt(t, root, nil); len(s.report.Damage) > 0 {
		t.Errorf("the next start finds %+v", s.report.Damage)
	}
}

func TestSince(t *testing.T) {
	m := box(t, openAt(t, tempRoot(t), nil))
	inbox := folder(t, m, "INBOX")
	for i := range 5 {
		deliver(t, m, fmt.Sprint(i))
	}
	start := inbox.Snapshot()
	if d, ok := inbox.Since(start.Generation); !ok || len(d.Put)+len(d.Gone) > 0 || d.Generation != start.Generation {
		t.Errorf("nothing happened: %+v, %v", d, ok)
	}
	deliver(t, m, "new")
	if err := flag(m, "INBOX", 2, maildir.Seen); err != nil {
		t.Fatal(err)
	}
	if err := flag(m, "INBOX", 3, maildir.Deleted); err != nil {
		t.Fatal(err)
	}
	if err := inbox.Expunge(all); err != nil {
		t.Fatal(err)
	}
	d, ok := inbox.Since(start.Generation)
	if !ok || len(d.Put) != 2 || d.Put[0].UID != 2 || d.Put[0].Flags != maildir.Seen || d.Put[1].UID != 6 ||
		!cmp.Equal(d.Gone, []uint32{3}) || d.Next != 7 {
		t.Errorf("changes are %+v, %v", d, ok)
	}
	if len(start.Messages) != 5 || start.Messages[1].Flags != 0 || start.Messages[2].UID != 3 {
		t.Error("a snapshot changed")
	}
	for i := range journalSize {
		marks := func(Marks) Marks { return Marks{Flags: maildir.Flags(i%2) * maildir.Seen} }
		if err := inbox.SetFlags([]uint32{1}, marks); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := inbox.Since(start.Generation); ok {
		t.Error("the journal has no end")
	}
}

// TestBigFolder measures what an operation costs by what it allocates: a folder of 20,000 messages must not cost more
// than one of 20.
func TestBigFolder(t *testing.T) {
	cost := func(n int) (delivery, flags uint64) {
		root := tempRoot(t)
		if err := os.MkdirAll(filepath.Join(root, user, "cur"), 0o700); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			write(t, filepath.Join(root, user), fmt.Sprintf("cur/%d.x:2,", i), "x")
		}
		m := box(t, openAt(t, root, nil))
		inbox := folder(t, m, "INBOX")
		inbox.Snapshot()
		deliver(t, m, "first")
		change := func(i int) {
			marks := func(Marks) Marks { return Marks{Flags: maildir.Flags(i%2) * maildir.Seen} }
			if err := inbox.SetFlags([]uint32{uint32(n)/2 + 1}, marks); err != nil {
				t.Fatal(err)
			}
		}
		change(1) // after a snapshot the first change costs a copy
		return allocated(func(int) { deliver(t, m, "text") }), allocated(change)
	}
	smallDelivery, smallFlags := cost(20)
	bigDelivery, bigFlags := cost(20_000)
	t.Logf("bytes allocated: delivery %d and %d, flags %d and %d", smallDelivery, bigDelivery, smallFlags, bigFlags)
	if bigDelivery > 2*smallDelivery+1000 || bigFlags > 2*smallFlags+1000 {
		t.Errorf("delivery allocates %d bytes instead of %d, flags %d instead of %d", bigDelivery, smallDelivery, bigFlags, smallFlags)
	}
}

// allocated gives the bytes that are allocated each time.
func allocated(do func(i int)) uint64 {
	const times = 400
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range times {
		do(i)
	}
	runtime.ReadMemStats(&after)
	return (after.TotalAlloc - before.TotalAlloc) / times
}
