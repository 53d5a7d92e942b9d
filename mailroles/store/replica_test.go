package store

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// cluster is a replicated LUN in one process. Its journal is a list; what is below committed stays.
type cluster struct {
	t    *testing.T
	rand *rand.Rand // guarded by mu

	mu        sync.Mutex
	moved     *sync.Cond
	records   [][]byte // record of index i+1
	chains    []Sum
	committed uint64
	leader    *node
	alone     bool // nothing can be proven
	lossy     bool // some bodies do not come by themselves
	mute      bool // and none does
	withhold  bool // what is proposed is not committed
	survey    bool // it is known what the others have
	nodes     []*node
	pushes    sync.WaitGroup

	taking sync.RWMutex    // held while a body is taken
	ended  map[*Store]bool // those whose processes have ended; guarded by taking
}

// node is one replica.
type node struct {
	lun     *cluster
	name    string
	root    string
	doomed  bool // its disk will fail; guarded by the cluster's mu
	store   *Store
	applied uint64 // that this process did
	ever    uint64 // that any process did
	term    int    // counts leaderships, won and lost
	stop    bool
	done    chan struct{}
	process *process
	starts  int
	idle    bool   // the next start does not have it do anything
	every   uint64 // makes a checkpoint after so many operations; 0: it does not
	whole   bool   // the last start came to its end
	failed  error
}

func newCluster(t *testing.T, seed uint64, n int) *cluster {
	c := &cluster{t: t, ended: map[*Store]bool{}, rand: rand.New(rand.NewPCG(seed, 7))}
	c.moved = sync.NewCond(&c.mu)
	for i := range n {
		node := &node{lun: c, name: fmt.Sprintf("node%d", i), root: tempRoot(t)}
		c.nodes = append(c.nodes, node)
		node.start(0)
	}
	t.Cleanup(func() {
		c.pushes.Wait()
		for _, n := range c.nodes {
			if n.store != nil {
				n.end()
			}
		}
	})
	return c
}

// process is a replica from one start to the next. It has no more to do with the LUN after its end.
type process struct {
	*node
	dead bool // guarded by the cluster's mu
}

// start opens a replica's store, which does what has been committed from then on. crashAt is the change of the disk at
// which it ends, or 0.
func (n *node) start(crashAt int) {
	t := n.lun.t
	t.Helper()
	n.lun.mu.Lock()
	n.doomed = crashAt > 0
	n.lun.mu.Unlock()
	var fault func(step, path string) error
	if crashAt > 0 {
		var mu sync.Mutex
		crash := &crash{left: crashAt}
		fault = func(step, path string) error {
			mu.Lock()
			defer mu.Unlock()
			return crash.fault(step, path)
		}
	}
	p := &process{node: n}
	s, err := OpenWith(Options{Root: n.root, Log: slog.New(slog.DiscardHandler), fault: fault, now: standstill, Journal: p})
	if err != nil {
		if crashAt == 0 {
			t.Fatal(err)
		}
		n.start(0)
		n.whole = false
		return
	}
	n.whole = true
	n.starts++
	s.host = fmt.Sprintf("%s-%d", n.name, n.starts) // as the clock stands still, names would not be unique
	n.lun.mu.Lock()
	n.process = p
	n.store, n.stop, n.done, n.failed = s, false, make(chan struct{}), nil
	n.applied = s.Saved().Index
	last := n.ever
	n.lun.mu.Unlock()
	if n.idle {
		close(n.done)
		return
	}
	s.Expect(last)
	go n.run(s)
}

// resume has a replica that was idle do what is committed.
func (n *node) resume() {
	n.lun.mu.Lock()
	n.idle, n.done = false, make(chan struct{})
	n.applied = n.store.Applied().Index
	n.ever = n.applied
	n.lun.mu.Unlock()
	n.store.Expect(n.applied)
	go n.run(n.store)
}

// run does what is committed.
func (n *node) run(s *Store) {
	defer close(n.done)
	c := n.lun
	c.mu.Lock()
	defer c.mu.Unlock()
	every := n.every
	for !n.stop {
		if n.applied >= c.committed || n.failed != nil {
			c.moved.Wait()
			continue
		}
		index := n.applied + 1
		record, chain := c.records[index-1], c.chains[index-1]
		n.ever = max(n.ever, index)
		c.mu.Unlock()
		err := s.Apply(index, chain, record)
		if every > 0 && index%every == 0 {
			_ = s.Checkpoint() // the replica may end here
		}
		c.mu.Lock()
		if n.failed = err; err == nil {
			n.applied = index
		}
		c.moved.Broadcast()
	}
}

// end ends the process of a replica, as a crash does.
func (n *node) end() {
	c := n.lun
	c.mu.Lock()
	if c.leader == n {
		c.leader = nil
	}
	n.term++
	n.stop, n.process.dead = true, true
	s := n.store
	n.store = nil
	c.moved.Broadcast()
	c.mu.Unlock()
	<-n.done
	s.Follow()
	c.taking.Lock()
	c.ended[s] = true
	c.taking.Unlock()
	if err := s.lock.Close(); err != nil {
		c.t.Fatal(err)
	}
}

// lead makes a replica the active store once it has all that is committed. Of what was proposed and not committed, it
// may have a part.
func (c *cluster) lead(n *node) {
	c.t.Helper()
	c.mu.Lock()
	old := c.leader
	c.leader = nil
	if old != nil {
		old.term++
	}
	c.moved.Broadcast()
	c.mu.Unlock()
	if old != nil {
		old.store.Follow()
	}
	c.mu.Lock()
	kept := c.committed + uint64(c.rand.IntN(len(c.records)-int(c.committed)+1))
	c.records, c.chains = c.records[:kept], c.chains[:kept]
	c.committed = kept
	c.moved.Broadcast()
	for n.applied < c.committed && n.failed == nil {
		c.moved.Wait()
	}
	failed := n.failed
	c.mu.Unlock()
	if failed != nil {
		c.t.Fatalf("%s: %v", n.name, failed)
	}
	if err := n.store.Lead(); err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	c.leader = n
	n.term++
	c.mu.Unlock()
}

// level waits until all replicas have done all that is committed.
func (c *cluster) level() {
	c.t.Helper()
	c.pushes.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.nodes {
		for n.store != nil && n.applied < c.committed {
			if n.failed != nil && n.doomed {
				break
			}
			if n.failed != nil {
				c.t.Fatalf("%s stops: %v", n.name, n.failed)
			}
			c.moved.Wait()
		}
	}
}

// heal gets all missing bodies.
func (c *cluster) heal() {
	c.t.Helper()
	for _, n := range c.nodes {
		n.store.Check(c.t.Context()) // what is missing of a mailbox is known when it has been read
		counted(c.t, n.store)
		list, total := n.store.Missing(1 << 20)
		if total != len(list) {
			c.t.Fatalf("%d missing, %d listed", total, len(list))
		}
		for _, b := range list {
			if err := n.process.Fetch(c.t.Context(), b); err != nil {
				c.t.Fatalf("%s: fetch %+v: %v", n.name, b, err)
			}
		}
		if list, total := n.store.Missing(10); total != 0 {
			c.t.Fatalf("%s still misses %d: %+v", n.name, total, list)
		}
		if got, want := n.store.Complete(), n.store.Applied().Index; got != want {
			c.t.Fatalf("%s is complete up to %d of %d: %v, %+v", n.name, got, want, n.store.Err(), n.store.Status())
		}
	}
}

// tellAll tells everything that a replica holds, with the bodies.
func (n *node) tellAll() map[string]string {
	t := n.lun.t
	t.Helper()
	all := map[string]string{}
	for _, address := range n.store.Mailboxes() {
		m, err := n.store.known(address)
		if err != nil {
			t.Fatal(err)
		}
		z := m.freeze()
		var b strings.Builder
		fmt.Fprintf(&b, "%+v %+v\n", z.box, m.Usage())
		for _, f := range z.folders {
			fmt.Fprintf(&b, "%+v\n", f.manifestFolder)
			for _, msg := range f.messages {
				file, _, err := m.byGUID[f.GUID].openHere(msg.UID)
				if err != nil {
					t.Fatalf("%s: %v", n.name, err)
				}
				text, err := io.ReadAll(file)
				if err := errors.Join(err, file.Close()); err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(&b, "%d %d %s %q %s %s %d %q\n", msg.UID, msg.Modseq, msg.Flags, msg.Keywords, msg.base, msg.Sum, msg.Date.Unix(), text)
			}
		}
		if len(z.folders) > 0 {
			all[address] = b.String()
		}
	}
	return all
}

// same fails unless all replicas hold the same.
func (c *cluster) same() map[string]string {
	c.t.Helper()
	want := c.nodes[0].tellAll()
	for _, n := range c.nodes[1:] {
		if diff := cmp.Diff(want, n.tellAll()); diff != "" {
			c.t.Fatalf("%s differs from %s: %s", n.name, c.nodes[0].name, diff)
		}
	}
	for _, address := range slices.Sorted(maps.Keys(want)) {
		changed, sum, err := c.nodes[0].store.Digest(address)
		for _, n := range c.nodes[1:] {
			other, its, oerr := n.store.Digest(address)
			if other != changed || its != sum || errors.Join(err, oerr) != nil {
				c.t.Errorf("digest of %s at %s: %d %s, and %d %s, %v", address, n.name, other, its, changed, sum, errors.Join(err, oerr))
			}
		}
	}
	return want
}

func (c *cluster) box() *Mailbox {
	c.t.Helper()
	return box(c.t, c.leader.store)
}

// TestReplicas has three replicas do the story of the crash tests.
func TestReplicas(t *testing.T) {
	c := newCluster(t, 1, 3)
	c.lead(c.nodes[0])
	m := c.box()
	for i, part := range story {
		if err := part(m); err != nil {
			t.Fatalf("part %d: %v", i, err)
		}
	}
	c.level()
	c.heal()
	got := c.same()
	if len(got) != 1 {
		t.Errorf("%d mailboxes", len(got))
	}
	for _, n := range c.nodes {
		left, err := filepath.Glob(filepath.Join(n.root, incomingDir, "*"))
		if err != nil || len(left) > 0 {
			t.Errorf("%s: left %q, %v", n.name, left, err)
		}
		if q, err := n.store.Quarantine(); err != nil || len(q) > 0 {
			t.Errorf("%s: quarantine %v, %v", n.name, q, err)
		}
	}
}
