package group

import (
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"anycastle/mailroles/replica/chain"
)

// Peer is what a Status says of a member.
type Peer struct {
	Name    string
	Voter   bool      // false: it follows and does not vote, or is in no configuration
	In      bool      // it is in the configuration of the group
	Matched uint64    // see Group.Matched; known to the leader only
	Contact time.Time // when it last answered, or was last heard from; zero: never
}

// Status is a picture of a group as one member sees it.
type Status struct {
	Self, Leader string // Leader is empty when none is known
	Term, Era    uint64
	Leading      bool // between Led and Lost
	First, Last  uint64
	Committed    uint64
	Applied      chain.Position
	Peers        []Peer // all members, in the order of the options
	Broken       error
}

// Matched gives the index up to which a member is known to have this leader's log on disk; 0 when this one does not lead.
func (g *Group) Matched(member string) uint64 {
	r := g.raft.Load()
	if r == nil || r.State() != raft.Leader {
		return 0
	}
	if member == g.o.Self {
		return g.journal.last.Load()
	}
	return g.peers.matched(member, r.CurrentTerm())
}

// Moved is closed at the next change of what Matched answers, or of whether this member leads.
func (g *Group) Moved() <-chan struct{} { return g.peers.waiter() }

// Leader gives the member that leads as far as this one knows, empty when it knows none, and the term.
func (g *Group) Leader() (member string, term uint64) {
	r := g.raft.Load()
	if r == nil {
		return "", 0
	}
	_, id := r.LeaderWithID()
	return string(id), r.CurrentTerm()
}

// Status gives a picture for people.
func (g *Group) Status() Status {
	s := Status{
		Self: g.o.Self, Era: g.votes.era(), Applied: g.applier.position(), Last: g.journal.last.Load(), Broken: g.health.failed(),
	}
	s.First, _ = g.journal.FirstIndex() // 0 for a log that is closed
	_, s.Leading, _ = g.epoch.is()
	suffrage := map[string]raft.ServerSuffrage{}
	if r := g.raft.Load(); r != nil {
		s.Committed = r.CommitIndex()
		for _, m := range r.GetConfiguration().Configuration().Servers {
			suffrage[string(m.ID)] = m.Suffrage
		}
	}
	s.Leader, s.Term = g.Leader()
	for _, m := range g.o.Members {
		v, in := suffrage[m.Name]
		s.Peers = append(s.Peers, Peer{
			Name: m.Name, In: in, Voter: in && v == raft.Voter, Matched: g.Matched(m.Name), Contact: g.peers.contact(m.Name),
		})
	}
	return s
}

// Record reads an operation from the log, and when it was proposed by the clock of the member that led then. ErrGone: it
// is not there (any more), or is none.
func (g *Group) Record(index uint64) (record []byte, at time.Time, err error) {
	var l raft.Log
	switch err := g.journal.entry(index, &l); {
	case errors.Is(err, raft.ErrLogNotFound), err == nil && l.Type != raft.LogCommand:
		return nil, time.Time{}, fmt.Errorf("operation %d: %w", index, ErrGone)
	case err != nil:
		return nil, time.Time{}, fmt.Errorf("operation %d: %w", index, err)
	}
	f, err := parseFrame(l.Data)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("operation %d: %w", index, err)
	}
	return f.record, l.AppendedAt, nil
}
