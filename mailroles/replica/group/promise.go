package group

import (
	"sync"
	"time"
)

// promise is what this member owes to the leader that it answered: no vote for another until the leader's lease is over.
// The library has the same rule, but it answers heartbeats beside its main loop, so that an answer may cross a vote, and
// it forgets its leader when it is started anew. A lease needs it to the letter.
type promise struct {
	lease time.Duration

	mu     sync.Mutex
	leader string
	term   uint64
	until  instant
	voted  uint64 // the newest term in which this member voted or stood
	open   int    // votes under consideration
	asked  uint64 // and the newest term of these
	handed uint64 // the term whose leader told this member to stand, 0: none
}

// newPromise begins with a promise to whoever leads: an answer may have been given just before this member was started.
func newPromise(lease time.Duration) *promise {
	p := &promise{lease: lease + lease/8} // clocks run at somewhat different rates
	p.until = bootTime().add(p.lease)
	return p
}

// answer is asked before a leader gets the answer that it leads. false: this member may have voted in a newer term.
func (p *promise) answer(leader string, term uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if term < max(p.voted, p.asked, p.term) {
		return false
	}
	p.leader, p.term, p.until = leader, term, bootTime().add(p.lease)
	return true
}

// vote is asked before this member considers a vote, and decided must be called after it if it may. A leader that handed
// over has given up its lease before.
func (p *promise) vote(candidate string, term uint64, handedOver bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if bootTime() < p.until && p.leader != candidate && (!handedOver || p.leader == "" || term <= p.term) {
		return false
	}
	p.open++
	p.asked = max(p.asked, term)
	return true
}

// decided says what became of a vote.
func (p *promise) decided(term uint64, granted bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if granted {
		p.voted = max(p.voted, term)
	}
	if p.open--; p.open == 0 {
		p.asked = 0
	}
}

// leads says whether a member is the leader of a term as far as this one knows.
func (p *promise) leads(member string, term uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.leader == member && p.term == term
}

// stand is asked before this member asks another for its vote. It gives whether it may, and whether it may say that the
// leader handed over.
func (p *promise) stand(term uint64, handedOver bool) (may, handed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	handed = handedOver && p.handed > 0 && term == p.handed+1
	if bootTime() < p.until && !handed {
		return false, false
	}
	p.voted = max(p.voted, term)
	return true, handed
}

// handOver is called when the leader of a term told this member to stand. false: that is not the leader it knows.
func (p *promise) handOver(leader string, term uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.leader != leader || p.term != term {
		return false
	}
	p.handed = term
	return true
}
