package store

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// TestMemoryOfMailboxes measures what a message of a mailbox that was read takes.
func TestMemoryOfMailboxes(t *testing.T) {
	const boxes, messages = 4, 2500
	root := tempRoot(t)
	address := func(i int) string { return fmt.Sprintf("user%d@example.org", i) }
	for i := range boxes {
		cur := filepath.Join(root, address(i), "cur")
		if err := os.MkdirAll(cur, 0o700); err != nil {
			t.Fatal(err)
		}
		for n := range messages {
			write(t, cur, fmt.Sprintf("%d.M123456P12345Q%dT%032x.mail.example.org,S=1,W=1:2,S", 1600000000+1000*n, n, n), "x")
		}
	}
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	for _, found := range []bool{true, false} {
		s := openAt(t, root, nil)
		before := heap()
		for i := range boxes {
			if _, err := s.Mailbox(address(i)); err != nil {
				t.Fatal(err)
			}
		}
		each := (heap() - before) / (boxes * messages)
		t.Logf("%d bytes for each message", each)
		if each > 270 && !found { // adopting leaves more behind for a while
			t.Errorf("a message takes %d bytes", each)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
