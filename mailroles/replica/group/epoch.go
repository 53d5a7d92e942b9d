package group

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"anycastle/mailroles/replica/chain"
)

// epoch is the time in which this member leads and takes operations: from just before Led is called until the first
// failure of any kind. It belongs to one term. Within it all operations follow each other in the log without a gap.
type epoch struct {
	order sync.Mutex // held while an operation gets its place; never while mu is

	mu      sync.Mutex
	open    bool
	term    uint64
	tail    chain.Sum
	pending []*proposal // in the order of the log
	empty   chan struct{}
	held    bool // a hand-over is under way: no new epoch
}

// proposal is an operation that is not applied yet.
type proposal struct {
	head  chain.Sum
	done  chan struct{}
	index uint64
	err   error
}

func (p *proposal) wait() (uint64, error) {
	<-p.done
	return p.index, p.err
}

// begin opens an epoch.
func (e *epoch) begin(term uint64, tail chain.Sum) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.open || e.held {
		return false
	}
	e.open, e.term, e.tail = true, term, tail
	return true
}

// is gives the term of the last epoch, whether it is open, and whether operations are under way in it.
func (e *epoch) is() (term uint64, open, busy bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.term, e.open, len(e.pending) > 0
}

// end closes the epoch: nobody knows what becomes of the operations under way.
func (e *epoch) end() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.open = false
	for _, p := range e.pending {
		p.err = fmt.Errorf("%w: it ceased to lead while the operation was under way", ErrPassive)
		close(p.done)
	}
	e.pending = nil
	e.drained()
}

// drained wakes who waits for the operations under way. The lock is held.
func (e *epoch) drained() {
	if e.empty != nil && len(e.pending) == 0 {
		close(e.empty)
		e.empty = nil
	}
}

// hold closes the epoch for new operations, and gives what is closed once those under way are decided.
func (e *epoch) hold() (term uint64, empty <-chan struct{}, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.open || e.held {
		return 0, nil, ErrPassive
	}
	e.open, e.held = false, true
	done := make(chan struct{})
	e.empty = done
	e.drained()
	return e.term, done, nil
}

// release allows a new epoch after a hold.
func (e *epoch) release() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.held = false
}

// propose gives an operation its place.
func (e *epoch) propose(record []byte) (*proposal, []byte, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.open {
		return nil, nil, ErrPassive
	}
	f := frame{term: e.term, prev: e.tail, record: record}
	p := &proposal{head: f.head(), done: make(chan struct{})}
	e.tail = p.head
	e.pending = append(e.pending, p)
	return p, f.append(make([]byte, 0, frameHeader+len(record))), nil
}

// applied decides the oldest operation under way, if it is the one that was applied.
func (e *epoch) applied(at chain.Position) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.pending) == 0 || e.pending[0].head != at.Chain {
		return
	}
	e.pending[0].index = at.Index
	close(e.pending[0].done)
	e.pending = e.pending[1:]
	e.drained()
}

// Append puts an operation at the end of the log. The order of calls is the order of the log. wait returns its index once
// Machine.Apply has returned for it, or ErrPassive when this member ceased to lead before that, and may be called by more
// than one. After a failure of any kind nothing more is taken until Led is called again.
func (g *Group) Append(record []byte) (wait func() (index uint64, err error), err error) {
	if len(record) > maxRecord {
		return nil, fmt.Errorf("append an operation of %d bytes: at most %d are taken", len(record), maxRecord)
	}
	r := g.raft.Load()
	if r == nil {
		return nil, ErrPassive
	}
	g.epoch.order.Lock()
	defer g.epoch.order.Unlock()
	p, data, err := g.epoch.propose(record)
	if err != nil {
		return nil, err
	}
	// What the library says of it is not asked: it may say nothing when it is shut down. Whatever keeps an operation
	// from being applied also ends its term, and with that the epoch.
	r.ApplyLog(raft.Log{Data: data}, 0)
	return p.wait, nil
}

// Lease returns nil while no other member can lead: a quorum answered what this member sent within the time of the
// lease, in a term for which Led was called, and nothing since gave that away. The clock does not stop with the process.
func (g *Group) Lease() error {
	term, open, _ := g.epoch.is()
	r := g.raft.Load()
	switch {
	case !open || r == nil:
		return ErrPassive
	case g.health.failed() != nil:
		return errors.Join(ErrPassive, g.health.failed())
	case r.State() != raft.Leader || r.CurrentTerm() != term || g.outbox.abdicated.Load() >= term:
		return ErrPassive
	}
	var others []string
	voters := 0
	for _, s := range r.GetConfiguration().Configuration().Servers {
		if s.Suffrage == raft.Voter {
			voters++
			if string(s.ID) != g.o.Self {
				others = append(others, string(s.ID))
			}
		}
	}
	if answered := 1 + g.peers.recent(others, term, g.o.Times.Lease); answered <= voters/2 {
		return fmt.Errorf("%w: %d of %d members answered in time", ErrPassive, answered, voters)
	}
	return nil
}

// leads says whether the library leads in a term.
func (g *Group) leads(term uint64) bool {
	r := g.raft.Load()
	return r != nil && r.State() == raft.Leader && r.CurrentTerm() == term
}

// ofLeaders chooses what the library says of who leads.
func ofLeaders(o *raft.Observation) bool {
	switch o.Data.(type) {
	case raft.RaftState, raft.LeaderObservation:
		return true
	}
	return false
}

// watch ends the epoch as soon as this member no longer leads, has tell look while it might begin one, and gives the beat.
func (g *Group) watch(done <-chan struct{}, changed <-chan bool, seen <-chan raft.Observation) {
	const seldom, often = time.Second, 2 * time.Millisecond // what changes is told, but for what is not known
	timer := time.NewTimer(0)
	defer timer.Stop()
	down := g.health.down
	leader := ""
	for {
		due := false
		select {
		case <-changed:
		case <-seen:
		case <-g.look:
		case <-timer.C:
			due = true
		case <-down:
			down = nil
		case <-done:
			g.epoch.end()
			return
		}
		term, open, busy := g.epoch.is()
		leads := g.leads(term)
		if (open || busy) && (!leads || g.health.failed() != nil) {
			g.epoch.end()
			g.peers.moved()
		}
		if now, _ := g.Leader(); now != leader {
			leader = now
			g.peers.moved()
		}
		next := g.pace(due)
		switch r := g.raft.Load(); {
		case next > 0:
		case !open && r.State() == raft.Leader:
			next = often
		default:
			next = seldom
		}
		timer.Reset(next)
		g.wake()
	}
}

// tell calls Led and Lost, and has a witness that leads hand over.
func (g *Group) tell(done <-chan struct{}) {
	led := false
	for {
		select {
		case <-g.kick:
		case <-done:
		}
		_, open, _ := g.epoch.is()
		if led && !open {
			g.o.Lost()
			led = false
		}
		select {
		case <-done:
			if led {
				g.epoch.end()
				g.o.Lost()
			}
			return
		default:
		}
		if led || g.health.failed() != nil {
			continue
		}
		if g.witness() {
			g.pass()
		} else if term, ok := g.rise(); ok {
			led = true
			g.log.Info("leading", "term", term)
			g.peers.moved()
			g.o.Led(term)
		}
	}
}

// rise opens an epoch if this member leads and has applied all that is in its log; what others committed is among that.
func (g *Group) rise() (term uint64, ok bool) {
	r := g.raft.Load()
	term = r.CurrentTerm()
	if !g.leads(term) || g.outbox.abdicated.Load() >= term {
		return 0, false
	}
	var l raft.Log
	committed := r.CommitIndex()
	tip := g.journal.tip()
	if g.journal.entry(committed, &l) != nil || l.Term != term || committed < tip.Index || g.applier.position() != tip {
		return 0, false
	}
	return term, g.leads(term) && g.epoch.begin(term, tip.Chain)
}

// wake has tell look again.
func (g *Group) wake() { poke(g.kick) }

// poke leaves a note in a channel of one.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
