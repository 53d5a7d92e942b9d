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

// TestLateBody has a body come after its message went: it is kept like those of other messages that went, and a copy of the
// message gets it.
func TestLateBody(t *testing.T) {
	for _, moved := range []bool{false, true} {
		c, leader, other, b := lackingCluster(t)
		c.set(true, false)
		f := folder(t, c.box(), "INBOX")
		if moved {
			c.set(false, false)
			if err := c.box().Create("other"); err != nil {
				t.Fatal(err)
			}
			c.set(true, false)
			if _, _, err := f.Move([]uint32{2}, "other"); !errors.Is(err, ErrAlone) {
				t.Fatal(err)
			}
		} else {
			c.set(false, false)
			if err := f.SetFlags([]uint32{2}, add(maildir.Deleted)); err != nil {
				t.Fatal(err)
			}
			if err := f.Expunge(all); err != nil {
				t.Fatal(err)
			}
		}
		c.set(false, false)
		c.level()
		for range 2 {
			if err := other.store.TakeBody(b, strings.NewReader("text\n")); err != nil {
				t.Fatal(err)
			}
		}
		left, err := os.ReadDir(filepath.Join(other.root, incomingDir))
		if err != nil || len(left) > 0 {
			t.Errorf("moved %t: left %v, %v", moved, left, err)
		}
		if !other.store.HasBody(b) {
			t.Errorf("moved %t: the body is not kept", moved)
		}
		if list, total := other.store.Missing(10); total > 0 {
			t.Errorf("moved %t: missing are %+v", moved, list)
		}
		c.same()
		c.lead(leader)
	}
}

// TestTextUnderAnotherName has a body of a message that was moved lie in the incoming directory at a start, when the log
// tells no more what it was moved from.
func TestTextUnderAnotherName(t *testing.T) {
	c, _, other, b := lackingCluster(t)
	if err := c.box().Create("other"); err != nil {
		t.Fatal(err)
	}
	c.set(true, false)
	if _, _, err := folder(t, c.box(), "INBOX").Move([]uint32{2}, "other"); !errors.Is(err, ErrAlone) {
		t.Fatal(err)
	}
	c.set(false, false)
	c.level()
	if err := other.store.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	other.end()
	write(t, filepath.Join(other.root, incomingDir), b.Name, "text\n")
	write(t, filepath.Join(other.root, incomingDir), "1.M1P1Q1.elsewhere", "tex!\n")
	other.start(0)
	c.level()
	other.store.Check(t.Context())
	if list, total := other.store.Missing(10); total > 0 {
		t.Errorf("missing are %+v", list)
	}
	c.same()
}

// TestPartThatIsLeft has no part of a body, which an earlier process left, be in the way of another.
func TestPartThatIsLeft(t *testing.T) {
	c, _, other, b := lackingCluster(t)
	for i := range 100 {
		write(t, filepath.Join(other.root, incomingDir), fmt.Sprintf("%s%d", partMark, i), "a longer text than that of the message\n")
	}
	if err := other.store.TakeBody(b, strings.NewReader("text\n")); err != nil {
		t.Fatal(err)
	}
	c.same()
}
