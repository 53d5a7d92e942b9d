package group

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// shutTime is how long the parts of a group may take to end before the disk is to blame.
const shutTime = 10 * time.Second

// Run works until ctx ends, in which case it returns nil, or until this member is broken. All goroutines have ended when
// it returns, but for those that the disk does not let go: the directory stays locked until it does. Lost is called
// before Run returns, when Led was.
func (g *Group) Run(ctx context.Context) error {
	var wg, tellers sync.WaitGroup // tellers are the callers of Led and Lost
	alive, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	s := &stream{
		self: g.o.Self, conns: g.o.Conns, dial: g.o.Dial, patience: g.o.Times.RPC, ctx: alive, open: map[*held]bool{},
	}
	if ctx.Err() != nil {
		return g.closeFiles()
	}
	trans := g.transport(s, alive, &wg)
	r, err := g.start(trans)
	if err != nil {
		cut()
		closeTransport(trans)
		return errors.Join(err, g.finish(&wg, &s.wg))
	}
	done := make(chan struct{})
	g.pacer = newPacer(r.ReloadableConfig(), g.o.Times)
	seen := make(chan raft.Observation, 1) // one is enough to look: more are dropped
	r.RegisterObserver(raft.NewObserver(seen, false, ofLeaders))
	tellers.Go(func() { g.watch(done, r.LeaderCh(), seen) })
	tellers.Go(func() { g.tell(done) })
	wg.Go(func() { g.guard(alive) })
	wg.Go(func() { g.watchOthers(alive) })

	var failure error
	select {
	case <-ctx.Done():
	case <-g.health.down:
		failure = g.health.failed()
		g.log.Error("replica is broken", "err", failure)
		if errors.Is(failure, ErrBlank) {
			failure = errors.Join(failure, g.condemn(failure))
		}
		g.o.Broken(failure)
	}
	var stopped raft.Future
	if failure != nil { // Lost waits for operations, and the library may take them no more: this ends them
		stopped = r.Shutdown()
	}
	close(done)
	tellers.Wait()
	if failure == nil {
		g.mark(r)
		stopped = r.Shutdown()
	}
	cut()
	closeTransport(trans)
	ended := make(chan error, 1)
	go func() { // it is waited for, but for a disk that hangs
		err := stopped.Error()
		ended <- errors.Join(err, g.finish(&wg, &s.wg))
	}()
	select {
	case err = <-ended:
	case <-time.After(shutTime):
		err = fmt.Errorf("%w: it holds a goroutine of the group", ErrDisk)
	}
	g.peers.moved()
	return errors.Join(failure, err)
}

// finish closes the files once no goroutine is left.
func (g *Group) finish(groups ...*sync.WaitGroup) error {
	for _, wg := range groups {
		wg.Wait()
	}
	return g.closeFiles()
}

// transport makes the way to and from the other members.
func (g *Group) transport(s *stream, alive context.Context, wg *sync.WaitGroup) *outbox {
	g.promise = newPromise(g.o.Times.Lease)
	in := &inbox{
		promise: g.promise, health: g.health, self: g.o.Self, heard: g.peers.heard, has: g.has, out: make(chan raft.RPC),
		marker: func() uint64 { return g.marker.note().Index },
	}
	in.heartbeat = func(raft.RPC) {}
	inner := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: s, MaxPool: 3, MaxRPCsInFlight: 16, Timeout: g.o.Times.RPC, Logger: libraryLog(g.log), MsgpackUseNewTimeFormat: true,
	})
	g.outbox = &outbox{
		NetworkTransport: inner, inbox: in, peers: g.peers, promise: g.promise, health: g.health, ctx: alive, leads: g.leads, wg: wg,
		stream: s, turned: func() { poke(g.look) },
	}
	wg.Go(func() { in.run(alive, inner.Consumer()) })
	return g.outbox
}

// has says whether the log has an entry, or had it before the marker.
func (g *Group) has(index, term uint64) bool {
	switch n := g.marker.note(); {
	case index < n.Index: // what is up to a marker is committed
		return true
	case index == n.Index:
		return n.Term == term
	}
	var l raft.Log
	return g.journal.entry(index, &l) == nil && l.Term == term
}

// closeTransport closes all connections, those that the library keeps for later too; it closes its stream with it.
func closeTransport(o *outbox) {
	_ = o.Close() // it has no error to give
	o.CloseStreams()
}

// start starts the library. It may panic, or end its goroutine, for what the disk does.
func (g *Group) start(trans *outbox) (*raft.Raft, error) {
	t := g.o.Times
	if g.witness() { // it stands only when no other does
		t.Heartbeat, t.Election = 2*t.Heartbeat, 2*t.Election
	}
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(g.o.Self)
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout, c.CommitTimeout = t.Heartbeat, t.Election, t.Lease, t.Commit
	c.MaxAppendEntries, c.BatchApplyCh = 64, true
	c.ShutdownOnRemove = false
	c.TrailingLogs, c.SnapshotInterval, c.SnapshotThreshold = g.o.test.trailing, g.o.test.interval, 1000
	c.NoSnapshotRestoreOnStart, c.NoLegacyTelemetry = true, true
	c.Logger = libraryLog(g.log)
	cache, err := raft.NewLogCache(1024, g.journal)
	if err != nil {
		return nil, err
	}
	started := make(chan error, 1)
	go func() {
		err := errors.New("the library did not start")
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("%w: %v", ErrBlank, p)
			}
			started <- err
		}()
		var r *raft.Raft
		if r, err = raft.NewRaft(c, g.applier, cache, g.votes, g.marker, trans); err == nil {
			g.raft.Store(r)
		}
	}()
	if err := <-started; err != nil {
		if failed := g.health.failed(); failed != nil {
			err = failed
		}
		return nil, fmt.Errorf("start group %s: %w", g.o.LUN, err)
	}
	return g.raft.Load(), nil
}

// mark makes a marker, so that little is read again at the next start.
func (g *Group) mark(r *raft.Raft) {
	if g.marker.note().At == g.applier.position() {
		return
	}
	done := make(chan error, 1)
	go func() { done <- r.Snapshot().Error() }() // the library answers, at the latest when it is shut down
	select {
	case err := <-done:
		if err != nil {
			g.log.Debug("no marker at the end", "err", err)
		}
	case <-time.After(shutTime / 2):
	}
}

// guard looks after the disk: one that hangs does not keep the others from going on. It sleeps while nothing is written.
func (g *Group) guard(alive context.Context) {
	const often = 100 * time.Millisecond
	tick := time.NewTicker(often)
	defer tick.Stop()
	s := stuck{h: g.health}
	for {
		select {
		case <-tick.C:
		case <-alive.Done():
			return
		}
		limit := g.o.Times.Stall
		if r := g.raft.Load(); r.State() != raft.Leader {
			limit *= 10
		}
		n, idle := s.look()
		if time.Duration(n)*often > limit {
			g.health.fail(fmt.Errorf("%w: a write takes longer than %v", ErrDisk, limit))
		}
		if !idle {
			continue
		}
		tick.Stop()
		select {
		case <-g.health.work:
		case <-alive.Done():
			return
		}
		tick.Reset(often)
	}
}

var _ net.Listener = (*stream)(nil)
