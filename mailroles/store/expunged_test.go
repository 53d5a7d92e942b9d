package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"anycastle/mailroles/maildir"
)

// expungedNames lists what is kept of expunged messages, by hour.
func expungedNames(t *testing.T, s *Store) (names []string) {
	t.Helper()
	for _, hour := range s.hours() {
		entries, err := os.ReadDir(filepath.Join(s.root, expungedDir, hour))
		must(t, err)
		for _, e := range entries {
			names = append(names, hour+" "+e.Name())
		}
	}
	return names
}

// TestExpungedIsKept has messages go in each way there is, and tells when their bodies do.
func TestExpungedIsKept(t *testing.T) {
	clock := standstill()
	s, err := OpenWith(Options{Root: tempRoot(t), Keep: 3 * time.Hour, now: func() time.Time { return clock }})
	must(t, err)
	defer s.Close()
	m := box(t, s)
	fillForRestore(t, m)
	var want []string
	gone := func(messages ...*Message) {
		for _, msg := range messages {
			want = append(want, clock.UTC().Format(hourForm)+" "+maildir.Unique(msg.base))
		}
	}
	inbox, work := folder(t, m, "INBOX").Snapshot().Messages, folder(t, m, "Work")
	gone(inbox[0], inbox[1])
	expunge(t, m, "INBOX", 1, 2)
	clock = clock.Add(time.Hour)
	gone(work.Snapshot().Messages...)
	want = append(want, clock.UTC().Format(hourForm)+" "+work.guid+deletedSuffix)
	must(t, m.Delete("Work"))
	slices.Sort(want)
	if diff := cmp.Diff(want, expungedNames(t, s)); diff != "" {
		t.Errorf("kept are %s", diff)
	}
	b := keptOf(inbox[0]).body(user)
	file, err := s.openKept(b)
	must(t, err, file.Close())
	if u := m.Usage(); u.Messages != 2 {
		t.Errorf("what is kept counts: %+v", u)
	}
	clock = clock.Add(3*time.Hour - time.Second)
	s.tendExpunged(t.Context())
	if n := len(expungedNames(t, s)); n != 7 {
		t.Errorf("before the time %d are kept", n)
	}
	clock = clock.Add(time.Hour)
	s.tendExpunged(t.Context())
	if got := expungedNames(t, s); len(got) != 5 || !strings.HasPrefix(got[0], "2023111423 ") {
		t.Errorf("an hour later there are %v", got)
	}
	if path, ok := s.kept(b); ok {
		t.Errorf("body that is kept no more is in %s", path)
	}
	file, err = s.openKept(b) // that of the folder has the same text
	must(t, err, file.Close())
	clock = clock.Add(time.Hour)
	s.tendExpunged(t.Context())
	if _, err := s.openKept(b); !errors.Is(err, ErrNoMessage) {
		t.Errorf("text that is kept no more: %v", err)
	}
}

// TestRestoredAndExpungedAgain has a message be expunged, restored and expunged again.
func TestRestoredAndExpungedAgain(t *testing.T) {
	root := tempRoot(t)
	s := openAt(t, root, nil)
	m := box(t, s)
	deliver(t, m, "text")
	l := snapshotNow(t, s)
	for range 2 {
		expunge(t, m, "INBOX", 1)
		restore(t, s, RestoreOrder{Point: Point{Snapshot: l.ID}})
	}
	expunge(t, m, "INBOX", 1)
	if left, err := filepath.Glob(filepath.Join(root, user, "*", "*,S=*")); err != nil || len(left) > 0 {
		t.Errorf("the folder has %v, %v", left, err)
	}
	if n := len(expungedNames(t, s)); n != 3 { // each under a name of its own
		t.Errorf("%d bodies are kept", n)
	}
}

// TestExpungeFreesAFullDisk fills a small file system again and again with what is then expunged, while a snapshot has it too.
func TestExpungeFreesAFullDisk(t *testing.T) {
	root := smallDisk(t, 4<<20)
	s := open(t, root)
	m := box(t, s)
	big := strings.Repeat("x", 100<<10)
	fill := func() (n int, err error) {
		for ; err == nil; n++ {
			err = deliverText(m, fmt.Sprint(n)+big)
		}
		if !errors.Is(err, unix.ENOSPC) || n < 10 {
			t.Fatalf("after %d messages: %v", n, err)
		}
		return n - 1, nil
	}
	empty := func() {
		inbox := folder(t, m, "INBOX")
		var uids []uint32
		for _, msg := range inbox.Snapshot().Messages {
			uids = append(uids, msg.UID)
		}
		must(t, inbox.SetFlags(uids, add(maildir.Deleted)), inbox.Expunge(all))
	}
	first, _ := fill()
	empty()
	// all that was needed has gone at once, the oldest first, and no more
	if kept := len(expungedNames(t, s)); s.short() || kept == 0 || kept >= first || s.Status().Early == 0 {
		t.Errorf("of %d messages %d are kept, %d went early", first, kept, s.Status().Early)
	}
	s.makeRoomAll(t.Context())
	for range 2 {
		for err := error(nil); err == nil; err = deliverText(m, big) {
			s.makeRoomAll(t.Context()) // as Run does
			if len(folder(t, m, "INBOX").Snapshot().Messages) >= first-3 {
				break
			}
		}
		if n := len(folder(t, m, "INBOX").Snapshot().Messages); n < first-3 {
			t.Fatalf("%d messages find room, %d did before", n, first)
		}
		if _, err := s.TakeSnapshot(t.Context()); err != nil {
			t.Logf("no snapshot: %v", err) // there may be no room for its lists
		}
		empty()
	}
	s.makeRoomAll(t.Context())
	if s.short() {
		t.Error("the disk stays full of what was expunged")
	}
}

// TestTend has a store that runs take a snapshot when the time comes, and one only.
func TestTend(t *testing.T) {
	root := tempRoot(t)
	synctest.Test(t, func(t *testing.T) {
		s, err := OpenWith(Options{Root: root})
		must(t, err)
		m := box(t, s)
		deliver(t, m, "text")
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- s.Run(ctx) }()
		time.Sleep(3 * SnapshotEvery) // of the bubble's clock
		synctest.Wait()
		list := s.Snapshots()
		if len(list) != 4 {
			t.Errorf("in a day and a minute there are %+v", list)
		}
		for i, l := range list {
			if l.Manual || l.Time.Minute() > 1 || l.Time.Hour() != i*8%24 {
				t.Errorf("snapshot is %+v", l)
			}
		}
		cancel()
		must(t, <-ended, s.Close())
	})
}
