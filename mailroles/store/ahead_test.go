package store

import (
	"testing"
)

// TestReplicaCrashesAtEveryChange ends a replica at each change of the disk while it does what is in the journal, with one
// checkpoint at the end, or many on the way. What it has then it can go on from: it is never blank.
func TestReplicaCrashesAtEveryChange(t *testing.T) {
	c := newCluster(t, 21, 2)
	c.lead(c.nodes[0])
	m := c.box()
	for i, part := range story {
		if err := part(m); err != nil {
			t.Fatalf("part %d: %v", i, err)
		}
		if i == 3 {
			other, err := c.leader.store.Mailbox("bob@example.org")
			if err != nil {
				t.Fatal(err)
			}
			deliver(t, other, "for bob\n")
		}
		if i == 7 || i == 19 {
			if _, err := c.leader.store.proposeSnapshot(false); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.level()
	for name, every := range map[string]uint64{"one checkpoint": 0, "many checkpoints": 3, "a checkpoint each time": 1} {
		t.Run(name, func(t *testing.T) { c.crashEverywhere(t, every) })
	}
}

// crashEverywhere ends the second replica at changes of the disk. It makes a checkpoint after every so many operations.
func (c *cluster) crashEverywhere(t *testing.T, every uint64) {
	first, step := 1, 1
	if every > 0 || testing.Short() {
		first, step = oneOf(t, 7)
	}
	n := c.nodes[1]
	n.every = every
	changes := 0
	for at := first; ; at += step {
		n.end()
		n.root, n.ever = tempRoot(t), 0
		n.start(at)
		if at%3 == 0 && n.whole { // the bodies are there before the operations, or after
			for _, b := range c.bodies() {
				_ = c.copyBody(c.leader.store, n.store, b) // which may be where it ends
			}
		}
		c.level()
		_ = n.store.Checkpoint() // nor need it get through that
		ended := n.whole && n.store.files.ask("look", "") == nil
		n.end()
		n.start(0)
		c.level()
		c.heal()
		if why := n.store.BlankWhy(); why != "" || n.store.Err() != nil {
			t.Fatalf("crash at %d: blank as %q, %v", at, why, n.store.Err())
		}
		c.same()
		if q, err := n.store.Quarantine(); err != nil || len(q) > 0 {
			t.Fatalf("crash at %d: quarantine %+v, %v", at, q, err)
		}
		if changes++; ended {
			break
		}
	}
	n.every = 0
	if changes*step < 60 {
		t.Errorf("there were only %d changes", changes*step)
	}
}

// bodies gives what the operations brought.
func (c *cluster) bodies() []Body {
	c.t.Helper()
	var list []Body
	for _, record := range c.records {
		o, err := decodeOp(record)
		if err != nil {
			c.t.Fatal(err)
		}
		list = append(list, o.bodies()...)
	}
	return list
}
