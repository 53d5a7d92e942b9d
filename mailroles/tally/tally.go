package tally

import (
	"maps"
	"slices"
	"sync"
	"time"
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
	Legs     map[string]Spread // times since the start by leg of the work, which is a word of the code too
}

// Bounds are those of a Spread's buckets, in seconds.
var Bounds = []float64{0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100}

// Spread says how long something took, each time.
type Spread struct {
	Count   uint64
	Sum     time.Duration
	Buckets []uint64 // of each of Bounds: how often it took no longer
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

// Observe counts how long one leg of the work took, such as a filter's part in a delivery.
func (t *Tally) Observe(leg string, d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts.Legs == nil {
		t.counts.Legs = map[string]Spread{}
	}
	s := t.counts.Legs[leg]
	if s.Buckets == nil {
		s.Buckets = make([]uint64, len(Bounds))
	}
	s.Count++
	s.Sum += d
	for i, bound := range Bounds {
		if d.Seconds() <= bound {
			s.Buckets[i]++
		}
	}
	t.counts.Legs[leg] = s
}

// Counts reads the tally. The maps are the caller's own, and Rejects is never nil.
func (t *Tally) Counts() Counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.counts
	c.Rejects = maps.Clone(c.Rejects)
	if c.Rejects == nil {
		c.Rejects = map[string]uint64{}
	}
	c.Legs = maps.Clone(c.Legs)
	for leg, s := range c.Legs {
		s.Buckets = slices.Clone(s.Buckets)
		c.Legs[leg] = s
	}
	return c
}
