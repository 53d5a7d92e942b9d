package rhi

import "time"

// established is the state of a session that carries routes.
const established = "established"

// What is shown of a session that has not come up yet: gobgp keeps the outcome of its attempts to itself.
const (
	noAnswer = "not up yet: peer out of reach, or address or asn at odds"
	noDial   = "not up yet: peer has not dialled, or address or asn at odds"
)

// session is what a Role remembers of a neighbor.
type session struct {
	Neighbor
	shown   Peer
	stepped time.Time // when the state last changed
	renewed time.Time // when it was last renewed for a lost session
}

// notePeer records a step of a session and reports whether the peer is to be renewed: when an established session was
// lost, but not again within the hold time, so that a peer which keeps falling over waits out gobgp's five seconds.
func (r *Role) notePeer(c peerChange) (n Neighbor, renew bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.peers[c.address]
	if p == nil || p.shown.State == c.state {
		return n, false
	}
	old, now := p.shown.State, time.Now()
	p.shown.State, p.stepped = c.state, now
	switch {
	case c.state == established:
		p.shown.Since = now
		if e := p.shown.LastError; e == noAnswer || e == noDial {
			p.shown.LastError = ""
		}
		r.metrics.sessionUp.WithLabelValues(p.Name).Set(1)
		r.log.Info("session up", "peer", p.Name, "old", old, "new", c.state)
	case old == established:
		p.shown.Since, p.shown.LastError = now, c.reason
		r.metrics.sessionUp.WithLabelValues(p.Name).Set(0)
		r.metrics.sessionDowns.WithLabelValues(p.Name).Inc()
		r.log.Info("session down", "peer", p.Name, "old", old, "new", c.state, "cause", c.reason)
		if renew = now.Sub(p.renewed) > r.cfg.Hold; renew {
			p.renewed = now
		}
	case c.reason != "" && c.state == "idle":
		p.shown.LastError = c.reason // it did not come up, and this is why
	}
	return p.Neighbor, renew
}

// stuckPeers lists those that connected and then fell silent before the session was up. gobgp gives them four minutes,
// in which it turns away the peer's next attempt; the hold time is enough.
func (r *Role) stuckPeers() []Neighbor {
	r.mu.Lock()
	defer r.mu.Unlock()
	var stuck []Neighbor
	for _, n := range r.cfg.Neighbors {
		p := r.peers[n.Address]
		opening := p.shown.State == "opensent" || p.shown.State == "openconfirm"
		if opening && time.Since(p.stepped) > r.cfg.Hold {
			p.shown.LastError = "no answer to the OPEN"
			p.shown.State = "idle"
			stuck = append(stuck, n)
		}
	}
	return stuck
}
