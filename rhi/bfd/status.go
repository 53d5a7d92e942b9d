package bfd

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Status is what an operator asks of a session, as JSON.
type Status struct {
	Peer      string     `json:"peer"`
	Remote    netip.Addr `json:"remote"`
	Local     netip.Addr `json:"local"`               // zero: what the kernel chooses
	Interface string     `json:"interface,omitempty"` // empty: any
	Multihop  bool       `json:"multihop"`
	Auth      bool       `json:"authenticated"`

	State       State     `json:"state"`
	Since       time.Time `json:"since"`         // when the state last changed
	Why         string    `json:"why,omitempty"` // why it is not up
	Diag        Diag      `json:"diag"`          // of our last change of state
	RemoteState State     `json:"remote_state"`
	RemoteDiag  Diag      `json:"remote_diag"`

	Discriminator       uint32        `json:"discriminator"`
	RemoteDiscriminator uint32        `json:"remote_discriminator"` // 0: the peer is not heard
	Transmit            time.Duration `json:"transmit"`             // between our packets, before jitter
	Receive             time.Duration `json:"receive"`              // at most between the peer's
	Detection           time.Duration `json:"detection"`            // the silence after which the peer is given up; 0: it was never heard
	Multiplier          uint8         `json:"multiplier"`
	RemoteMultiplier    uint8         `json:"remote_multiplier"`
	Polling             bool          `json:"polling"` // new intervals wait for the peer's agreement

	Sent       uint64            `json:"sent"`
	Received   uint64            `json:"received"` // packets that were taken
	LastHeard  time.Time         `json:"last_heard"`
	Dropped    map[string]uint64 `json:"dropped"` // packets that were not taken, by reason
	SendErrors uint64            `json:"send_errors"`
	SendError  string            `json:"send_error,omitempty"` // of the last packet
	Ups        uint64            `json:"ups"`
	Downs      uint64            `json:"downs"`
	LastLoss   *Loss             `json:"last_loss,omitempty"`
	Stalls     uint64            `json:"stalls"` // how often we ourselves were late by more than an interval
}

// Status gives the sessions that were asked for, by name.
func (s *Speaker) Status() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []Status{}
	for _, p := range s.peers {
		if p.gone.IsZero() {
			list = append(list, p.status())
		}
	}
	slices.SortFunc(list, func(a, b Status) int { return cmp.Compare(a.Peer, b.Peer) })
	return list
}

func (p *peer) status() Status {
	c := &p.cfg
	st := Status{
		Peer: c.Peer, Remote: c.Remote, Local: c.Local, Interface: c.Interface, Multihop: c.Multihop, Auth: c.Key.Secret != "",
		State: p.state, Since: p.since, Diag: p.diag, RemoteState: p.remoteState, RemoteDiag: p.remoteDiag,
		Discriminator: p.discr, RemoteDiscriminator: p.remoteDiscr, Transmit: p.timers.txInterval(), Receive: p.timers.rxInterval(),
		Detection: p.detection(), Multiplier: c.Multiplier, RemoteMultiplier: p.remoteMult, Polling: p.polling,
		Sent: p.sent, Received: p.received, LastHeard: p.heard, Dropped: drops(&p.dropped), SendErrors: p.out.failed,
		Ups: p.ups, Downs: p.downs, Stalls: p.stalls,
	}
	if p.state != Up {
		st.Why = p.whyNotUp()
	}
	if p.out.err != nil {
		st.SendError = p.out.err.Error()
	}
	if p.downs > 0 {
		loss := p.lastLoss
		st.LastLoss = &loss
	}
	return st
}

// whyNotUp says what keeps a session down, the nearest cause first.
func (p *peer) whyNotUp() string {
	switch {
	case p.state == AdminDown:
		return p.why(AdministrativeDown)
	case p.cfg.Interface != "" && p.link == 0:
		return fmt.Sprintf("there is no interface %s", p.cfg.Interface)
	case p.out.err != nil:
		return fmt.Sprintf("cannot send: %v", p.out.err)
	case p.remoteDiscr != 0 && p.remoteState == AdminDown:
		return p.why(NeighborSignalled)
	case p.remoteDiscr != 0:
		return "the peer is heard, and does not say that it hears us"
	case p.lastDrop != taken:
		return fmt.Sprintf("no packet of the peer was taken; the last was dropped for: %v", p.lastDrop)
	}
	return "the peer is not heard"
}

func drops(counts *[dropReasons]uint64) map[string]uint64 {
	m := map[string]uint64{}
	for why, n := range counts {
		if n > 0 {
			m[drop(why).String()] = n
		}
	}
	return m
}

// Strays counts, by reason, the dropped packets that came from no peer of any session.
func (s *Speaker) Strays() map[string]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return drops(&s.strays)
}
