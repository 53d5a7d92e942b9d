package group

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"

	"anycastle/mailroles/replica/chain"
)

// load appends without end until stop is called, which waits for it.
func (c *cluster) load(pause time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			for _, m := range c.members {
				if n := c.nodes[m.Name]; !m.Witness && n.leading() {
					n.add(fmt.Sprintf("load-%d", i)) // whatever becomes of it
				}
			}
			time.Sleep(pause)
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// TestSeedIsNewerThanAdmission has a member seeded again and again at an operation that the leader proposed after it
// admitted the member: the leader begins to send before the member's log begins, and must not go back from there.
func TestSeedIsNewerThanAdmission(t *testing.T) {
	t.Parallel()
	c := running(t, three, nil)
	stop := c.load(time.Millisecond)
	defer stop()
	for range 3 {
		c.kill("w1")
		w1 := c.nodes["w1"]
		var at chain.Position
		c.lead(func(l *node) error {
			if err := l.group().Admit(t.Context(), "w1"); err != nil {
				return err
			}
			admitted := l.group().Status().Applied.Index
			eventually(t, 20*time.Second, "much is appended after the admission", func() bool {
				return !l.leading() || l.group().Status().Applied.Index > admitted+200
			})
			at = w1.state.install(l.state)
			seed, err := l.group().Base(at)
			if err != nil {
				return err
			}
			return Seed(w1.dir, at, seed)
		})
		c.start("w1")
		eventually(t, 20*time.Second, "w1 follows", func() bool {
			if err := w1.failure(); err != nil {
				t.Fatalf("w1 is broken: %v", err)
			}
			return c.leader().group().Matched("w1") > at.Index
		})
		c.lead(func(l *node) error { return l.group().Promote(t.Context(), "w1") })
	}
	stop()
	c.agree()
}

// TestSound has the library see no more of a request than is true of this member.
func TestSound(t *testing.T) {
	type seen struct{ Prev, PrevTerm, First, Last, Commit uint64 }
	for _, test := range []struct {
		name              string
		prev, first, last uint64
		commit, marker    uint64
		want              seen
	}{
		{"after the marker", 20, 21, 25, 22, 10, seen{20, 3, 21, 25, 22}},
		{"more is committed than is sent", 20, 21, 25, 30, 10, seen{20, 3, 21, 25, 25}},
		{"nothing is sent, and more is committed", 20, 0, 0, 30, 10, seen{20, 3, 0, 0, 20}},
		{"at the marker", 10, 11, 12, 12, 10, seen{0, 0, 11, 12, 12}},
		{"around the marker", 7, 8, 12, 20, 10, seen{0, 0, 11, 12, 12}},
		{"before the marker", 3, 4, 9, 20, 10, seen{0, 0, 0, 0, 9}},
		{"from the beginning", 0, 1, 12, 20, 10, seen{0, 0, 11, 12, 12}},
		{"nothing, before the marker", 3, 0, 0, 20, 10, seen{0, 0, 0, 0, 3}},
	} {
		t.Run(test.name, func(t *testing.T) {
			req := &raft.AppendEntriesRequest{PrevLogEntry: test.prev, PrevLogTerm: 3, LeaderCommitIndex: test.commit}
			for i := test.first; i > 0 && i <= test.last; i++ {
				req.Entries = append(req.Entries, &raft.Log{Index: i, Term: 3})
			}
			r := sound(req, test.marker)
			got := seen{Prev: r.PrevLogEntry, PrevTerm: r.PrevLogTerm, Commit: r.LeaderCommitIndex}
			if n := len(r.Entries); n > 0 {
				got.First, got.Last = r.Entries[0].Index, r.Entries[n-1].Index
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if want := int(max(test.last+1, test.first) - test.first); test.first > 0 && len(req.Entries) != want {
				t.Errorf("the request itself was changed: %d entries, %d before", len(req.Entries), want)
			}
		})
	}
}

// TestLostTailIsNotCommitted has a member with an operation that no other has hear of a leader that has committed more
// than it sends.
func TestLostTailIsNotCommitted(t *testing.T) {
	t.Parallel()
	c := running(t, three, nil)
	l := c.leader()
	if _, err := l.add("kept"); err != nil {
		t.Fatal(err)
	}
	c.agree()
	kept := l.group().Status().Last
	_, term := l.group().Leader()
	c.isolate(l.name, true)
	if _, err := l.group().Append([]byte("lost")); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "it is in the log", func() bool { return l.group().Status().Last > kept })
	for _, m := range three {
		c.kill(m.Name)
	}
	c.isolate(l.name, false)
	c.start(l.name)
	s := &stream{
		self: "w1", dial: c.net.dial("w1"), patience: quick.RPC, ctx: t.Context(), open: map[*held]bool{}, conns: make(chan net.Conn),
	}
	trans := raft.NewNetworkTransport(s, 1, quick.RPC, io.Discard)
	defer trans.Close()
	var resp raft.AppendEntriesResponse
	header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("w1"), Addr: []byte("w1")}
	var before raft.Log
	if err := l.group().journal.entry(kept, &before); err != nil {
		t.Fatal(err)
	}
	err := trans.AppendEntries(raft.ServerID(l.name), raft.ServerAddress(l.name), &raft.AppendEntriesRequest{
		RPCHeader: header, Term: term + 10, PrevLogEntry: kept, PrevLogTerm: before.Term, LeaderCommitIndex: kept + 1,
	}, &resp)
	if err != nil || !resp.Success {
		t.Fatalf("the leader is answered %+v, %v", resp, err)
	}
	eventually(t, 5*time.Second, "what is committed is applied", func() bool { return len(l.state.all()) > 0 })
	if got := l.group().Status().Committed; got != kept {
		t.Errorf("%d is committed, and the leader sent up to %d", got, kept)
	}
	if diff := cmp.Diff([]string{"kept"}, l.state.all()); diff != "" {
		t.Errorf("applied (-want +got):\n%s", diff)
	}
}

// TestMarkerThatIsNotNeeded has a leader that sends a marker to a member who has more told to go on from there.
func TestMarkerThatIsNotNeeded(t *testing.T) {
	has := func(index, term uint64) bool { return index == 10 && term == 3 }
	for _, test := range []struct {
		name        string
		index, term uint64
		want        bool
	}{{"it has it", 10, 3, true}, {"it has another", 10, 2, false}, {"it has less", 11, 3, false}} {
		t.Run(test.name, func(t *testing.T) {
			p := newPromise(time.Second)
			p.answer("e1", 5)
			b := &inbox{promise: p, health: newHealth(), has: has}
			answer := make(chan raft.RPCResponse, 1)
			refused := b.refuse(raft.RPC{RespChan: answer, Command: &raft.InstallSnapshotRequest{
				RPCHeader: raft.RPCHeader{ID: []byte("e1")}, Term: 5, LastLogIndex: test.index, LastLogTerm: test.term,
			}})
			r := <-answer
			resp := r.Response.(*raft.InstallSnapshotResponse)
			if !refused || resp.Success != test.want || (r.Error == nil) != test.want || test.want && resp.Term != 5 {
				t.Errorf("kept from the library: %v; answered %+v, %v", refused, resp, r.Error)
			}
			if got := b.health.failed(); (got == nil) != test.want || got != nil && !errors.Is(got, ErrBlank) {
				t.Errorf("the member is broken: %v", got)
			}
		})
	}
}
