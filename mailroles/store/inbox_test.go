package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"anycastle/mailroles/maildir"
)

// fillInbox gives a mailbox two messages in INBOX, and a folder below it.
func fillInbox(t *testing.T, m *Mailbox) {
	t.Helper()
	deliver(t, m, "one")
	deliver(t, m, "two")
	if err := flag(m, "INBOX", 2, maildir.Seen, "$Junk"); err != nil {
		t.Fatal(err)
	}
	if err := m.Create("INBOX.Below"); err != nil {
		t.Fatal(err)
	}
}

// TestRenameInbox has RENAME do with INBOX what RFC 3501 section 6.3.5 wants: its messages move, and it stays.
func TestRenameInbox(t *testing.T) {
	root := tempRoot(t)
	s := openAt(t, root, nil)
	m := box(t, s)
	fillInbox(t, m)
	inbox := folder(t, m, "INBOX")
	before := inbox.Snapshot()
	for name, want := range map[string]error{"INBOX.Below": ErrExists, "inbox": ErrExists, "a..b": maildir.ErrFolderName} {
		if err := m.Rename("INBOX", name); !errors.Is(err, want) {
			t.Errorf("rename to %s: %v, want %v", name, err, want)
		}
	}
	if err := m.Rename("Inbox", "Old.2024"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := show(t, folder(t, m, "Old.2024")); got != "1  one\n2 S two\n" {
			t.Errorf("Old.2024 is\n%s", got)
		}
		now := folder(t, m, "INBOX").Snapshot()
		if len(now.Messages) > 0 || now.Validity != before.Validity || now.Next != 3 {
			t.Errorf("INBOX is %+v, and was %+v", now, before)
		}
		names, err := m.Folders()
		if got := strings.Join(names, " "); err != nil || got != "INBOX INBOX.Below Old.2024" {
			t.Errorf("folders are %s, %v", got, err)
		}
		if use := m.Usage(); use != (Usage{Bytes: 6, Messages: 2}) {
			t.Errorf("usage is %+v", use)
		}
		die(t, s)
		s = openAt(t, root, nil)
		m = box(t, s)
	}
}

// TestRenameInboxOnFullDisk has no room for the names of the messages.
func TestRenameInboxOnFullDisk(t *testing.T) {
	root, full := tempRoot(t), false
	m := box(t, openAt(t, root, func(step, _ string) error {
		if full && step == "link" {
			return unix.ENOSPC
		}
		return nil
	}))
	fillInbox(t, m)
	want := dump(t, m)
	full = true
	if err := m.Rename("INBOX", "Old"); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("rename on a full disk: %v", err)
	}
	if got := dump(t, m); got != want {
		t.Errorf("after it there is\n%s\nwanted\n%s", got, want)
	}
	full = false
	if err := m.Rename("INBOX", "Old"); err != nil {
		t.Errorf("once there is room: %v", err)
	}
	if left, err := os.ReadDir(filepath.Join(root, trashDir)); err != nil || len(left) > 0 {
		t.Errorf("the folder that was not to be leaves %v, %v", left, err)
	}
}

// TestCrashInRenameOfInbox ends a process at each change of the disk: messages are all in INBOX, or all where they go.
func TestCrashInRenameOfInbox(t *testing.T) {
	for n := 1; ; n++ {
		root := tempRoot(t)
		c := &crash{left: 1 << 30}
		s := openAt(t, root, c.fault)
		m := box(t, s)
		fillInbox(t, m)
		c.left = n
		err := m.Rename("INBOX", "Old")
		whole := c.left > 0
		die(t, s)
		s = openAt(t, root, nil)
		m = box(t, s)
		got := map[string]string{}
		names, ferr := m.Folders()
		if ferr != nil {
			t.Fatal(ferr)
		}
		for _, name := range names {
			got[name] = show(t, folder(t, m, name))
		}
		const text = "1  one\n2 S two\n"
		if err == nil && got["Old"] != text || got["INBOX"]+got["Old"] != text {
			t.Fatalf("crash at %d (%s), rename: %v: there is %q", n, c.during, err, got)
		}
		if r := s.report; r.Lost > 0 || r.Odd > 0 || r.Adopted > 0 {
			t.Fatalf("crash at %d (%s): report %+v", n, c.during, r)
		}
		if whole {
			if n < 10 || err != nil {
				t.Errorf("%d changes, %v", n, err)
			}
			return
		}
	}
}
