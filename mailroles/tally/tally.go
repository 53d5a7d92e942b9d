package tally

import (
	"maps"
	"sync"
)

// Tally holds the counts of one role. The zero Tally is ready; it is safe for concurrent use.
type Tally struct {
	mu     sync.Mutex
	counts Counts
}

// Counts is one consistent reading of a Tally.
type Counts struct {
	Sessions int               // open now
	Done     uint64            // messages delivered, or logins made, since the start
	Rejects  map[string]uint64 // refusals since the start by reason; reasons are words of the code, never of a client
}

// Open counts a session in, unless limit sessions are open already. The caller calls Close once when it ends.
func (t *Tally) Open(limit int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts.Sessions >= limit {
		return false
	}
	t.counts.Sessions++
	return true
}

// Close counts a session out.
func (t *Tally) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts.Sessions--
}

// Done counts one thing done.
func (t *Tally) Done() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts.Done++
}

// Reject counts one refusal.
func (t *Tally) Reject(reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts.Rejects == nil {
		t.counts.Rejects = map[string]uint64{}
	}
	t.counts.Rejects[reason]++
}

// Counts reads the tally. The map is the caller's own and never nil.
func (t *Tally) Counts() Counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.counts
	c.Rejects = maps.Clone(c.Rejects)
	if c.Rejects == nil {
		c.Rejects = map[string]uint64{}
	}
	return c
}
