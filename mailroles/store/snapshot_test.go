package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"anycastle/internal/netnstest"
	"anycastle/internal/proctest"
	"anycastle/mailroles/maildir"
)

// loopMount makes a file system in a file, and mounts it.
func loopMount(t *testing.T, mkfs ...string) string {
	t.Helper()
	netnstest.Root(t)
	dir := t.TempDir()
	image, at := filepath.Join(dir, "image"), filepath.Join(dir, "mount")
	must(t, os.WriteFile(image, nil, 0o600), os.Truncate(image, 320<<20), os.Mkdir(at, 0o700))
	tool(t, append(mkfs, image)...)
	tool(t, "mount", "-o", "loop", image, at)
	t.Cleanup(func() {
		// btrfs may still be removing a subvolume
		proctest.Eventually(t, "the file system to be free", func() bool { return !errors.Is(unix.Unmount(at, 0), unix.EBUSY) })
	})
	return at
}

func tool(t *testing.T, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// TestSnapshotMethods takes snapshots on each kind of file system, loses everything and restores it, and has snapshots go that
// are too many.
func TestSnapshotMethods(t *testing.T) {
	for name, test := range map[string]struct {
		mkfs   []string
		root   string
		method string
	}{
		"btrfs subvolume": {[]string{"mkfs.btrfs", "-q"}, "lun", methodBtrfs},
		"btrfs directory": {[]string{"mkfs.btrfs", "-q"}, "directory", methodReflink},
		"xfs":             {[]string{"mkfs.xfs", "-q"}, "directory", methodReflink},
		"ext4":            {[]string{"mkfs.ext4", "-q"}, "directory", methodHardlink},
	} {
		t.Run(name, func(t *testing.T) {
			root := filepath.Join(loopMount(t, test.mkfs...), test.root)
			if test.method == methodBtrfs {
				tool(t, "btrfs", "-q", "subvolume", "create", root)
			} else {
				must(t, os.Mkdir(root, 0o700))
			}
			s := openAt(t, root, nil)
			m := box(t, s)
			fillForRestore(t, m)
			want := dump(t, m)
			l := snapshotNow(t, s)
			if l.Method != test.method || l.Messages != 8 || l.Mailboxes != 1 || l.Lacking != 0 {
				t.Errorf("snapshot is %+v", l)
			}
			expunge(t, m, "INBOX", 1, 2, 3, 4)
			must(t, m.Delete("Work"), os.RemoveAll(filepath.Join(root, expungedDir)), os.Mkdir(filepath.Join(root, expungedDir), 0o700))
			if done := restore(t, s, RestoreOrder{Point: Point{Snapshot: l.ID}}); done.Put != 8 {
				t.Errorf("did %+v", done)
			}
			// nobody knows any more which UIDs the folder gave
			if got := withoutValidity(dump(t, m)); got != withoutValidity(want) {
				t.Errorf("restored: %s", cmp.Diff(want, dump(t, m)))
			}
			must(t, s.Close())
			s = openAt(t, root, nil)
			for range SnapshotsKept + 1 {
				deliver(t, box(t, s), "more") // so that the next snapshot has another id
				snapshotNow(t, s)
			}
			entries, err := os.ReadDir(filepath.Join(root, snapshotDir))
			must(t, err)
			if list := s.Snapshots(); len(list) != SnapshotsKept || len(entries) != SnapshotsKept || list[0].ID == l.ID {
				t.Errorf("kept are %+v, in the directory %v", list, entries)
			}
			must(t, s.Close())
			if s = openAt(t, root, nil); len(s.Snapshots()) != SnapshotsKept {
				t.Errorf("after a restart there are %+v", s.Snapshots())
			}
			must(t, s.Close())
		})
	}
}

// withoutValidity takes the UIDVALIDITY out of what dump told.
func withoutValidity(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if fields := strings.Split(line, " "); line[0] != ' ' && len(fields) == 4 {
			fields[1] = "-"
			line = strings.Join(fields, " ")
		}
		b.WriteString(line)
	}
	return b.String()
}

// TestCloneIsApart changes a file in place, as a broken disk or another program may: a clone keeps what it was.
func TestCloneIsApart(t *testing.T) {
	root := loopMount(t, "mkfs.xfs", "-q")
	s := openAt(t, root, nil)
	m := box(t, s)
	deliver(t, m, "text")
	l := snapshotNow(t, s)
	f := folder(t, m, "INBOX")
	must(t, os.WriteFile(filepath.Join(root, user, f.Snapshot().Messages[0].file), []byte("rust"), 0o600))
	expunge(t, m, "INBOX", 1)
	done, err := s.Restore(t.Context(), RestoreOrder{Mailbox: user, Point: Point{Snapshot: l.ID}})
	if err != nil || done.Put != 1 || show(t, f) != "1  text\n" {
		t.Errorf("restored %+v, %v, INBOX is\n%s", done, err, show(t, f))
	}
	must(t, s.Close())
}

// model gives a mailbox as the log up to an operation makes it.
func model(t *testing.T, s *Store, mailbox string, last uint64) *state {
	t.Helper()
	st := newState()
	must(t, s.walk(1, last, func(index uint64, record []byte) error {
		o, err := decodeOp(record)
		if err == nil && o.Mailbox == mailbox {
			st.apply(index, o)
		}
		return err
	}))
	return st
}

// TestSnapshotUnderLoad takes snapshots while many change their mailboxes. Each has what the log had made up to its index, and
// each body is that of its message.
func TestSnapshotUnderLoad(t *testing.T) {
	root := tempRoot(t)
	s := openAt(t, root, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var busy sync.WaitGroup
	var boxes []string
	for i := range 4 {
		address := fmt.Sprintf("user%d@example.org", i)
		boxes = append(boxes, address)
		busy.Go(func() {
			if err := change(ctx, s, address, rand.New(rand.NewPCG(7, uint64(i)))); err != nil {
				t.Error(err)
			}
		})
	}
	var taken []LUNSnapshot
	for range 4 {
		from := s.lastIndex()
		proctest.Eventually(t, "operations", func() bool { return s.lastIndex() > from+60 })
		taken = append(taken, snapshotNow(t, s))
	}
	cancel()
	busy.Wait()
	for _, l := range taken {
		var messages int64
		for _, address := range boxes {
			was := &past{snapshot: l, state: newState()}
			must(t, s.readManifest(was, address))
			want := model(t, s, address, l.Index)
			if diff := cmp.Diff(tellFolders(want), tellFolders(was.state)); diff != "" {
				t.Errorf("%s of %s: %s", address, l.ID, diff)
			}
			for _, c := range was.state.folders {
				for _, m := range c.messages {
					sum, err := s.sumOf(snapshotFile(l.ID, address, c, m))
					if messages++; err != nil || sum != m.Sum || m.Sum == "" {
						t.Errorf("UID %d of %s in %s: %s, want %s; %v", m.UID, c.name, l.ID, sum, m.Sum, err)
					}
				}
			}
		}
		if messages != l.Messages || l.Lacking > 0 || messages == 0 {
			t.Errorf("%d messages were seen in %+v", messages, l)
		}
	}
}

// tellFolders gives the folders of a state.
func tellFolders(st *state) string {
	_, text, _ := strings.Cut(tell(&state{folders: st.folders}), "\n")
	return text
}

// change changes a mailbox in all ways until ctx ends.
func change(ctx context.Context, s *Store, address string, r *rand.Rand) error {
	m, err := s.Mailbox(address)
	if err != nil {
		return err
	}
	for n := 0; ctx.Err() == nil && err == nil; n++ {
		inbox, ferr := m.Folder(maildir.Inbox)
		if ferr != nil {
			return ferr
		}
		list := inbox.Snapshot().Messages
		uid := uint32(0)
		if len(list) > 0 {
			uid = list[r.IntN(len(list))].UID
		}
		name := fmt.Sprintf("F%d", n/20)
		switch n % 20 {
		case 0:
			err = m.Create(name)
		case 7, 13:
			_, _, err = inbox.Move([]uint32{uid}, name)
		case 4, 9, 14:
			err = errors.Join(inbox.SetFlags([]uint32{uid}, add(maildir.Deleted)), inbox.Expunge(all))
		case 16:
			_, _, err = inbox.Copy([]uint32{uid}, name)
		case 19:
			if n%40 > 20 {
				err = m.Delete(name)
			} else {
				err = m.Rename(name, name+"x")
			}
		case 3, 11:
			err = inbox.SetFlags([]uint32{uid}, add(maildir.Seen, fmt.Sprintf("k%d", n%5)))
		default:
			err = deliverText(m, fmt.Sprintf("%s %d", address, n))
		}
	}
	return err
}

// TestSnapshotOfMailboxesNotInMemory has mailboxes that nobody opened since the start, and one that is opened and changed while
// the snapshot waits to be written.
func TestSnapshotOfMailboxesNotInMemory(t *testing.T) {
	root := tempRoot(t)
	s := openAt(t, root, nil)
	for _, address := range []string{"a@example.org", "b@example.org"} {
		m, err := s.Mailbox(address)
		must(t, err, deliverText(m, address), flag(m, "INBOX", 1, maildir.Seen, "Blue"))
	}
	must(t, s.Close())
	s = openAt(t, root, nil)
	c, err := s.captureNow(false)
	must(t, err)
	m, err := s.Mailbox("b@example.org")
	must(t, err, flag(m, "INBOX", 1, maildir.Deleted), deliverText(m, "late"))
	s.completeSnapshot(t.Context(), c)
	if c.err != nil || c.head.Messages != 2 || c.head.Lacking != 0 {
		t.Fatalf("snapshot is %+v, %v", c.head, c.err)
	}
	if s.boxes["a@example.org"] != nil {
		t.Error("a mailbox stays in memory that nobody asked for")
	}
	for _, address := range []string{"a@example.org", "b@example.org"} {
		was := &past{snapshot: c.head, state: newState()}
		must(t, s.readManifest(was, address))
		list := was.state.sorted()
		if len(list) != 1 || len(list[0].messages) != 1 || list[0].messages[0].Flags != maildir.Seen || !slices.Equal(list[0].keywords, []string{"Blue"}) {
			t.Errorf("%s was %s", address, tellFolders(was.state))
		}
	}
}

// TestSnapshotOfDeletedFolder has a folder deleted while a snapshot of it waits to be written, and its messages not yet retired, as
// on a replica that has many to retire.
func TestSnapshotOfDeletedFolder(t *testing.T) {
	root := tempRoot(t)
	s := openAt(t, root, nil)
	m := box(t, s)
	must(t, deliverText(m, "text"), m.Create("F"))
	_, _, err := folder(t, m, "INBOX").Move([]uint32{1}, "F")
	must(t, err)
	guid := folder(t, m, "F").guid
	c, err := s.captureNow(false)
	must(t, err, m.Delete("F"))
	files, err := filepath.Glob(filepath.Join(root, expungedDir, "*", "*"))
	must(t, err)
	cur, base := filepath.Join(root, grave(guid), "cur"), ""
	must(t, os.MkdirAll(cur, 0o700))
	for _, f := range c.boxes[user].folders {
		for _, msg := range f.messages {
			base = msg.base
		}
	}
	for _, file := range files {
		switch filepath.Base(file) {
		case maildir.Unique(base):
			must(t, os.Rename(file, filepath.Join(cur, base+":2,S")))
		case guid + deletedSuffix:
		default: // the one in INBOX that was moved, which is the same file
			must(t, os.Remove(file))
		}
	}
	s.completeSnapshot(t.Context(), c)
	if c.err != nil || c.head.Messages != 1 || c.head.Lacking != 0 {
		t.Errorf("snapshot is %+v, %v", c.head, c.err)
	}
	must(t, s.Close())
}

// TestSnapshotWhileMailboxesLoad begins snapshots while mailboxes are read for the first time, and get their INBOX: that is an
// operation as others.
func TestSnapshotWhileMailboxesLoad(t *testing.T) {
	s := openAt(t, tempRoot(t), nil)
	var boxes []string
	var busy sync.WaitGroup
	for i := range 100 {
		address := fmt.Sprintf("user%d@example.org", i)
		boxes = append(boxes, address)
		busy.Go(func() {
			if _, err := s.Mailbox(address); err != nil {
				t.Error(err)
			}
		})
	}
	var taken []LUNSnapshot
	for last := uint64(0); last < uint64(len(boxes)); {
		proctest.Eventually(t, "operations", func() bool { return s.lastIndex() > last })
		l := snapshotNow(t, s)
		last = l.Index
		if len(taken) < 4 {
			taken = append(taken, l)
		}
		proctest.Eventually(t, "operations", func() bool { return s.lastIndex() > last || last == uint64(len(boxes)) })
	}
	busy.Wait()
	for _, l := range taken {
		for _, address := range boxes {
			was := &past{snapshot: l, state: newState()}
			if err := s.readManifest(was, address); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tellFolders(model(t, s, address, l.Index)), tellFolders(was.state)); diff != "" {
				t.Errorf("%s of %s: %s", address, l.ID, diff)
			}
		}
	}
	must(t, s.Close())
}
