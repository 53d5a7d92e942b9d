package bfd

import "time"

// mostUntold bounds the changes of one session that Changed has not been called for.
const mostUntold = 16

// Change is a step of a session from one state to another.
type Change struct {
	Peer        string    `json:"peer"`
	Old         State     `json:"old"`
	New         State     `json:"new"`
	Diag        Diag      `json:"diag"`         // why, if New is Down or AdminDown
	RemoteState State     `json:"remote_state"` // what the peer said last; Down if it has fallen silent
	RemoteDiag  Diag      `json:"remote_diag"`
	Why         string    `json:"why"` // the same in words, with what an operator asks next
	At          time.Time `json:"at"`  // the moment of the cause: when the last packet that was taken arrived, or an order was given
}

// PeerLost reports whether the way to a peer was lost, and routes over it should be withdrawn. An operator's order at either
// end says nothing about the way (RFC 5882 4.2).
func (c Change) PeerLost() bool {
	return c.Old == Up && c.New != Up && c.New != AdminDown && c.RemoteState != AdminDown
}

// note puts a change down for tell. If nobody listens, the last one of the session takes up what follows.
func (s *Speaker) note(p *peer, o *outcome) {
	c := Change{
		Peer: p.cfg.Peer, Old: o.from, New: o.to, Diag: p.diag, RemoteState: p.remoteState, RemoteDiag: p.remoteDiag,
		Why: p.why(p.diag), At: o.cause,
	}
	if p.untold < mostUntold {
		p.untold++
		s.untold = append(s.untold, untold{p, c})
	} else {
		for i := len(s.untold) - 1; i >= 0; i-- {
			if s.untold[i].peer == p {
				c.Old = s.untold[i].Old
				s.untold[i].Change = c
				break
			}
		}
	}
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// untold is a change that Changed has not been called for.
type untold struct {
	peer *peer
	Change
}

// tell calls Changed and logs, so that neither delays a packet, until it is stopped and has told everything.
func (s *Speaker) tell(stopped <-chan struct{}) {
	for last := false; !last; {
		select {
		case <-s.news:
		case <-stopped:
			last = true
		}
		for {
			s.mu.Lock()
			if len(s.untold) == 0 {
				s.mu.Unlock()
				break
			}
			c := s.untold[0]
			s.untold = s.untold[1:]
			c.peer.untold--
			s.mu.Unlock()
			s.log.Info("BFD "+c.New.String(), "peer", c.Peer, "old", c.Old, "new", c.New, "cause", c.Why)
			s.changed(c.Change)
		}
	}
}
