package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestUIDValidityOfRestoredMailbox puts a mailbox back to what it was, and makes a folder again that it had since then.
func TestUIDValidityOfRestoredMailbox(t *testing.T) {
	root, backup := tempRoot(t), filepath.Join(tempRoot(t), "backup")
	dir := filepath.Join(root, user)
	s := openAt(t, root, nil)
	box(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(backup, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	var validity []uint32
	for day := range 2 {
		s := openAt(t, root, nil)
		s.now = func() time.Time { return standstill().AddDate(0, 0, day) }
		m := box(t, s)
		for _, name := range []string{"Work", "Home"} {
			if err := m.Create(name); err != nil {
				t.Fatal(err)
			}
			validity = append(validity, folder(t, m, name).Snapshot().Validity)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(dir, os.DirFS(backup)); err != nil {
			t.Fatal(err)
		}
	}
	for i, v := range validity[1:] {
		if v <= validity[i] {
			t.Errorf("UIDVALIDITY goes %v", validity)
		}
	}
}

// TestQuarantineTellsAll has a crash tear the list, and then lose it. What is in quarantine is told all the same.
func TestQuarantineTellsAll(t *testing.T) {
	root := tempRoot(t)
	s := openAt(t, root, nil)
	list := filepath.Join(quarantineDir, "list")
	write(t, root, list, `{"time":"2023-11-14T2`)
	for _, name := range []string{"odd0", "odd1"} {
		write(t, root, name, "text")
		if err := s.quarantine(name, "is odd"); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]string{"odd0": "is odd", "odd1": "is odd"}
	if diff := cmp.Diff(want, reasons(t, s)); diff != "" {
		t.Errorf("after a torn line: %s", diff)
	}
	remove(t, root, list)
	all, err := s.Quarantine()
	if err != nil || len(all) != 2 {
		t.Fatalf("without its list the quarantine is %+v, %v", all, err)
	}
	for _, q := range all {
		if q.Bytes != 4 || q.Reason != unlisted || !strings.Contains(q.File, "-odd") {
			t.Errorf("without its list: %+v", q)
		}
	}
}

// TestStatusTellsWhy has a mailbox that cannot be read, a checkpoint that fails, and a quarantine that is gone.
func TestStatusTellsWhy(t *testing.T) {
	root, full := tempRoot(t), false
	if err := os.MkdirAll(filepath.Join(root, "odd@example.org"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("cur", filepath.Join(root, "odd@example.org", "cur")); err != nil {
		t.Fatal(err)
	}
	s := openAt(t, root, func(step, _ string) error {
		if full && step == "put" {
			return unix.ENOSPC
		}
		return nil
	})
	box(t, s)
	s.Check(t.Context())
	full = true
	if err := s.Checkpoint(); err == nil {
		t.Error("a checkpoint without room is made")
	}
	if err := os.RemoveAll(filepath.Join(root, quarantineDir)); err != nil {
		t.Fatal(err)
	}
	st := s.Status()
	if len(st.Check.Failures) != 1 || st.Check.Failed != 1 || st.Check.Failures[0].Mailbox != "odd@example.org" ||
		!strings.Contains(st.Check.Failures[0].Why, "too many levels of symbolic links") {
		t.Errorf("failures are %+v", st.Check)
	}
	if !strings.Contains(st.Unsaved, "no space left") || !strings.Contains(st.Unread, "read quarantine") || st.Mailboxes != 2 || st.Index == 0 {
		t.Errorf("status is %+v", st)
	}
	full = false
	if err := s.Checkpoint(); err != nil || s.Status().Unsaved != "" {
		t.Errorf("with room: %v, %+v", err, s.Status())
	}
}
