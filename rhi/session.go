package rhi

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// established is the state of a session that carries routes.
const established = "established"

// limitHold is how long a peer is kept down that sent more than max_prefixes, or wants no hold time: long enough that it does
// no harm by coming back, short enough that nobody has to be woken up once its mistake is mended.
const limitHold = time.Minute

// What is shown of a session that has not come up yet: gobgp keeps the outcome of its attempts to itself.
const (
	noAnswer = "not up yet: peer out of reach, or address, asn or password at odds"
	noDial   = "not up yet: peer has not dialled, or address, asn or password at odds"
)

// peerChange is a step of a session's state machine.
type peerChange struct {
	address netip.Addr
	state   string
	reason  string
	conn    connection // of an established session
	limit   bool       // the peer sent more than max_prefixes, and is kept down until it is renewed
}

// session is what a Role remembers of a neighbor, or of a dynamic peer while it is connected.
type session struct {
	Neighbor
	dynamic   bool
	shown     Peer
	stepped   time.Time // when the state last changed
	renewed   time.Time // when it was last renewed for a lost session
	heldUntil time.Time // when a peer that is kept down may come back; zero: it is not held
	file      file      // of the connection, if BFD watches the peer
}

// repair is what the speaker must do about a peer after a step.
type repair struct {
	renew *Neighbor  // give it a new state machine
	drop  netip.Addr // forget the dynamic peer
	hold  netip.Addr // keep it down until it is renewed
}

// step takes in a step of a session and gives what must be done about it.
func (r *Role) step(ctx context.Context, s *speaker, c peerChange) (repair, error) {
	todo := r.notePeer(c)
	if c.state != established || todo != (repair{}) {
		return todo, nil
	}
	r.noteFile(c.address)
	sessions, err := s.sessions(ctx, c.address)
	if err == nil && sessions[c.address].noHold {
		todo = r.noteNoHold(c.address)
	}
	return todo, err
}

// noteNoHold ends a session without a hold time: nobody would notice that the peer has died in silence. With BFD somebody
// does.
func (r *Role) noteNoHold(a netip.Addr) (todo repair) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.peers[a]
	if p == nil || p.shown.State != established || p.BFD != nil {
		return repair{}
	}
	now := time.Now()
	p.shown.State, p.stepped, p.heldUntil = "idle", now, now.Add(limitHold)
	r.noteDown(p, fmt.Sprintf("asked for hold time 0, with which its silent death goes unnoticed; kept down for %v. "+
		"Set one of 3s or more at the peer, or bfd at both ends", limitHold), now)
	if p.dynamic {
		return repair{drop: a}
	}
	return repair{hold: a}
}

// notePeer records a step of a session. A neighbor is to be renewed when an established session was lost, but not again
// within the hold time, so that a peer which keeps falling over waits out gobgp's five seconds.
func (r *Role) notePeer(c peerChange) (todo repair) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.peers[c.address]
	if p == nil {
		if c.state == "active" {
			return repair{} // a last step of one that was dropped: it may come after its end
		}
		if p = r.admit(c); p == nil {
			return repair{drop: c.address}
		}
		r.peers[c.address] = p
	}
	switch {
	case p.dynamic && !p.heldUntil.IsZero():
		return repair{drop: c.address}
	case p.shown.State == c.state:
		return repair{}
	}
	old, now := p.shown.State, time.Now()
	p.shown.State, p.stepped = c.state, now
	switch {
	case c.state == established:
		p.shown.Since = now
		if e := p.shown.LastError; e == noAnswer || e == noDial {
			p.shown.LastError = ""
		}
		r.metrics.sessionUp.WithLabelValues(p.Name).Inc()
		r.noteUp(p, c.conn)
		r.log.Info("session up", "peer", p.Name, "address", c.address, "old", old, "new", c.state)
	case old == established:
		if c.limit {
			c.reason = fmt.Sprintf("sent more than %d prefixes of a family (max_prefixes); kept down for %v", p.MaxPrefixes, limitHold)
			p.heldUntil = now.Add(limitHold)
		}
		r.noteDown(p, c.reason, now)
		if !c.limit && !p.dynamic && now.Sub(p.renewed) > r.cfg.Hold {
			p.renewed = now
			todo.renew = &p.Neighbor
		}
	case c.reason != "" && c.state == "idle":
		p.shown.LastError = c.reason // it did not come up, and this is why
	}
	if p.dynamic && c.state == "idle" {
		todo.drop = c.address
		if p.heldUntil.IsZero() {
			delete(r.peers, c.address)
		}
	}
	return todo
}

// noteDown records that an established session has ended. The caller holds mu, and has set the state.
func (r *Role) noteDown(p *session, cause string, now time.Time) {
	p.shown.Since, p.shown.LastError = now, cause
	r.metrics.sessionUp.WithLabelValues(p.Name).Dec()
	r.metrics.sessionDowns.WithLabelValues(p.Name).Inc()
	r.stamps.down(p.Address, cause, now)
	r.log.Info("session down", "peer", p.Name, "address", p.Address, "old", established, "new", p.shown.State, "cause", cause)
}

// admit makes a session of a dynamic peer that has just connected, or gives nil when it is to be turned away. The caller
// holds mu.
func (r *Role) admit(c peerChange) *session {
	i := slices.IndexFunc(r.cfg.Dynamic, func(d Dynamic) bool { return d.Prefix.Contains(c.address) })
	if i < 0 || c.state == "idle" {
		return nil // its last step, after it was turned away
	}
	d, number := r.cfg.Dynamic[i], 0
	for _, p := range r.peers {
		if p.dynamic && p.Name == d.Name {
			number++
		}
	}
	if number >= d.MaxPeers {
		r.metrics.peersRefused.WithLabelValues(d.Name).Inc()
		return nil
	}
	n := Neighbor{Name: d.Name, Address: c.address, ASN: d.ASN, Passive: true, Peering: d.Peering}
	return &session{Neighbor: n, dynamic: true, shown: newPeer(n)}
}

func newPeer(n Neighbor) Peer {
	p := Peer{Name: n.Name, Address: n.Address, ASN: n.ASN, Group: n.Group, Watches: n.Watches, State: "idle", Since: time.Now(), LastError: noAnswer}
	if n.Passive {
		p.LastError = noDial
	}
	return p
}

// overduePeers lists what must be done about peers that no step tells of: those that connected and then fell silent before
// the session was up (gobgp gives them four minutes, in which it turns away the peer's next attempt; the hold time is
// enough), and those that were kept down for long enough.
func (r *Role) overduePeers() []repair {
	r.mu.Lock()
	defer r.mu.Unlock()
	var todo []repair
	for _, p := range r.peers {
		opening := p.shown.State == "opensent" || p.shown.State == "openconfirm" || p.dynamic && p.shown.State != established && p.heldUntil.IsZero()
		silent := opening && time.Since(p.stepped) > r.cfg.Hold
		released := !p.heldUntil.IsZero() && time.Now().After(p.heldUntil)
		if !silent && !released {
			continue
		}
		if silent {
			p.shown.LastError = "no answer to the OPEN"
			p.shown.State = "idle"
		}
		p.heldUntil = time.Time{}
		if p.dynamic {
			todo = append(todo, repair{drop: p.Address})
			delete(r.peers, p.Address)
			continue
		}
		todo = append(todo, repair{renew: &p.Neighbor})
	}
	return todo
}
