package rhi

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"time"
)

const (
	// together is how soon after one another changes may still go out together: gobgp sends as fast as it has a processor.
	together = 250 * time.Millisecond

	// retellAfter is how long after its session has begun, or after routes have changed together, a peer is told once more what it
	// must have. To tell all peers costs a router some 50 ms of a processor, and its neighbors are at it at the same time: so that
	// happens every retellPause at most, and up to a second later than it might.
	retellAfter = time.Second
	retellPause = 5 * time.Second
)

// retelling knows what peers may have heard in the wrong order, and keep so until the route changes again. gobgp v4.8.0 has two
// ways to bring that about:
//
// When a session begins it reads what it has for the peer and sends it later, and sends what changes meanwhile at once. A router was
// seen to send to a longer path for a minute.
//
// Changes that wait for a peer go out together, withdrawals first and then the routes in any order. Of one prefix only the last
// should be among them, but paths of different neighbors are taken for different things (CreateUpdateMsgFromPaths). Peers were
// seen to keep routes that were gone for good.
//
// So a peer is sent everything again, and that prefixes which nobody has are gone.
type retelling struct {
	due      *time.Timer
	armed    bool
	peers    map[netip.Addr]bool // whose sessions have begun
	last     map[source]uint64   // what was heard of each path: the sum
	changed  map[netip.Prefix]time.Time
	restless map[netip.Prefix]bool // those that changed together with an earlier change
	told     time.Time             // when all was told again the last time
	swept    time.Time             // when changed was last rid of what is too old to matter
}

// source is where the path of a prefix comes from: a peer, or the node itself, which is the zero Addr.
type source struct {
	prefix netip.Prefix
	from   netip.Addr
}

// heard is what was heard of a path that is or was among the best.
type heard struct {
	source
	sum uint64 // of what others are told of it; 0: it is gone
}

func newRetelling() *retelling {
	r := &retelling{
		due: time.NewTimer(time.Hour), peers: map[netip.Addr]bool{}, last: map[source]uint64{}, changed: map[netip.Prefix]time.Time{},
		restless: map[netip.Prefix]bool{},
	}
	r.due.Stop()
	return r
}

// begun notes that a session has begun.
func (r *retelling) begun(a netip.Addr) {
	r.peers[a] = true
	r.armed = true
	r.due.Reset(retellAfter)
}

// note takes in what was heard. The same again is no change.
func (r *retelling) note(list []heard, now time.Time) {
	if now.Sub(r.swept) > together {
		for p, at := range r.changed {
			if now.Sub(at) > together {
				delete(r.changed, p)
			}
		}
		r.swept = now
	}
	for _, h := range list {
		if h.sum == r.last[h.source] {
			continue
		}
		if r.last[h.source] = h.sum; h.sum == 0 {
			delete(r.last, h.source)
		}
		before, again := r.changed[h.prefix]
		if again && now.Sub(before) < together || now.Sub(r.told) < together {
			r.restless[h.prefix] = true
		}
		r.changed[h.prefix] = now
	}
	if len(r.restless) > 0 && !r.armed {
		r.armed = true
		r.due.Reset(max(retellAfter, retellPause-now.Sub(r.told)) + rand.N(retellAfter))
	}
}

// take gives whom and what it is time to tell: the peers, or everybody when there are prefixes.
func (r *retelling) take(now time.Time) (peers []netip.Addr, restless []netip.Prefix) {
	for a := range r.peers {
		peers = append(peers, a)
	}
	for p := range r.restless {
		restless = append(restless, p)
	}
	if len(restless) > 0 {
		r.told = now
	}
	clear(r.peers)
	clear(r.restless)
	r.armed = false
	return peers, restless
}

// noteHeard keeps what was heard of paths for the loop. It must not wait: gobgp calls it.
func (r *Role) noteHeard(list []heard) {
	r.heardMu.Lock()
	defer r.heardMu.Unlock()
	r.heard = append(r.heard, list...)
}

func (r *Role) takeHeard() []heard {
	r.heardMu.Lock()
	defer r.heardMu.Unlock()
	list := r.heard
	r.heard = nil
	return list
}

// resend sends peers all that they are to have. The caller holds mu.
func (r *Role) resend(ctx context.Context, s *speaker, peers []netip.Addr) {
	for _, a := range peers {
		if err := s.resend(ctx, a); err != nil {
			r.log.Debug("not sent once more", "address", a, "err", err)
		}
	}
}

// retell tells peers once more what they may have heard in the wrong order. One that is gone again hears all when it comes back.
func (r *Role) retell(ctx context.Context, s *speaker, again *retelling) {
	peers, restless := again.take(time.Now())
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(restless) > 0 {
		peers = r.upPeers()
	}
	r.resend(ctx, s, peers)
	if err := s.retract(restless); err != nil {
		r.log.Error("peers may keep routes that are gone", "err", err)
	}
}
