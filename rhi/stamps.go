package rhi

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	maxSent  = 4096      // records of prefixes and peers
	keepGone = time.Hour // how long it is remembered that a peer was withdrawn a prefix

	// How often a connection is looked at: often at first, then at a share of the age, which bounds the error of a stamp.
	firstLook, lastLook = 100 * time.Microsecond, 100 * time.Millisecond
	lookShare           = 8
)

// sockets is the kernel's view of TCP connections.
type sockets interface {
	find(peer netip.Addr, local, remote uint16) (socketID, error)
	count(peer netip.Addr, id socketID) (tcpCount, error)
	close()
}

// pair is a prefix and the peer that is told of it.
type pair struct {
	prefix netip.Prefix
	peer   netip.Addr
}

// record is the last of a pair.
type record struct {
	Sent
	void bool // it was not sent after all
}

// stamper keeps what each peer was sent, and stamps it when it is written and when it is acknowledged.
type stamper struct {
	log   *slog.Logger
	steps *prometheus.HistogramVec
	wake  chan struct{} // there is something to wait for; holds one

	mu      sync.Mutex // guards the rest
	sockets sockets    // nil unless Run has opened them
	records map[pair]*record
	streams map[netip.Addr]*stream // of established sessions whose connection was found
	full    bool
}

func newStamper(log *slog.Logger, steps *prometheus.HistogramVec) *stamper {
	return &stamper{
		log: log, steps: steps, wake: make(chan struct{}, 1),
		records: map[pair]*record{}, streams: map[netip.Addr]*stream{},
	}
}

// open makes stamps possible. A kernel that does not tell of sockets costs the stamps and nothing else.
func (s *stamper) open() {
	d, err := openSocketDiag()
	if err != nil {
		s.log.Warn("cannot say when peers were told", "err", err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sockets = d
}

func (s *stamper) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sockets != nil {
		s.sockets.close()
		s.sockets = nil
	}
	clear(s.streams)
}

// run looks at connections as long as something is on its way, until ctx is done.
func (s *stamper) run(ctx context.Context) {
	for {
		var next <-chan time.Time
		if wait := s.look(); wait > 0 {
			next = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-next:
		}
	}
}

// look looks at each connection with something on its way, and says how long the next look has time; 0: for ever.
func (s *stamper) look() (wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for peer, st := range s.streams {
		if len(st.waiting) == 0 {
			continue
		}
		c, err := s.sockets.count(peer, st.id)
		if err != nil {
			s.log.Debug("lost sight of what a peer was sent", "address", peer, "err", err)
			delete(s.streams, peer)
			continue
		}
		now := time.Now()
		written, acked := st.step(c, now)
		for _, b := range written {
			s.stamp(b, func(r *record) {
				r.Written = now
				s.observe("decision", r, r.Cause, r.Decided)
				s.observe("written", r, r.Decided, r.Written)
			})
		}
		for _, b := range acked {
			s.stamp(b, func(r *record) {
				r.Acknowledged = now
				s.observe("acknowledged", r, r.Written, r.Acknowledged)
				s.observe("all", r, r.Cause, r.Acknowledged)
			})
		}
		for _, b := range st.waiting {
			age := min(max(now.Sub(b.begun)/lookShare, firstLook), lastLook)
			wait = min(cmp.Or(wait, age), age)
		}
	}
	return wait
}

// stamp completes the records of a batch. The caller holds mu.
func (s *stamper) stamp(b *batch, each func(*record)) {
	for _, r := range b.records {
		if !r.void {
			each(r)
		}
	}
}

// observe counts a step of a transition whose ends are both known. That a session came up is no transition.
func (s *stamper) observe(step string, r *record, from, to time.Time) {
	if !from.IsZero() && !to.IsZero() && r.Kind != sessionUp {
		s.steps.WithLabelValues(step, r.Kind).Observe(to.Sub(from).Seconds())
	}
}

// begin notes what each peer is about to be sent. It holds up what is sent, so it takes the lock once: looks come between
// otherwise.
func (s *stamper) begin(news map[netip.Addr][]*record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for peer, records := range news {
		st := s.streams[peer]
		if st == nil { // it was said when its session came up
			s.keep(records)
			continue
		}
		c, err := s.sockets.count(peer, st.id)
		if err != nil {
			s.log.Debug("cannot say when a peer is told", "address", peer, "err", err)
			delete(s.streams, peer)
			s.keep(records)
			continue
		}
		s.await(peer, records, c)
	}
}

// await notes what a peer is sent and waits for it. The caller holds mu.
func (s *stamper) await(peer netip.Addr, records []*record, c tcpCount) {
	s.keep(records)
	if !s.streams[peer].add(records, c, time.Now()) {
		s.log.Debug("a peer acknowledges nothing", "address", peer)
		return
	}
	select {
	case s.wake <- struct{}{}:
	default: // it is awake
	}
}

// up finds the connection of a session that came up, and notes what the peer is sent with it. By the time that this is heard
// of, some of it may be written, so it is counted from what opened the session.
func (s *stamper) up(peer netip.Addr, c connection, records []*record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, peer)
	if s.sockets == nil {
		s.keep(records)
		return
	}
	id, err := s.sockets.find(peer, c.local, c.remote)
	if err != nil {
		s.log.Debug("cannot say when a peer is told", "address", peer, "err", err)
		s.keep(records)
		return
	}
	s.streams[peer] = &stream{id: id}
	s.await(peer, records, tcpCount{written: c.opening})
}

// socket gives the connection of an established session.
func (s *stamper) socket(peer netip.Addr) (socketID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.streams[peer]; st != nil {
		return st.id, nil
	}
	return socketID{}, errNoTrace
}

// down notes that a peer has lost all that it was sent.
func (s *stamper) down(peer netip.Addr, cause string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, peer)
	for at, r := range s.records {
		if at.peer == peer && !r.gone() {
			s.records[at] = &record{Sent: Sent{
				Prefix: r.Prefix, Peer: r.Peer, Address: r.Address, Group: r.Group, Kind: sessionDown, Sent: sessionDown, Why: cause, At: now,
			}}
		}
	}
}

// keep makes each record the last of its pair, if there is room. The caller holds mu.
func (s *stamper) keep(records []*record) {
	for _, r := range records {
		at := pair{r.Prefix, r.Address}
		if _, known := s.records[at]; !known && len(s.records) >= maxSent {
			s.prune(r.At)
			if len(s.records) >= maxSent {
				if !s.full {
					s.log.Warn("no room to remember all that peers were sent", "records", maxSent)
				}
				s.full = true
				continue
			}
		}
		s.full = false
		s.records[at] = r
	}
}

// prune forgets what was withdrawn long ago. The caller holds mu.
func (s *stamper) prune(now time.Time) {
	maps.DeleteFunc(s.records, func(_ pair, r *record) bool { return r.gone() && now.Sub(r.At) > keepGone })
}

// forget takes records back whose prefixes were not sent as they say.
func (s *stamper) forget(records []*record, prefixes ...[]netip.Prefix) {
	failed := newPrefixSet(prefixes...)
	if len(failed) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range records {
		if !failed.has(r.Prefix) {
			continue
		}
		r.void = true
		if at := (pair{r.Prefix, r.Address}); s.records[at] == r {
			delete(s.records, at)
		}
	}
}

// list gives copies of all records, by prefix and peer.
func (s *stamper) list() []Sent {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prune(time.Now())
	list := make([]Sent, 0, len(s.records))
	for _, r := range s.records {
		list = append(list, r.Sent)
	}
	slices.SortFunc(list, func(a, b Sent) int {
		return cmp.Or(comparePrefixes(a.Prefix, b.Prefix), cmp.Compare(a.Peer, b.Peer), a.Address.Compare(b.Address))
	})
	return list
}
