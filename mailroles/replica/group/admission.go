package group

import (
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// ErrWait is for a member with a vote that can be admitted later: another one is on its way to its own.
var ErrWait = errors.New("another member is on its way to its vote")

// admitTime is how long a member that was admitted may take until another's vote is taken away as well.
const admitTime = time.Minute

// admission is who was admitted in this leader's time and who waits to be. The group's turn guards it.
type admission struct {
	admitted map[string]instant
	waits    map[string]*waiting
}

// waiting is since when a member asked again and again, and when it did so last.
type waiting struct{ first, last instant }

// done notes that a member was admitted, or has its vote again.
func (a *admission) done(member string, admitted bool) {
	delete(a.waits, member)
	delete(a.admitted, member)
	if !admitted {
		return
	}
	if a.admitted == nil {
		a.admitted = map[string]instant{}
	}
	a.admitted[member] = bootTime()
}

// wait says whether a member shall ask again later, which it must not have to for longer than a time.
func (a *admission) wait(member string, atMost time.Duration) bool {
	now := bootTime()
	w := a.waits[member]
	if w == nil || now.since(w.last) > atMost {
		if a.waits == nil {
			a.waits = map[string]*waiting{}
		}
		w = &waiting{first: now}
		a.waits[member] = w
	}
	w.last = now
	return now.since(w.first) <= atMost
}

// mayAdmit says whether a member's vote may be taken away. At a time this is done to one member only, so that all but one
// vote: the next one waits while another without vote was admitted not long ago or follows. One of which neither is true is
// not reachable, and nobody waits for that one; nor does anybody wait for ever for one that has yet to fetch many bodies.
func (g *Group) mayAdmit(r *raft.Raft, term uint64, member string) error {
	votes := map[string]bool{}
	for _, s := range r.GetConfiguration().Configuration().Servers {
		votes[string(s.ID)] = s.Suffrage == raft.Voter
	}
	if !votes[member] {
		return nil
	}
	for _, m := range g.o.Members {
		if votes[m.Name] || m.Name == g.o.Self {
			continue
		}
		at, ok := g.admission.admitted[m.Name]
		comes := ok && bootTime().since(at) < g.o.test.admit
		follows := g.peers.recent([]string{m.Name}, term, 2*g.o.Times.Heartbeat) > 0
		if (comes || follows) && g.admission.wait(member, g.o.test.admit) {
			return fmt.Errorf("%w: %s", ErrWait, m.Name)
		}
	}
	return nil
}
