package queue

import (
	"maps"
	"sync"
	"time"
)

// stats counts what a queue does. The words are the code's, never a peer's.
type stats struct {
	mu        sync.Mutex
	counts    Counts
	latency   Histogram
	attempted Histogram
}

// Counts is what a queue did since it was opened.
type Counts struct {
	Delivered uint64            `json:"delivered"` // recipients
	Deferred  map[string]uint64 `json:"deferred"`  // attempts for a recipient that are to be repeated, by reason
	Bounced   map[string]uint64 `json:"bounced"`   // recipients that failed, by reason
	Reports   map[string]uint64 `json:"reports"`   // that senders were sent, by kind
}

// bounds of the histograms' buckets.
var (
	latencyBounds = []time.Duration{
		100 * time.Millisecond, 300 * time.Millisecond, time.Second, 3 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute,
		10 * time.Minute, time.Hour, 6 * time.Hour, 24 * time.Hour,
	}
	attemptBounds = latencyBounds[:8]
)

// Histogram counts durations.
type Histogram struct {
	Buckets []uint64 // by the place of the bound that they are within
	Count   uint64
	Sum     time.Duration
}

func (h *Histogram) add(bounds []time.Duration, d time.Duration) {
	if h.Buckets == nil {
		h.Buckets = make([]uint64, len(bounds))
	}
	for i, b := range bounds {
		if d <= b {
			h.Buckets[i]++
			break
		}
	}
	h.Count++
	h.Sum += d
}

func (s *stats) delivered(after time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Delivered++
	s.latency.add(latencyBounds, after)
}

func (s *stats) took(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempted.add(attemptBounds, d)
}

func (s *stats) deferred(reason string) { s.add(&s.counts.Deferred, reason) }
func (s *stats) bounced(reason string)  { s.add(&s.counts.Bounced, reason) }
func (s *stats) reported(k kind)        { s.add(&s.counts.Reports, string(k)) }

func (s *stats) add(m *map[string]uint64, word string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if *m == nil {
		*m = map[string]uint64{}
	}
	(*m)[word]++
}

// read gives a copy.
func (s *stats) read() (c Counts, latency, attempted Histogram) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clone := func(m map[string]uint64) map[string]uint64 {
		if m == nil {
			return map[string]uint64{}
		}
		return maps.Clone(m)
	}
	c = s.counts
	c.Deferred, c.Bounced, c.Reports = clone(c.Deferred), clone(c.Bounced), clone(c.Reports)
	latency, attempted = s.latency, s.attempted
	latency.Buckets = append([]uint64(nil), latency.Buckets...)
	attempted.Buckets = append([]uint64(nil), attempted.Buckets...)
	return c, latency, attempted
}
