package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"anycastle/internal/netnstest"
	"anycastle/mailroles/maildir"
)

// smallDisk mounts a file system of the given size in bytes.
func smallDisk(t *testing.T, size int) string {
	t.Helper()
	netnstest.Root(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestFullDisk(t *testing.T) {
	root := smallDisk(t, 600<<10)
	s := open(t, root)
	m := box(t, s)
	stored, want := 0, ""
	_, err := m.Deliver(incoming("0"))
	for err == nil {
		want += fmt.Sprintf("%d  %d\n", stored+1, stored)
		stored++
		_, err = m.Deliver(incoming(fmt.Sprint(stored)))
	}
	if !errors.Is(err, unix.ENOSPC) || stored < 10 {
		t.Fatalf("stored %d messages, then %v; want no space", stored, err)
	}
	if got := show(t, folder(t, m, "INBOX")); got != want {
		t.Errorf("stored %d messages, INBOX is\n%s", stored, got)
	}
	if err := os.Remove(filepath.Join(root, user, folder(t, m, "INBOX").Snapshot().Messages[0].file)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "rest"), make([]byte, 64<<10), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	s.Close()

	// still full: what is there can be read, and removing some of it makes room
	m = box(t, open(t, root))
	inbox := folder(t, m, "inbox")
	_, want, _ = strings.Cut(want, "\n")
	if got := show(t, inbox); got != want {
		t.Errorf("after a restart INBOX is\n%s", got)
	}
	if _, err := m.Deliver(incoming("late")); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("delivery to a full disk: %v", err)
	}
	if err := inbox.SetFlags([]uint32{2, 3}, add(maildir.Deleted)); err != nil {
		t.Fatal(err)
	}
	if err := inbox.Expunge(all); err != nil {
		t.Fatal(err)
	}
	deliver(t, m, "late")
	if snap := inbox.Snapshot(); len(snap.Messages) != stored-2 || snap.Messages[stored-3].UID <= uint32(stored) {
		t.Errorf("%d messages of %d, the last is %+v", len(snap.Messages), stored, snap.Messages[len(snap.Messages)-1])
	}
}

// TestFullDiskKeepsRoomForRemoval marks messages on a full disk for as long as that goes. They can be removed all the same.
func TestFullDiskKeepsRoomForRemoval(t *testing.T) {
	root := smallDisk(t, 600<<10)
	m := box(t, open(t, root))
	deliver(t, m, "0")
	deliver(t, m, "1")
	if err := os.WriteFile(filepath.Join(root, "rest"), make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	inbox := folder(t, m, "INBOX")
	var err error
	for i := 0; i < 2000 && err == nil; i++ {
		err = inbox.SetFlags([]uint32{1}, func(Marks) Marks { return Marks{Flags: maildir.Flags((i+1)%2) * maildir.Seen} })
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("marks on a full disk end with %v", err)
	}
	if err := inbox.SetFlags([]uint32{1}, add(maildir.Deleted)); err != nil {
		t.Errorf("flag for removal: %v", err)
	}
	if err := inbox.Expunge(all); err != nil {
		t.Errorf("removal: %v", err)
	}
	if got := show(t, inbox); got != "2  1\n" {
		t.Errorf("INBOX is\n%s", got)
	}
}
