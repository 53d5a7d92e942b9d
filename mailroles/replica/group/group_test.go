package group

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"anycastle/mailroles/replica/chain"
)

// quick are times for members in one process, on a machine that is busy with other things.
var quick = Times{
	Heartbeat: 800 * time.Millisecond, Election: 800 * time.Millisecond, Lease: 600 * time.Millisecond,
	Commit: 5 * time.Millisecond, Stall: 5 * time.Second, RPC: 800 * time.Millisecond,
}

// patience is for what says nothing of how fast we are: the machine may be busy with other things.
const patience = time.Minute

// eventually waits for something to be so.
func eventually(t *testing.T, within time.Duration, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !so(); {
		if time.Now().After(end) {
			t.Fatalf("after %v still not so: %s", within, what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// node is one member in a test.
type node struct {
	name  string
	dir   string
	state *fakeState // nil on the witness
	conns chan net.Conn
	opts  Options

	mu     sync.Mutex
	g      *Group
	led    []uint64
	leads  bool
	broken error

	stop context.CancelFunc
	done chan error
}

func (n *node) group() *Group {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.g
}

func (n *node) leading() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.leads
}

func (n *node) failure() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.broken
}

type cluster struct {
	t       *testing.T
	net     *network
	members []Member
	nodes   map[string]*node
}

var five = []Member{
	{Name: "e1", Site: "east"}, {Name: "e2", Site: "east"}, {Name: "w1", Site: "west"}, {Name: "w2", Site: "west"},
	{Name: "wit", Site: "third", Witness: true},
}

var three = []Member{{Name: "e1", Site: "east"}, {Name: "w1", Site: "west"}, {Name: "wit", Site: "third", Witness: true}}

// newCluster makes members that are all voters, and not started.
func newCluster(t *testing.T, members []Member, set func(*Options)) *cluster {
	t.Helper()
	c := &cluster{
		t: t, members: members, nodes: map[string]*node{},
		net: &network{ways: map[[2]string]bool{}, conns: map[string]chan net.Conn{}, open: map[*wire]bool{}},
	}
	for _, m := range members {
		n := &node{name: m.Name, dir: t.TempDir()}
		if !m.Witness {
			n.state = &fakeState{t: t}
		}
		n.opts = Options{LUN: "lun-east", Self: m.Name, Members: members, Dir: n.dir, Times: quick}
		n.opts.test.segment = 256 << 10
		n.opts.test.trailing = 16
		n.opts.Log = testLog(t)
		if set != nil {
			set(&n.opts)
		}
		c.nodes[m.Name] = n
	}
	t.Cleanup(c.stopAll)
	return c
}

// testLog logs to standard error when a test is looked at closely.
func testLog(t *testing.T) *slog.Logger {
	var out io.Writer = io.Discard
	level := slog.LevelInfo
	if os.Getenv("GROUP_LOG") != "" {
		out = os.Stderr
	}
	if os.Getenv("GROUP_LOG") == "debug" {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: level})).With("test", t.Name())
}

// running makes a cluster of which all members run and vote.
func running(t *testing.T, members []Member, set func(*Options)) *cluster {
	t.Helper()
	c := newCluster(t, members, set)
	first := members[0].Name
	if err := Bootstrap(c.nodes[first].dir, first, chain.Position{}); err != nil {
		t.Fatal(err)
	}
	c.start(first)
	eventually(t, patience, "the first member leads", c.nodes[first].leading)
	for _, m := range members[1:] {
		c.join(m.Name)
	}
	return c
}

// lead does something at the leader, again if another leads by then.
func (c *cluster) lead(do func(l *node) error) {
	c.t.Helper()
	for {
		err := do(c.leader())
		if err == nil {
			return
		}
		if !errors.Is(err, ErrPassive) {
			c.t.Fatal(err)
		}
	}
}

// join seeds a blank member and makes it a voter.
func (c *cluster) join(name string) {
	c.t.Helper()
	n := c.nodes[name]
	c.lead(func(l *node) error {
		if err := l.group().Admit(c.t.Context(), name); err != nil {
			return err
		}
		at := l.group().Status().Applied
		if n.state != nil {
			at = n.state.install(l.state)
		}
		seed, err := l.group().Base(at)
		if err != nil {
			return err
		}
		return Seed(n.dir, at, seed)
	})
	c.start(name)
	eventually(c.t, patience, name+" follows", func() bool {
		l := c.leader().group()
		return l.Matched(name) >= l.Matched(l.o.Self)
	})
	c.lead(func(l *node) error { return l.group().Promote(c.t.Context(), name) })
}

func (c *cluster) start(name string) {
	c.t.Helper()
	if err := c.tryStart(name); err != nil {
		c.t.Fatalf("start %s: %v", name, err)
	}
}

func (c *cluster) tryStart(name string) error {
	n := c.nodes[name]
	n.conns = make(chan net.Conn)
	o := n.opts
	o.Conns, o.Dial = n.conns, c.net.dial(name)
	if n.state != nil {
		o.Machine = n.state
	}
	o.Led = func(term uint64) {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.leads || len(n.led) > 0 && n.led[len(n.led)-1] >= term {
			c.t.Errorf("%s: Led(%d) after %v, leads %v", name, term, n.led, n.leads)
		}
		n.led, n.leads = append(n.led, term), true
	}
	o.Lost = func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if !n.leads {
			c.t.Errorf("%s: Lost without Led", name)
		}
		n.leads = false
	}
	o.Broken = func(err error) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.broken = err
	}
	g, err := Open(o)
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.g, n.broken = g, nil
	n.mu.Unlock()
	ctx, stop := context.WithCancel(context.Background())
	n.stop, n.done = stop, make(chan error, 1)
	go func() { n.done <- g.Run(ctx) }()
	c.net.mu.Lock()
	c.net.conns[name] = n.conns
	c.net.mu.Unlock()
	return nil
}

// unplug has nobody reach a member any more, and its connections broken.
func (c *cluster) unplug(name string) {
	c.net.mu.Lock()
	delete(c.net.conns, name)
	var all []*wire
	for w := range c.net.open {
		if w.way[0] == name || w.way[1] == name {
			all = append(all, w)
		}
	}
	c.net.mu.Unlock()
	for _, w := range all {
		w.Close()
	}
}

// kill ends a member without notice: what its state had not saved is lost.
func (c *cluster) kill(name string) {
	n := c.nodes[name]
	if n.stop == nil {
		return
	}
	c.unplug(name)
	g := n.group()
	g.health.fail(errKilled) // nothing is written from here on
	<-n.done
	n.stop()
	n.stop = nil
	if n.state != nil {
		n.state.crash()
	}
}

var errKilled = errors.New("killed")

func (c *cluster) shut(name string) error {
	n := c.nodes[name]
	if n.stop == nil {
		return nil
	}
	n.stop()
	n.stop = nil
	err := <-n.done
	c.unplug(name)
	if err != nil && n.state != nil {
		n.state.crash()
	}
	return err
}

func (c *cluster) stopAll() {
	for _, m := range c.members {
		if err := c.shut(m.Name); err != nil && !errors.Is(err, errKilled) {
			c.t.Logf("%s ended with: %v", m.Name, err)
		}
	}
}

// leader waits for a member that leads.
func (c *cluster) leader() *node {
	c.t.Helper()
	var found *node
	eventually(c.t, patience, "a member leads", func() bool {
		for _, n := range c.nodes {
			if n.stop != nil && n.leading() && n.group().Lease() == nil {
				found = n
				return true
			}
		}
		return false
	})
	return found
}

// add appends an operation and waits for it.
func (n *node) add(record string) (uint64, error) {
	wait, err := n.group().Append([]byte(record))
	if err != nil {
		return 0, err
	}
	return wait()
}

// agree waits until all replicas that run have applied the same, and gives it.
func (c *cluster) agree() []string {
	c.t.Helper()
	var all []string
	eventually(c.t, patience, "all replicas have applied the same", func() bool {
		l := c.leader()
		last := l.group().journal.tip()
		for _, n := range c.nodes {
			if n.stop != nil && n.group().Status().Applied != last {
				return false
			}
		}
		all = l.state.all()
		return true
	})
	for _, n := range c.nodes {
		if n.stop != nil && n.state != nil && !slices.Equal(n.state.all(), all) {
			c.t.Fatalf("%s has applied other operations than the leader", n.name)
		}
	}
	return all
}

func records(n int, what string) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("%s-%d", what, i))
	}
	return all
}
