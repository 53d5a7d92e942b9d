package store

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"anycastle/mailroles/maildir"
)

// lackingCluster has a cluster whose bodies do not come by themselves, and one message that only the leader has.
func lackingCluster(t *testing.T) (c *cluster, leader, other *node, b Body) {
	t.Helper()
	c = newCluster(t, 11, 2)
	c.mute = true
	leader, other = c.nodes[0], c.nodes[1]
	c.lead(leader)
	deliver(t, c.box(), "before\n")
	c.level()
	c.set(true, false)
	if _, err := c.box().Deliver(incoming("text\n")); !errors.Is(err, ErrAlone) {
		t.Fatal(err)
	}
	c.set(false, false)
	c.level()
	list, total := other.store.Missing(10)
	if total != 1 || len(list) != 1 {
		t.Fatalf("missing are %+v", list)
	}
	return c, leader, other, list[0]
}

func TestBodyThatIsMissing(t *testing.T) {
	c, leader, other, b := lackingCluster(t)
	applied := leader.store.Applied().Index
	if got := other.store.Complete(); got != 0 {
		t.Errorf("complete up to %d before all mailboxes were read", got)
	}
	other.store.Check(t.Context())
	if got := other.store.Complete(); got != applied-1 {
		t.Errorf("complete up to %d, not to the one before %d", got, applied)
	}
	if other.store.HasBody(b) || !leader.store.HasBody(b) {
		t.Error("who has the body is wrong")
	}
	if _, err := other.store.OpenBody(b); !errors.Is(err, ErrNoMessage) {
		t.Errorf("open: %v", err)
	}
	for name, text := range map[string]string{"other": "tex!\n", "short": "tex", "long": "text\n\n", "none": ""} {
		if err := other.store.TakeBody(b, strings.NewReader(text)); !errors.Is(err, ErrBody) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, bad := range []Body{{Name: "../x", Sum: b.Sum}, {Name: "a,b", Sum: b.Sum}, {Name: "a", Sum: "00"}, {Mailbox: "..", Name: ".a", Sum: b.Sum}} {
		if err := other.store.TakeBody(bad, strings.NewReader("")); !errors.Is(err, ErrBody) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	for range 2 { // the second time changes nothing
		if err := other.store.TakeBody(b, strings.NewReader("text\n")); err != nil {
			t.Fatal(err)
		}
	}
	if got := other.store.Complete(); got != applied {
		t.Errorf("complete up to %d, not %d", got, applied)
	}
	c.same()
	if left, err := os.ReadDir(filepath.Join(other.root, incomingDir)); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// TestMarksOfMissingMessages outlive a restart although no file's name tells them, and copies get the body as well.
func TestMarksOfMissingMessages(t *testing.T) {
	c, _, other, _ := lackingCluster(t)
	f := folder(t, c.box(), "INBOX")
	if err := f.SetFlags([]uint32{2}, add(maildir.Flagged, "Red")); err != nil {
		t.Fatal(err)
	}
	if err := c.box().Create("copies"); err != nil {
		t.Fatal(err)
	}
	c.set(true, false) // else the body would have to be at the other
	for range 2 {
		if _, _, err := f.Copy([]uint32{2}, "copies"); !errors.Is(err, ErrAlone) {
			t.Fatal(err)
		}
	}
	if _, _, err := f.Move([]uint32{1, 2}, "copies"); !errors.Is(err, ErrAlone) {
		t.Fatal(err)
	}
	c.set(false, false)
	c.level()
	if err := other.store.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	other.end()
	other.start(0)
	c.level()
	other.store.Check(t.Context())
	list, total := other.store.Missing(10)
	if total != 3 || len(list) != 3 {
		t.Fatalf("missing are %+v", list)
	}
	if err := c.copyBody(c.leader.store, other.store, list[1]); err != nil {
		t.Fatal(err)
	}
	if list, total := other.store.Missing(10); total != 0 {
		t.Errorf("one body leaves %+v missing", list)
	}
	c.same()
}

// TestOpenFetches has the leader lack a body that a client asks for.
func TestOpenFetches(t *testing.T) {
	c, leader, other, b := lackingCluster(t)
	c.lead(other)
	f := folder(t, box(t, other.store), "INBOX")
	file, err := f.Open(2)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(file)
	if err := errors.Join(err, file.Close()); err != nil || string(text) != "text\n" {
		t.Errorf("%q, %v", text, err)
	}
	// and once more when the file is lost, and when nobody has it
	lose := func(n *node) {
		m, err := n.store.known(user)
		if err != nil {
			t.Fatal(err)
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		f := m.byName["INBOX"]
		if err := os.Remove(n.store.files.at(f.path(f.messages[1]))); err != nil {
			t.Fatal(err)
		}
	}
	lose(other)
	if file, err = f.Open(2); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	c.level()
	c.same()
	lose(other)
	lose(leader)
	if _, err := f.Open(2); !errors.Is(err, ErrMissing) {
		t.Errorf("nobody has it: %v", err)
	}
	if err := other.store.GiveUp(Body{Mailbox: user, Name: "x"}); !errors.Is(err, ErrNoMessage) {
		t.Errorf("give up what is not missing: %v", err)
	}
	if err := other.store.GiveUp(b); err != nil {
		t.Fatal(err)
	}
	c.level()
	if list, total := other.store.Missing(1); total > 0 {
		t.Errorf("still missing: %+v", list)
	}
	if got := show(t, f); got != "1  before\n\n" {
		t.Errorf("there is %q", got)
	}
}

// TestVerify finds a body that is rotten, and gets it again.
func TestVerify(t *testing.T) {
	c := newCluster(t, 12, 2)
	c.lead(c.nodes[0])
	deliver(t, c.box(), "one\n")
	deliver(t, c.box(), "two\n")
	c.level()
	n := c.nodes[1]
	files, err := filepath.Glob(filepath.Join(n.root, user, "[nc][eu][wr]/*")) // in cur when the body came after the operation
	if err != nil || len(files) != 2 {
		t.Fatalf("%q, %v", files, err)
	}
	if err := os.WriteFile(files[0], []byte("0ne\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	read := 0
	checked, rotten, err := n.store.Verify(t.Context(), user, func(n int) error { read += n; return nil })
	if err != nil || checked != 2 || rotten != 1 || read < 8 {
		t.Fatalf("checked %d, rotten %d, read %d, %v", checked, rotten, read, err)
	}
	if q, err := n.store.Quarantine(); err != nil || len(q) != 1 || !strings.Contains(q[0].Reason, "rotten") {
		t.Errorf("quarantine %+v, %v", q, err)
	}
	c.heal()
	c.same()
	if checked, rotten, err = n.store.Verify(t.Context(), user, func(int) error { return nil }); err != nil || checked != 2 || rotten != 0 {
		t.Errorf("then checked %d, rotten %d, %v", checked, rotten, err)
	}
	stop := errors.New("stop")
	if _, _, err = n.store.Verify(t.Context(), user, func(int) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("rate says no: %v", err)
	}
}

// TestRepetitionIsProven repeats a delivery of which the client was not told, as it could not be proven.
func TestRepetitionIsProven(t *testing.T) {
	c := newCluster(t, 13, 2)
	c.mute = true
	c.lead(c.nodes[0])
	m := c.box()
	in := func() Incoming {
		in := incoming("text\n")
		in.Tx = strings.Repeat("ab", 16)
		return in
	}
	c.set(true, false)
	for range 2 {
		if again, err := m.Deliver(in()); again || !errors.Is(err, ErrAlone) {
			t.Errorf("alone: again %t, %v", again, err)
		}
	}
	c.set(false, false)
	if again, err := m.Deliver(in()); !again || err != nil {
		t.Errorf("not alone: again %t, %v", again, err)
	}
	c.level()
	if list, total := c.nodes[1].store.Missing(1); total > 0 {
		t.Errorf("acknowledged, and the other does not have %+v", list)
	}
	c.same()
	c.lead(c.nodes[1])
	if again, err := c.box().Deliver(in()); !again || err != nil {
		t.Errorf("at the other: again %t, %v", again, err)
	}
}

// TestBodyThatIsAtOneReplica is of a delivery that was not acknowledged, and whose replica is gone. Neither the client's
// repetition is acknowledged, nor a copy, until it is back.
func TestBodyThatIsAtOneReplica(t *testing.T) {
	c := newCluster(t, 16, 3)
	c.mute = true
	c.lead(c.nodes[0])
	if err := c.box().Create("copies"); err != nil {
		t.Fatal(err)
	}
	again := func() error {
		in := incoming("text\n")
		in.Tx = strings.Repeat("ab", 16)
		_, err := c.box().Deliver(in)
		return err
	}
	transfer := func(from string, do func(*Folder, []uint32, string) (uint32, []Pair, error)) error {
		_, _, err := do(folder(t, c.box(), from), []uint32{1}, "copies")
		return err
	}
	c.set(true, false)
	if err := again(); !errors.Is(err, ErrAlone) {
		t.Fatal(err)
	}
	c.set(false, false)
	gone := c.nodes[0]
	gone.end()
	c.lead(c.nodes[1])
	if err := transfer("INBOX", (*Folder).Copy); !errors.Is(err, ErrAlone) {
		t.Errorf("copy: %v", err)
	}
	if err := transfer("INBOX", (*Folder).Move); !errors.Is(err, ErrAlone) {
		t.Errorf("move: %v", err)
	}
	if err := again(); !errors.Is(err, ErrAlone) {
		t.Errorf("repetition: %v", err)
	}
	gone.start(0)
	c.level()
	c.heal()
	if err := again(); err != nil {
		t.Errorf("repetition, with the body: %v", err)
	}
	if err := transfer("copies", (*Folder).Copy); err != nil {
		t.Errorf("copy, with the body: %v", err)
	}
	c.level()
	c.heal()
	c.same()
}

// TestLeftBodies has bodies in the incoming directory of which no operation speaks.
func TestLeftBodies(t *testing.T) {
	c, _, other, b := lackingCluster(t)
	for _, name := range []string{b.Name, "stray"} {
		write(t, filepath.Join(other.root, incomingDir), name, "text\n")
	}
	s := other.store
	if err := s.sweepLeft(time.Now()); err != nil {
		t.Fatal(err)
	}
	if q, err := s.Quarantine(); err != nil || len(q) > 0 {
		t.Errorf("too soon: %+v, %v", q, err)
	}
	if err := s.sweepLeft(time.Now().Add(2 * leftAfter)); err != nil {
		t.Fatal(err)
	}
	q, err := s.Quarantine()
	if err != nil || len(q) != 1 || filepath.Base(q[0].From) != "stray" {
		t.Errorf("quarantine %+v, %v", q, err)
	}
	c.heal()
	c.same()
}

// TestNames forgets the oldest.
func TestNames(t *testing.T) {
	var n names
	first := rand.Text()
	n.add(first)
	for i := range namesKept - 1 {
		n.add(fmt.Sprint(i))
	}
	n.add("0")
	if !n.has[first] || len(n.has) != namesKept {
		t.Errorf("%d names", len(n.has))
	}
	n.add("more")
	if n.has[first] || !n.has["0"] || !n.has["more"] || !slices.Contains(n.ring, "more") {
		t.Error("the oldest stays")
	}
}
