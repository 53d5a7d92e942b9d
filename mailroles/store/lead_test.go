package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"anycastle/mailroles/maildir"
)

// TestFollow loses the lead with operations under way. What they would have led to is forgotten.
func TestFollow(t *testing.T) {
	c := newCluster(t, 14, 2)
	c.lead(c.nodes[0])
	deliver(t, c.box(), "one\n")
	c.level()
	m := c.box()
	was := m.Usage()
	c.set(false, true)
	told := make(chan error)
	for i := range 4 {
		go func() { _, err := m.Deliver(incoming(fmt.Sprintf("%d\n", i))); told <- err }()
	}
	c.mu.Lock()
	for uint64(len(c.records)) < c.committed+4 {
		c.moved.Wait()
	}
	c.mu.Unlock()
	if now := m.Usage(); now == was {
		t.Errorf("nothing is foreseen: %+v", now)
	}
	c.mu.Lock()
	c.records, c.chains = c.records[:c.committed], c.chains[:c.committed] // none of them comes
	c.mu.Unlock()
	c.lead(c.nodes[1])
	for range 4 {
		if err := <-told; !errors.Is(err, ErrPassive) {
			t.Errorf("told %v", err)
		}
	}
	c.set(false, false)
	if now := m.Usage(); now != was {
		t.Errorf("usage is %+v, not %+v", now, was)
	}
	if _, err := m.Deliver(incoming("x")); !errors.Is(err, ErrPassive) {
		t.Errorf("deliver to one that does not lead: %v", err)
	}
	deliver(t, c.box(), "two\n")
	c.level()
	c.lead(c.nodes[0])
	f := folder(t, c.box(), "INBOX")
	if place, err := f.Append(incoming("three\n")); err != nil || place.UID != 3 {
		t.Errorf("append went to %+v, %v", place, err)
	}
	c.level()
	c.heal()
	c.same()
}

// TestDistrust damages what only the tree has. The replica stops and says that it must be made anew.
func TestDistrust(t *testing.T) {
	for name, spoil := range map[string]func(dir string){
		"list":  func(dir string) { write(t, dir, maildir.UIDListFile, "x") },
		"gone":  func(dir string) { remove(t, dir, maildir.UIDListFile) },
		"index": func(dir string) { write(t, dir, indexFile, "x") },
		"list that lost its end": func(dir string) {
			head, _, _ := strings.Cut(fileText(t, dir, maildir.UIDListFile), "\n")
			write(t, dir, maildir.UIDListFile, head+"\n")
		},
		"list with another UID": func(dir string) {
			list := fileText(t, dir, maildir.UIDListFile)
			write(t, dir, maildir.UIDListFile, strings.Replace(list, "\n1 :", "\n3 :", 1))
		},
		"keywords with another letter": func(dir string) {
			list := fileText(t, dir, maildir.KeywordsFile)
			write(t, dir, maildir.KeywordsFile, strings.Replace(list, "Red", "Bed", 1))
		},
		"letters": func(dir string) {
			write(t, dir, maildir.KeywordsFile, "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, 15, 3)
			c.lead(c.nodes[0])
			deliver(t, c.box(), "one\n")
			if err := flag(c.box(), "INBOX", 1, 0, "Red"); err != nil {
				t.Fatal(err)
			}
			c.level()
			n := c.nodes[1]
			if err := n.store.Checkpoint(); err != nil {
				t.Fatal(err)
			}
			n.end()
			spoil(filepath.Join(n.root, user))
			n.start(0)
			n.store.Check(t.Context())
			if !n.store.Blank() || !errors.Is(n.store.Err(), ErrBlank) {
				t.Errorf("blank %t, %q, %v", n.store.Blank(), n.store.BlankWhy(), n.store.Err())
			}
			deliver(t, c.box(), "two\n")
			c.mu.Lock()
			for n.failed == nil {
				c.moved.Wait()
			}
			c.mu.Unlock()
			if !errors.Is(n.failed, ErrBlank) {
				t.Errorf("stops with %v", n.failed)
			}
		})
	}
}

// fileText reads a file of a folder.
func fileText(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
