package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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

// TestCopyUnderANewLeader copies a message of which the replica that led before could not prove that the other site has its
// body. The new one has the body, and does not know that: before it acknowledges the copy, the other site must have it.
func TestCopyUnderANewLeader(t *testing.T) {
	for name, do := range map[string]func(*Folder, []uint32, string) (uint32, []Pair, error){
		"copy": (*Folder).Copy, "move": (*Folder).Move,
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, 17, 3)
			c.mute, c.survey = true, true
			old, next, far := c.nodes[0], c.nodes[1], c.nodes[2]
			c.lead(old)
			deliver(t, c.box(), "before\n")
			if err := c.box().Create("copies"); err != nil {
				t.Fatal(err)
			}
			c.level()
			c.heal()
			c.set(true, false)
			if _, err := c.box().Deliver(incoming("text\n")); !errors.Is(err, ErrAlone) {
				t.Fatal(err)
			}
			c.set(false, false)
			c.level()
			list, _ := next.store.Missing(1)
			if len(list) != 1 {
				t.Fatalf("missing are %+v", list)
			}
			if err := c.copyBody(old.store, next.store, list[0]); err != nil {
				t.Fatal(err)
			}
			old.end()
			c.lead(next)
			if _, _, err := do(folder(t, c.box(), "INBOX"), []uint32{2}, "copies"); err != nil {
				t.Fatal(err)
			}
			c.level()
			if list, total := far.store.Missing(9); total > 0 {
				t.Errorf("acknowledged, and the other site does not have %+v", list)
			}
			far.store.Check(t.Context())
			if got := box(t, c.leader.store).proofs(folder(t, c.box(), "copies").messages); len(got) > 0 {
				t.Errorf("the other site has all, and yet these are to be proven: %+v", got)
			}
			c.nodes = c.nodes[1:]
			c.same()
		})
	}
}

// TestOldBodyComesAgain has a replica say that it has the body of a message that it placed before its last start.
func TestOldBodyComesAgain(t *testing.T) {
	c := newCluster(t, 18, 2)
	c.lead(c.nodes[0])
	deliver(t, c.box(), "text\n")
	c.level()
	m, err := c.nodes[1].store.known(user)
	if err != nil {
		t.Fatal(err)
	}
	b := m.body(m.byName["INBOX"].messages[0])
	n := c.nodes[1]
	n.end()
	n.start(0)
	c.level()
	// A body that came twice at the same time, when it was new, waits for the next tidying.
	if err := os.RemoveAll(filepath.Join(n.root, bodyPath(b.Name))); err != nil {
		t.Fatal(err)
	}
	n.store.now = func() time.Time { return standstill().Add(2 * placedLately) }
	if err := n.store.TakeBody(b, strings.NewReader("text\n")); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(filepath.Join(n.root, incomingDir)); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
	c.same()
}
