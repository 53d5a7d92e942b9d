package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anycastle/mailroles/maildir"
)

// snapshots has all replicas take one at the same operation, and do more before it is written.
func (c *cluster) snapshot(more func()) LUNSnapshot {
	c.t.Helper()
	index, err := c.leader.store.proposeSnapshot(false)
	must(c.t, err)
	more()
	c.level()
	var first LUNSnapshot
	for i, n := range c.nodes {
		n.store.completeSnapshot(c.t.Context(), <-n.store.snapshots.queue)
		list := n.store.Snapshots()
		l := list[len(list)-1]
		if l.Index != index || l.Chain != c.chains[index-1].String() {
			c.t.Errorf("%s has %+v, want that of operation %d", n.name, l, index)
		}
		if i == 0 {
			first = l
		} else if l.ID != first.ID || l.Messages != first.Messages {
			c.t.Errorf("%s has %+v, want %+v", n.name, l, first)
		}
	}
	return first
}

// listed gives what a replica's snapshot says of the mailbox.
func (n *node) listed(l LUNSnapshot) string {
	n.lun.t.Helper()
	was := &past{snapshot: l, state: newState()}
	must(n.lun.t, n.store.readManifest(was, user))
	text := tellFolders(was.state)
	for _, c := range was.state.folders {
		for _, m := range c.messages {
			text += m.Sum + "\n"
		}
	}
	return text
}

// TestSnapshotsOfReplicas has three replicas take a snapshot at one operation while they are at different ones, lose mail, and
// restore it from the snapshot, at whatever replica leads.
func TestSnapshotsOfReplicas(t *testing.T) {
	c := newCluster(t, 3, 3)
	c.lead(c.nodes[0])
	m := c.box()
	fillForRestore(t, m)
	c.level()
	want := dump(t, m)
	l := c.snapshot(func() {
		must(t, flag(m, "INBOX", 1, maildir.Draft), m.Create("Late"), deliverText(m, "late"))
		expunge(t, m, "INBOX", 1, 5)
		must(t, m.Delete("Late"))
	})
	for _, n := range c.nodes {
		if diff := cmp.Diff(c.nodes[0].listed(l), n.listed(l)); diff != "" {
			t.Errorf("%s has another snapshot: %s", n.name, diff)
		}
	}
	expunge(t, m, "INBOX", 2)
	must(t, m.Delete("Work"))
	order := RestoreOrder{Mailbox: user, Point: Point{Snapshot: l.ID}}
	c.level()
	for _, n := range c.nodes { // a dry run goes anywhere
		if p, err := n.store.Plan(order); err != nil || len(p.Messages) != 6 || len(p.Folders) != 1 || p.Lacking > 0 {
			t.Errorf("%s plans %+v, %v", n.name, p, err)
		}
	}
	if _, err := c.nodes[1].store.Restore(t.Context(), order); !errors.Is(err, ErrPassive) {
		t.Errorf("restore at a replica that does not lead: %v", err)
	}
	c.lead(c.nodes[2])
	m = c.box()
	loseBodies(t, c.nodes[2], l)
	restore(t, c.nodes[2].store, order)
	got := dump(t, m)
	if withoutNext := replaceNext(got); withoutNext != replaceNext(want) {
		t.Errorf("restored: %s", cmp.Diff(want, got))
	}
	c.level()
	c.heal()
	c.same()
}

// loseBodies removes what a replica could restore from.
func loseBodies(t *testing.T, n *node, l LUNSnapshot) {
	t.Helper()
	bodies, err := filepath.Glob(filepath.Join(n.root, snapshotDir, l.ID, user, "*", "*"))
	must(t, err)
	gone, err := filepath.Glob(filepath.Join(n.root, expungedDir, "*", "*.M*"))
	must(t, err)
	if len(bodies) != 8 || len(gone) < 6 {
		t.Errorf("there are %q and %q", bodies, gone)
	}
	for _, path := range append(bodies, gone...) {
		must(t, os.Remove(path))
	}
}

// replaceNext has each folder's UIDNEXT be of no account: what came since has its UID.
func replaceNext(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if fields := strings.Split(line, " "); line[0] != ' ' && len(fields) == 4 {
			fields[2] = "-"
			line = strings.Join(fields, " ")
		}
		b.WriteString(line)
	}
	return b.String()
}
