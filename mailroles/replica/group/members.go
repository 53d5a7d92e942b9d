package group

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"anycastle/mailroles/replica/chain"
)

// await waits for the library's answer. One that never comes, because the disk hangs, keeps a goroutine.
func (g *Group) await(ctx context.Context, f func() error) error {
	answer := make(chan error, 1)
	go func() { answer <- f() }()
	select {
	case err := <-answer:
		return err
	case <-g.health.down:
		return g.health.failed()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// leading gives the library while an epoch is open.
func (g *Group) leading() (*raft.Raft, uint64, error) {
	r := g.raft.Load()
	if term, open, _ := g.epoch.is(); r != nil && open && g.leads(term) {
		return r, term, nil
	}
	return nil, 0, ErrPassive
}

// Admit makes a member one that follows without a vote; whatever it knew before counts for nothing. Only on the leader.
// ErrWait: the member has a vote, and shall ask again after a while, for another one without vote is on its way to its own.
func (g *Group) Admit(ctx context.Context, member string) error {
	return g.change(ctx, "admit", member, func(r *raft.Raft, id raft.ServerID) []func() raft.IndexFuture {
		return []func() raft.IndexFuture{
			func() raft.IndexFuture { return r.RemoveServer(id, 0, g.o.Times.RPC) },
			func() raft.IndexFuture { return r.AddNonvoter(id, raft.ServerAddress(id), 0, g.o.Times.RPC) },
		}
	})
}

// Promote gives a member its vote. Only on the leader, once the member has caught up.
func (g *Group) Promote(ctx context.Context, member string) error {
	return g.change(ctx, "promote", member, func(r *raft.Raft, id raft.ServerID) []func() raft.IndexFuture {
		return []func() raft.IndexFuture{
			func() raft.IndexFuture { return r.AddVoter(id, raft.ServerAddress(id), 0, g.o.Times.RPC) },
		}
	})
}

func (g *Group) change(ctx context.Context, what, member string, steps func(*raft.Raft, raft.ServerID) []func() raft.IndexFuture) error {
	if _, ok := g.member(member); !ok || member == g.o.Self {
		return fmt.Errorf("%s %s: it is no other member of %s", what, member, g.o.LUN)
	}
	g.turn.Lock()
	defer g.turn.Unlock()
	r, term, err := g.leading()
	if err == nil && what == "admit" {
		err = g.mayAdmit(r, term, member)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", what, member, err)
	}
	for _, step := range steps(r, raft.ServerID(member)) {
		if err := g.await(ctx, func() error { return step().Error() }); err != nil {
			if errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrLeadershipLost) {
				err = errors.Join(ErrPassive, err)
			}
			return fmt.Errorf("%s %s: %w", what, member, err)
		}
		if what == "admit" {
			g.peers.forget(member)
		}
	}
	g.admission.done(member, what == "admit")
	g.log.Info("members changed", "change", what, "peer", member)
	g.peers.moved()
	return nil
}

// Base gives what a blank member needs, besides the state at a position, to follow from there. Only on the leader, after
// Admit. ErrGone: the position is too old, ask for a newer state.
func (g *Group) Base(at chain.Position) ([]byte, error) {
	r, term, err := g.leading()
	if err != nil {
		return nil, fmt.Errorf("seed from operation %d: %w", at.Index, err)
	}
	n := g.marker.note()
	if n.At != at {
		var l raft.Log
		if err := g.journal.entry(at.Index, &l); errors.Is(err, raft.ErrLogNotFound) {
			return nil, fmt.Errorf("seed from operation %d: %w", at.Index, ErrGone)
		} else if err != nil {
			return nil, fmt.Errorf("seed from operation %d: %w", at.Index, err)
		}
		if f, err := parseFrame(l.Data); err != nil || l.Type != raft.LogCommand || f.head() != at.Chain {
			return nil, fmt.Errorf("seed from operation %d: %w: the log has another there", at.Index, ErrDiverged)
		}
		n.Index, n.Term, n.At = at.Index, l.Term, at
	}
	if first, err := g.journal.FirstIndex(); err != nil || first > n.Index+1 {
		return nil, fmt.Errorf("seed from operation %d: %w", at.Index, errors.Join(ErrGone, err))
	}
	n.Members, n.MembersAt = raft.EncodeConfiguration(r.GetConfiguration().Configuration()), n.Index
	return json.Marshal(base{Note: n, Ballot: ballot{Era: g.votes.era(), Term: term, VoteTerm: term, Vote: g.o.Self}})
}

// Transfer hands over to another member and returns once this one no longer leads. Appends under way are committed before
// it; new ones fail with ErrPassive from the moment of the call. After an error this member may lead again: Lost and Led
// are called then too.
func (g *Group) Transfer(ctx context.Context, to string) error {
	g.turn.Lock()
	defer g.turn.Unlock()
	r, _, err := g.leading()
	if err == nil {
		err = g.mayLead(r, to)
	}
	if err != nil {
		return fmt.Errorf("hand over to %s: %w", to, err)
	}
	term, empty, err := g.epoch.hold()
	if err != nil {
		return fmt.Errorf("hand over to %s: %w", to, err)
	}
	defer g.wake()
	defer g.epoch.release()
	g.wake()
	g.pace(false) // the library gives up a try after a time that is the longer while it beats
	if err = g.drain(ctx, empty); err == nil {
		err = g.hand(ctx, r, term, to)
	}
	if err != nil {
		return fmt.Errorf("hand over to %s: %w", to, errors.Join(err, g.resign(r, term)))
	}
	g.log.Info("handed over", "peer", to, "term", term)
	return nil
}

func (g *Group) drain(ctx context.Context, empty <-chan struct{}) error {
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// mayLead says whether a member could take over now.
func (g *Group) mayLead(r *raft.Raft, to string) error {
	m, ok := g.member(to)
	voter := slices.ContainsFunc(r.GetConfiguration().Configuration().Servers, func(s raft.Server) bool {
		return s.Suffrage == raft.Voter && string(s.ID) == to
	})
	switch {
	case !ok || m.Witness || to == g.o.Self || !voter:
		return errors.New("it is no other replica with a vote")
	case g.peers.recent([]string{to}, r.CurrentTerm(), 2*g.o.Times.Heartbeat) == 0:
		return errors.New("it does not answer")
	}
	return nil
}

// hand has the library hand over, again and again while this member leads and the other is able: the library waits for the
// time of one election only, which on a busy machine may not be enough.
func (g *Group) hand(ctx context.Context, r *raft.Raft, term uint64, to string) error {
	g.outbox.handing.Store(term)
	for {
		f := r.LeadershipTransferToServer(raft.ServerID(to), raft.ServerAddress(to))
		err := g.await(ctx, f.Error)
		switch {
		case err == nil, ctx.Err() != nil, g.health.failed() != nil:
			return err
		case !g.leads(term):
			return nil
		}
		if not := g.mayLead(r, to); not != nil {
			return errors.Join(err, not)
		}
		g.log.Info("hand over again", "peer", to, "term", term, "err", err)
		select {
		case <-time.After(20 * time.Millisecond): // the library has to end its try
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

// resign gives up a term whose hand-over failed: the other member may have been told, and what it was told may reach it
// late. A lease of the same term would not be safe from that.
func (g *Group) resign(r *raft.Raft, term uint64) error {
	g.outbox.abdicate(term)
	for range 100 {
		if !g.leads(term) || g.health.failed() != nil {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("term %d did not end", term)
}

// pass has a witness that leads hand over to the best replica: of those that have the whole log, the one that stands first
// in the order of preference; when none has for a while, the one that has most.
func (g *Group) pass() {
	r := g.raft.Load()
	term := r.CurrentTerm()
	if !g.leads(term) || g.outbox.abdicated.Load() >= term || !g.turn.TryLock() {
		return
	}
	defer g.turn.Unlock()
	best, whole := g.best(r, term)
	if g.passing != term {
		g.passing, g.passSince = term, bootTime()
	}
	if best == "" || !whole && bootTime().since(g.passSince) < g.o.Times.Heartbeat {
		return
	}
	g.log.Info("the witness hands over", "peer", best, "term", term)
	ctx, cancel := context.WithTimeout(context.Background(), 4*g.o.Times.Election)
	defer cancel()
	if err := g.hand(ctx, r, term, best); err != nil {
		g.log.Warn("hand over", "peer", best, "err", errors.Join(err, g.resign(r, term)))
	}
}

// best gives the replica that should lead, and whether it has the whole log.
func (g *Group) best(r *raft.Raft, term uint64) (name string, whole bool) {
	last, most := g.journal.last.Load(), uint64(0)
	for _, m := range g.o.Members {
		if g.mayLead(r, m.Name) != nil {
			continue
		}
		switch at := g.peers.matched(m.Name, term); {
		case at >= last:
			return m.Name, true
		case at > most:
			name, most = m.Name, at
		}
	}
	return name, false
}
