package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"anycastle/mailroles/maildir"
)

// reasons gives what is in quarantine, by where it was.
func reasons(t *testing.T, s *Store) map[string]string {
	t.Helper()
	list, err := s.Quarantine()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, q := range list {
		got[q.From] = q.Reason
	}
	return got
}

// TestFilesOfOthers puts mail, and what is none, beside ours. The start after it, and the one after that, must agree.
func TestFilesOfOthers(t *testing.T) {
	root := tempRoot(t)
	s := openAt(t, root, nil)
	m := box(t, s)
	deliver(t, m, "ours")
	if err := m.Create("Work"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	putStrangers(t, root)

	var first string
	for i := range 3 {
		s := openAt(t, root, nil)
		m := box(t, s)
		got := dump(t, m)
		if i == 0 {
			first = got
		}
		if diff := cmp.Diff(first, got); diff != "" {
			t.Errorf("start %d: %s", i, diff)
		}
		want := map[string]string{
			incomingDir + "/debris":    "was never acknowledged",
			user + "/cur/.hidden":      "has a name that no message can have",
			user + "/cur/bad\nname:2,": "has a name that no message can have",
			user + "/cur/a directory":  "is no file",
			user + "/cur/link:2,":      "is no file",
		}
		if diff := cmp.Diff(want, reasons(t, s)); diff != "" {
			t.Errorf("quarantine: %s", diff)
		}
		if n := s.report.Adopted; (n != 4) != (i > 0) || i > 0 && n != 0 {
			t.Errorf("start %d adopted %d messages", i, n)
		}
		die(t, s) // without a checkpoint
	}
	for _, part := range []string{
		`["unknown-1"]`, `1 4 4 231114221320  [] "ours"`, `Found `, `F [] "found"`, `"work"`,
		`2 7 8`, `3 6 6`, // as they came
	} {
		if !strings.Contains(first, part) {
			t.Errorf("no %q in\n%s", part, first)
		}
	}
	if _, err := os.Stat(filepath.Join(root, user, "tmp/half")); err != nil {
		t.Errorf("tmp was touched: %v", err)
	}
	if strings.Contains(first, "No folder") {
		t.Error("a directory without cur is a folder")
	}
}

// putStrangers puts mail, and what is none, into a LUN.
func putStrangers(t *testing.T, root string) {
	t.Helper()
	dir := filepath.Join(root, user)
	for _, made := range []string{"cur/a directory", ".Found/cur", ".Found/new", ".No folder"} {
		if err := os.MkdirAll(filepath.Join(dir, made), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(t, dir, "new/1600000000.M1P1.elsewhere", "theirs\n")
	write(t, dir, "cur/1600000001.M1P1.elsewhere:2,Sb", "seen\r\n")
	write(t, dir, ".Work/cur/1600000002.M1P1.elsewhere,S=4,W=4:2,", "work")
	write(t, dir, ".Found/cur/1600000003.M1P1.elsewhere:2,F", "found")
	write(t, dir, "cur/.hidden", "dot")
	write(t, dir, "cur/bad\nname:2,", "newline")
	write(t, dir, "tmp/half", "half")
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "cur/link:2,")); err != nil {
		t.Fatal(err)
	}
	write(t, root, incomingDir+"/debris", "not acknowledged")
}

func TestDamagedLists(t *testing.T) {
	root := tempRoot(t)
	s := openAt(t, root, nil)
	m := box(t, s)
	deliver(t, m, "one")
	if err := flag(m, "INBOX", 1, maildir.Seen, "$Junk"); err != nil {
		t.Fatal(err)
	}
	if err := m.Create("Work"); err != nil {
		t.Fatal(err)
	}
	if err := transferAll(m, "INBOX", "Work", (*Folder).Copy); err != nil {
		t.Fatal(err)
	}
	before := folder(t, m, "INBOX").Snapshot()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, user)
	write(t, dir, maildir.UIDListFile, "")
	write(t, dir, ".Work/"+maildir.KeywordsFile, "x\n")
	for range 2 {
		s := openAt(t, root, nil)
		m := box(t, s)
		snap := folder(t, m, "INBOX").Snapshot()
		if len(snap.Messages) != 1 || snap.Validity <= before.Validity || !snap.Messages[0].Equal(before.Messages[0].Marks) {
			t.Errorf("INBOX is %+v, and was %+v", snap, before)
		}
		if got := folder(t, m, "Work").Snapshot().Keywords; !cmp.Equal(got, []string{"unknown-0"}) {
			t.Errorf("keywords of Work are %q", got)
		}
		got := reasons(t, s)
		if len(got) != 2 || !strings.Contains(got[user+"/"+maildir.UIDListFile], "UID list is damaged") ||
			!strings.Contains(got[user+"/.Work/"+maildir.KeywordsFile], "keywords file is damaged") {
			t.Errorf("quarantine: %v", got)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLostAndDoubleFiles(t *testing.T) {
	root := tempRoot(t)
	s := openAt(t, root, nil)
	m := box(t, s)
	deliver(t, m, "one")
	deliver(t, m, "two")
	deliver(t, m, "three")
	inbox := folder(t, m, "INBOX")
	if err := inbox.SetFlags([]uint32{3}, add(maildir.Seen)); err != nil {
		t.Fatal(err)
	}
	files := inbox.Snapshot().Messages
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, user)
	remove(t, dir, files[0].file)
	write(t, dir, "new/"+files[2].base, "three, again")
	for i := range 2 {
		s := openAt(t, root, nil)
		m := box(t, s)
		if got := show(t, folder(t, m, "INBOX")); got != "2  two\n3 S three\n" {
			t.Errorf("INBOX is\n%s", got)
		}
		if next := folder(t, m, "INBOX").Snapshot().Next; next != 4 {
			t.Errorf("next UID is %d", next)
		}
		want := []Missing{{Mailbox: user, Folder: "INBOX", UID: 1, File: files[0].base}}
		if diff := cmp.Diff(want, s.report.Missing); i == 0 && diff != "" {
			t.Errorf("missing: %s", diff)
		}
		if diff := cmp.Diff(map[string]string{user + "/new/" + files[2].base: secondFile}, reasons(t, s)); diff != "" {
			t.Errorf("quarantine: %s", diff)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCopiedFolder has somebody copy a folder with all its lists.
func TestCopiedFolder(t *testing.T) {
	root := tempRoot(t)
	s := openAt(t, root, nil)
	m := box(t, s)
	if err := m.Create("Work"); err != nil {
		t.Fatal(err)
	}
	if _, err := folder(t, m, "Work").Append(incoming("one")); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, user)
	if err := os.CopyFS(filepath.Join(dir, ".Work2"), os.DirFS(filepath.Join(dir, ".Work"))); err != nil {
		t.Fatal(err)
	}
	m = box(t, openAt(t, root, nil))
	work, other := folder(t, m, "Work").Snapshot(), folder(t, m, "Work2").Snapshot()
	if work.Validity == other.Validity || len(work.Messages) != 1 || len(other.Messages) != 1 {
		t.Errorf("Work is %+v, its copy %+v", work, other)
	}
	if err := m.Delete("Work2"); err != nil {
		t.Fatal(err)
	}
	if got := show(t, folder(t, m, "Work")); got != "1  one\n" {
		t.Errorf("Work is\n%s", got)
	}
}

// TestInTheWay has others take the names that folders are to have.
func TestInTheWay(t *testing.T) {
	root := tempRoot(t)
	s := openAt(t, root, nil)
	m := box(t, s)
	if err := m.Create("Work"); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, user)
	if err := os.MkdirAll(filepath.Join(dir, ".Old/x"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, dir, ".New", "a file")
	if err := os.Mkdir(filepath.Join(root, "no mailbox"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := m.Rename("Work", "Old"); err != nil {
		t.Fatal(err)
	}
	if err := m.Create("New"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Old", "New"} {
		if _, err := folder(t, m, name).Append(incoming("text")); err != nil {
			t.Fatal(err)
		}
	}
	want := dump(t, m)
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	way := "is in the way of a folder"
	if diff := cmp.Diff(map[string]string{user + "/.Old": way, user + "/.New": way}, reasons(t, s)); diff != "" {
		t.Errorf("quarantine: %s", diff)
	}
	if diff := cmp.Diff(want, dump(t, m)); diff != "" {
		t.Error(diff)
	}
	die(t, s)
	s = openAt(t, root, nil)
	s.Check(t.Context())
	if diff := cmp.Diff(want, dump(t, box(t, s))); diff != "" {
		t.Error(diff)
	}
	if left, err := os.ReadDir(filepath.Join(root, "no mailbox")); err != nil || len(left) > 0 || s.report.Mailboxes != 1 {
		t.Errorf("a directory that is no mailbox has %v, %v; %d mailboxes", left, err, s.report.Mailboxes)
	}
}

// TestUnreadableFolder has a folder of which nobody can tell whether it is one.
func TestUnreadableFolder(t *testing.T) {
	for _, sub := range []string{"", ".Work"} {
		root := tempRoot(t)
		s := openAt(t, root, nil)
		m := box(t, s)
		deliver(t, m, "one")
		if err := m.Create("Work"); err != nil {
			t.Fatal(err)
		}
		want := dump(t, m)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		cur := filepath.Join(root, user, sub, "cur")
		if err := os.Rename(cur, cur+".kept"); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("cur", cur); err != nil {
			t.Fatal(err)
		}
		s = openAt(t, root, nil)
		if _, err := s.Mailbox(user); !errors.Is(err, unix.ELOOP) {
			t.Errorf("%q: mailbox: %v, want ELOOP", sub, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Remove(cur), os.Rename(cur+".kept", cur)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, dump(t, box(t, openAt(t, root, nil)))); diff != "" {
			t.Errorf("%q: once it can be read again: %s", sub, diff)
		}
	}
}
