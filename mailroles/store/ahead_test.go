package store

import (
	"testing"
)

// TestReplicaCrashesAtEveryChange ends a follower at each change of its disk, so that its tree is ahead of its checkpoint
// by any part of the operations; then, opened again, it does the others.
func TestReplicaCrashesAtEveryChange(t *testing.T) {
	step := 1
	if testing.Short() {
		step = 7
	}
	c := newCluster(t, 21, 2)
	c.lead(c.nodes[0])
	m := c.box()
	for i, part := range story {
		if err := part(m); err != nil {
			t.Fatalf("part %d: %v", i, err)
		}
	}
	c.level()
	n := c.nodes[1]
	changes := 0
	for at := 1; ; at += step {
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
		c.same()
		if q, err := n.store.Quarantine(); err != nil || len(q) > 0 {
			t.Fatalf("crash at %d: quarantine %+v, %v", at, q, err)
		}
		if changes++; ended {
			break
		}
	}
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
