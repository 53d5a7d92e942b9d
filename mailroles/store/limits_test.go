package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anycastle/mailroles/maildir"
)

func TestKeywordsOutliveARestart(t *testing.T) {
	root := tempRoot(t)
	s := open(t, root)
	m := box(t, s)
	deliver(t, m, "one")
	in := incoming("two")
	in.Keywords = []string{"$Junk", "$Forwarded"}
	inbox := folder(t, m, "INBOX")
	if _, err := inbox.Append(in); err != nil {
		t.Fatal(err)
	}
	if err := inbox.SetFlags([]uint32{1}, add(maildir.Seen, "Work", "$Junk")); err != nil {
		t.Fatal(err)
	}
	if err := m.Create("Other"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := inbox.Copy([]uint32{1}, "Other"); err != nil {
		t.Fatal(err)
	}
	check := func(f *Folder, uid uint32, want ...string) {
		t.Helper()
		msg, ok := f.Message(uid)
		if !ok {
			t.Fatalf("no message %d", uid)
		}
		if diff := cmp.Diff(want, msg.Keywords); diff != "" {
			t.Errorf("keywords of %d: %s", uid, diff)
		}
	}
	for range 2 {
		check(folder(t, m, "INBOX"), 1, "$Junk", "Work")
		check(folder(t, m, "INBOX"), 2, "$Junk", "$Forwarded")
		check(folder(t, m, "Other"), 1, "$Junk", "Work")
		if diff := cmp.Diff([]string{"$Junk", "$Forwarded", "Work"}, folder(t, m, "INBOX").Snapshot().Keywords); diff != "" {
			t.Errorf("keywords of INBOX: %s", diff)
		}
		s.Close()
		s = open(t, root)
		m = box(t, s)
	}
}

// TestLettersWithoutKeywords has messages whose letters no list explains, and a new keyword before a crash.
func TestLettersWithoutKeywords(t *testing.T) {
	for _, damaged := range []string{"", "x\n"} {
		root := tempRoot(t)
		s := openAt(t, root, nil)
		m := box(t, s)
		deliver(t, m, "one")
		deliver(t, m, "two")
		if err := flag(m, "INBOX", 1, 0, "Red", "Blue"); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(root, user), maildir.KeywordsFile, damaged)
		s = openAt(t, root, nil)
		m = box(t, s)
		if err := flag(m, "INBOX", 2, 0, "Green"); err != nil {
			t.Fatal(err)
		}
		want := dump(t, m)
		if !strings.Contains(want, `["unknown-0" "unknown-1"] "one"`) || !strings.Contains(want, `["Green"] "two"`) {
			t.Errorf("there is\n%s", want)
		}
		for range 2 {
			die(t, s)
			s = openAt(t, root, nil)
			if diff := cmp.Diff(want, dump(t, box(t, s))); diff != "" {
				t.Errorf("after a crash: %s", diff)
			}
		}
	}
}

func TestKeywordsRunOut(t *testing.T) {
	m := box(t, open(t, tempRoot(t)))
	deliver(t, m, "one")
	inbox := folder(t, m, "INBOX")
	for i := range maildir.MaxKeywords {
		if err := inbox.SetFlags([]uint32{1}, add(0, fmt.Sprintf("k%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	before := show(t, inbox)
	if err := inbox.SetFlags([]uint32{1}, add(maildir.Seen, "more")); !errors.Is(err, ErrKeywords) {
		t.Errorf("27 keywords: %v, want ErrKeywords", err)
	}
	if err := inbox.SetFlags([]uint32{1}, add(maildir.Seen, "no name")); !errors.Is(err, maildir.ErrKeywordName) {
		t.Errorf("keyword with a space: %v, want ErrKeywordName", err)
	}
	in := incoming("two")
	in.Keywords = []string{"more"}
	if _, err := inbox.Append(in); !errors.Is(err, ErrKeywords) {
		t.Errorf("append with a new keyword: %v, want ErrKeywords", err)
	}
	if got := show(t, inbox); got != before {
		t.Errorf("INBOX was\n%s and is\n%s", before, got)
	}
}

func TestQuota(t *testing.T) {
	root := tempRoot(t)
	s := open(t, root)
	m := box(t, s)
	m.SetLimit(Limit{Bytes: 10, Messages: 2})
	deliver(t, m, "12345")
	if err := m.Fits(6); !errors.Is(err, ErrQuota) {
		t.Errorf("6 bytes more: %v, want ErrQuota", err)
	}
	read := 0
	big := incoming("123456")
	big.Body = counting{&read}
	if _, err := m.Deliver(big); !errors.Is(err, ErrQuota) || read != 0 {
		t.Errorf("delivery over the quota: %v after %d bytes, want ErrQuota before any", err, read)
	}
	if _, err := folder(t, m, "INBOX").Append(incoming("12345")); err != nil {
		t.Errorf("append up to the quota: %v", err)
	}
	if err := m.Fits(0); !errors.Is(err, ErrQuota) {
		t.Errorf("a third message: %v, want ErrQuota", err)
	}
	if err := m.Create("Other"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := folder(t, m, "INBOX").Copy([]uint32{1}, "Other"); !errors.Is(err, ErrQuota) {
		t.Errorf("copy over the quota: %v, want ErrQuota", err)
	}
	if _, _, err := folder(t, m, "INBOX").Move([]uint32{1}, "Other"); err != nil {
		t.Errorf("move within the quota: %v", err)
	}
	s.Close()
	if got := box(t, open(t, root)).Usage(); got != (Usage{Bytes: 10, Messages: 2}) {
		t.Errorf("usage after a restart is %+v", got)
	}
}

type counting struct{ n *int }

func (c counting) Read(p []byte) (int, error) {
	*c.n += len(p)
	return len(p), nil
}

func TestLUNIsFull(t *testing.T) {
	root := tempRoot(t)
	s := open(t, root)
	for i := range maxMailboxes {
		if err := os.Mkdir(filepath.Join(root, fmt.Sprintf("user%d@example.org", i)), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Mailbox(user); !errors.Is(err, ErrFull) {
		t.Errorf("mailbox 1001: %v, want ErrFull", err)
	}
	if _, err := s.Mailbox("user0@example.org"); err != nil {
		t.Errorf("a mailbox that is there: %v", err)
	}
	if _, err := os.Stat(filepath.Join(root, user)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the refused mailbox has a directory: %v", err)
	}
}

func TestDeliveryMakesItsFolder(t *testing.T) {
	m := box(t, open(t, tempRoot(t)))
	for range 2 {
		in := incoming("held")
		in.Folder = "Quarantine"
		if _, err := m.Deliver(in); err != nil {
			t.Fatal(err)
		}
	}
	if got := show(t, folder(t, m, "Quarantine")); got != "1  held\n2  held\n" {
		t.Errorf("Quarantine is\n%s", got)
	}
	if got := show(t, folder(t, m, "INBOX")); got != "" {
		t.Errorf("INBOX is\n%s", got)
	}
}

func TestQuotaHoldsAtOnce(t *testing.T) {
	m := box(t, openAt(t, tempRoot(t), nil))
	m.SetLimit(Limit{Messages: 10})
	var wg sync.WaitGroup
	var taken atomic.Int64
	for range 30 {
		wg.Go(func() {
			_, err := m.Deliver(incoming("x"))
			if err == nil {
				taken.Add(1)
			} else if !errors.Is(err, ErrQuota) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(folder(t, m, "INBOX").Snapshot().Messages); n != 10 || taken.Load() != 10 || m.Usage() != (Usage{10, 10}) {
		t.Errorf("%d messages, %d taken, usage %+v", n, taken.Load(), m.Usage())
	}
	if left, err := os.ReadDir(filepath.Join(m.store.root, incomingDir)); err != nil || len(left) > 0 {
		t.Errorf("the incoming directory has %v, %v", left, err)
	}
}

// TestTwinDeliveries delivers the same transaction many times at once: one of them is done, and all succeed.
func TestTwinDeliveries(t *testing.T) {
	m := box(t, openAt(t, tempRoot(t), nil))
	var wg sync.WaitGroup
	var first atomic.Int64
	for range 20 {
		wg.Go(func() {
			in := incoming("x")
			in.Tx = strings.Repeat("1a", 16)
			again, err := m.Deliver(in)
			if err != nil {
				t.Error(err)
			}
			if len(folder(t, m, "INBOX").Snapshot().Messages) != 1 {
				t.Error("a delivery is said to be done before it is")
			}
			if !again {
				first.Add(1)
			}
		})
	}
	wg.Wait()
	if first.Load() != 1 {
		t.Errorf("%d deliveries were the first", first.Load())
	}
	if left, err := os.ReadDir(filepath.Join(m.store.root, incomingDir)); err != nil || len(left) > 0 {
		t.Errorf("the incoming directory has %v, %v", left, err)
	}
}

func TestMailIsClaimedOnce(t *testing.T) {
	m := box(t, open(t, tempRoot(t)))
	inbox := folder(t, m, "INBOX")
	check := func(claim bool, from, next uint32) {
		t.Helper()
		if f, n := inbox.Recent(claim); f != from || n != next {
			t.Errorf("recent are %d up to %d, want %d up to %d", f, n, from, next)
		}
	}
	check(true, 1, 1)
	deliver(t, m, "one")
	deliver(t, m, "two")
	check(false, 1, 3)
	check(true, 1, 3)
	check(true, 3, 3)
	deliver(t, m, "three")
	check(false, 3, 4)
}
