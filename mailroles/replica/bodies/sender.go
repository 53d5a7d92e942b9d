package bodies

import (
	"context"
	"slices"
	"sync"
)

const (
	maxQueue  = 1024    // bodies that a lane has not got confirmed
	maxAcked  = 1 << 14 // bodies whose confirmations are known
	laneLimit = 1 << 20 // octets of a body that goes by the lane of small ones
)

// Sender pushes bodies to all peers. It is safe for concurrent use.
type Sender struct {
	opt   Options
	lanes []*lane // two for each peer, in their order: small bodies do not wait behind large ones
	moved signal

	mu    sync.Mutex
	acked map[string]*pushed
	order []string // names in acked or forgotten, oldest first
}

// pushed is what is known of a body that was pushed.
type pushed struct {
	sum   string
	peers []string // that have it
}

// NewSender makes a sender. Run must run for it to send.
func NewSender(opt Options) *Sender {
	s := &Sender{opt: opt.complete(), acked: map[string]*pushed{}}
	for _, p := range s.opt.Peers {
		for range 2 {
			s.lanes = append(s.lanes, newLane(s, p))
		}
	}
	return s
}

// Run sends until ctx ends.
func (s *Sender) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, l := range s.lanes {
		wg.Go(func() { l.run(ctx) })
	}
	wg.Wait()
	return nil
}

// Push begins to send a body, which OpenBody of the store must find, to all peers. It does not block: a peer whose queue
// is full, or that is not connected, is skipped, and fetches later.
func (s *Sender) Push(b Body) {
	s.mu.Lock()
	if s.acked[b.Name] == nil {
		s.acked[b.Name] = &pushed{sum: b.Sum}
		s.order = append(s.order, b.Name)
	}
	for len(s.order) > maxAcked {
		delete(s.acked, s.order[0])
		s.order = s.order[1:]
	}
	s.mu.Unlock()
	for i, l := range s.lanes {
		if (i%2 == 0) == (b.Size <= laneLimit) {
			l.push(b)
		}
	}
}

// Acked gives the peers that have a body on disk which was pushed here, by its name. What was pushed long ago is forgotten.
func (s *Sender) Acked(name string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.acked[name]; p != nil {
		return slices.Clone(p.peers)
	}
	return nil
}

// Forget says that nobody will ask Acked for a body again.
func (s *Sender) Forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.acked, name)
}

// Changed gives a channel that is closed at the next change of what Acked says. Take it before asking Acked.
func (s *Sender) Changed() <-chan struct{} { return s.moved.next() }

// confirmed notes that a peer has a body.
func (s *Sender) confirmed(b Body, peer string) {
	s.mu.Lock()
	if p := s.acked[b.Name]; p != nil && p.sum == b.Sum && !slices.Contains(p.peers, peer) {
		p.peers = append(p.peers, peer)
	}
	s.mu.Unlock()
	s.moved.wake()
}

// Sending is how it stands with one peer.
type Sending struct {
	Peer      string
	Connected bool
	Queued    int    // bodies that are not confirmed yet
	Sent      uint64 // bodies that were confirmed
	Skipped   uint64 // bodies that were not sent: queue full, peer away or not willing
	Err       string // of the last connection that failed; empty once it is back
}

// Status tells how it stands with all peers.
func (s *Sender) Status() []Sending {
	var list []Sending
	for i, p := range s.opt.Peers {
		small, large := s.lanes[2*i].status(), s.lanes[2*i+1].status()
		all := Sending{
			Peer: p.Name, Connected: small.Connected && large.Connected, Queued: small.Queued + large.Queued,
			Sent: small.Sent + large.Sent, Skipped: small.Skipped + large.Skipped, Err: small.Err,
		}
		if all.Err == "" {
			all.Err = large.Err
		}
		list = append(list, all)
	}
	return list
}
