package mailroles_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-smtp"
	"golang.org/x/sys/unix"

	"anycastle/internal/netnstest"
)

// mount puts a file system of the given size in bytes on a directory.
func mount(t *testing.T, dir string, size int) {
	t.Helper()
	netnstest.Root(t)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

func TestFullDiskIsTemporary(t *testing.T) {
	s := newSite(t)
	spool := t.TempDir()
	mount(t, filepath.Join(s.dir, "lun-east"), 512<<10)
	mount(t, spool, 2<<20)
	s.runAll()
	message := func(size int) string { return "Subject: x\r\n\r\n" + strings.Repeat("x\r\n", size/3) }
	refused := func(what, msg string) {
		t.Helper()
		var reply *smtp.SMTPError
		if err := s.send("x@example.org", []string{alice}, msg); !errors.As(err, &reply) || reply.Code != 451 {
			t.Errorf("%s: %v, want 451", what, err)
		}
	}
	small, big := message(1000), message(1<<20)
	if err := s.send("x@example.org", []string{alice}, small); err != nil {
		t.Fatal(err)
	}
	refused("store is full", big)
	checkMail(t, small, s.mailIn(alice))
	k := s.loggedIn()
	k.write(fmt.Sprintf("a APPEND INBOX {%d}\r\n", len(big)))
	k.expect("+")
	k.write(big + "\r\n")
	k.expect("a NO [UNAVAILABLE]")

	t.Setenv("TMPDIR", spool)
	ballast := filepath.Join(spool, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	refused("spool is full", message(100_000))
	if !strings.Contains(s.log.String(), "message not kept") {
		t.Error("the log does not tell of the full spool")
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	checkMail(t, small, s.mailIn(alice))
	s.empty(alice)
	medium := message(100_000)
	if err := s.send("x@example.org", []string{alice}, medium); err != nil {
		t.Errorf("there is room again: %v", err)
	}
	checkMail(t, medium, s.mailIn(alice))
}

// TestFullDiskCanBeRead marks messages until the disk has no room for more. They can be read and removed all the same.
func TestFullDiskCanBeRead(t *testing.T) {
	s := newSite(t)
	lun := filepath.Join(s.dir, "lun-east")
	mount(t, lun, 512<<10)
	s.runAll()
	for _, text := range []string{"one", "two"} {
		if err := s.send("x@example.org", []string{alice}, "Subject: "+text+"\r\n\r\ntext\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	ballast := filepath.Join(lun, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); err == nil {
		t.Fatal("the disk has no end")
	}
	c := s.login(alice, nil)
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	var err error
	for i := 0; i < 2000 && err == nil; i++ {
		op := []imap.StoreFlagsOp{imap.StoreFlagsAdd, imap.StoreFlagsDel}[i%2]
		err = c.Store(imap.SeqSetNum(2), &imap.StoreFlags{Op: op, Silent: true, Flags: []imap.Flag{imap.FlagFlagged}}, nil).Close()
	}
	if err == nil {
		t.Fatal("there is room for all marks")
	}
	got, err := c.Fetch(imap.SeqSetNum(1), &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{{}}}).Collect()
	if err != nil || len(got) != 1 || !strings.Contains(string(got[0].FindBodySection(&imap.FetchItemBodySection{})), "Subject: one") {
		t.Errorf("reading gives %+v, %v", got, err)
	}
	removed := &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: []imap.Flag{imap.FlagDeleted}}
	if err := c.Store(imap.SeqSetNum(1), removed, nil).Close(); err != nil {
		t.Error(err)
	}
	if gone, err := c.Expunge().Collect(); err != nil || len(gone) != 1 {
		t.Errorf("removal gives %v, %v", gone, err)
	}
	if err := os.Remove(ballast); err != nil { // the store's last checkpoint wants room
		t.Fatal(err)
	}
}
