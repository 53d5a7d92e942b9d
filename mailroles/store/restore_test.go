package store

import (
	"os"
	"path/filepath"
	"testing"
	"time"
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
