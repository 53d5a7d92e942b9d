package store

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"anycastle/mailroles/maildir"
)

// restoreMessages is how many messages a LUN has from which one is restored.
const restoreMessages = 100_000

// BenchmarkRestore restores one message of a LUN with 100,000 that are all in one mailbox, which is the worst case: of other
// mailboxes nothing is read.
func BenchmarkRestore(b *testing.B) {
	root := b.TempDir()
	cur := filepath.Join(root, user, "cur")
	if err := os.MkdirAll(cur, 0o700); err != nil {
		b.Fatal(err)
	}
	for i := range restoreMessages {
		text := fmt.Appendf(nil, "Subject: number %d\nMessage-ID: <m%d@example.org>\n\ntext\n", i, i)
		if err := os.WriteFile(filepath.Join(cur, fmt.Sprintf("%d.x:2,S", 1_700_000_000+i)), text, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	s, err := Open(root, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	m, err := s.Mailbox(user)
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	l, err := s.TakeSnapshot(b.Context())
	if err != nil || l.Messages != restoreMessages {
		b.Fatal(l, err)
	}
	b.Logf("snapshot of %d messages by %s took %v", l.Messages, l.Method, time.Since(began).Round(time.Millisecond))
	inbox, err := m.Folder(maildir.Inbox)
	if err != nil {
		b.Fatal(err)
	}
	worst := time.Duration(0)
	for n := 0; b.Loop(); n++ {
		uid := uint32(1 + n*7919%restoreMessages)
		b.StopTimer()
		if err := inbox.SetFlags([]uint32{uid}, add(maildir.Deleted)); err != nil {
			b.Fatal(err)
		}
		if err := inbox.Expunge(all); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		began := time.Now()
		order := RestoreOrder{Mailbox: user, Folder: maildir.Inbox, UID: uid, Point: Point{Snapshot: l.ID}}
		if done, err := s.Restore(b.Context(), order); err != nil || done.Put != 1 {
			b.Fatal(done, err)
		}
		worst = max(worst, time.Since(began))
		if msg, ok := inbox.Message(uid); !ok || msg.Flags != maildir.Seen {
			b.Fatal("the message is not back")
		}
	}
	b.ReportMetric(worst.Seconds(), "worst-s")
}
