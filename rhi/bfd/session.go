package bfd

import (
	"cmp"
	"fmt"
	"time"
)

// session is one session as a pure state machine. Its caller tells it what arrives and what time it is, and does what the
// outcome says. The names of RFC 5880 6.8.1 stand beside its variables.
type session struct {
	cfg    Config
	timers timers
	auth   auth

	state, remoteState State  // SessionState, RemoteSessionState
	discr, remoteDiscr uint32 // LocalDiscr; RemoteDiscr, zero while the peer is not heard
	lostDiscr          uint32 // what RemoteDiscr was, for the packet that tells a silent peer of its loss
	diag, remoteDiag   Diag   // LocalDiag; the peer's
	remoteDemand       bool   // RemoteDemandMode
	remoteMult         uint8
	polling, pollAgain bool      // a poll sequence is under way; another must follow it
	since              time.Time // when the state last changed
	heard              time.Time // when the last packet that was taken arrived; zero: none yet

	ups, downs, stalls uint64
	lastLoss           Loss
}

// Loss is how a session that was up was lost.
type Loss struct {
	At         time.Time `json:"at"`
	Diag       Diag      `json:"diag"`
	RemoteDiag Diag      `json:"remote_diag"` // what the peer had said last
	Why        string    `json:"why"`
}

// outcome is what is to be done after a step of a session.
type outcome struct {
	drop  drop      // why the packet was not taken
	send  bool      // a packet is to be sent now
	final bool      // it answers a poll
	from  State     // the state changed from this
	to    State     // to this, if the two differ
	cause time.Time // when that which changed it came about
}

func (o *outcome) changed() bool { return o.from != o.to }

// newSession begins down, or in AdminDown if that is ordered. random gives numbers in [0, 1).
func newSession(cfg Config, discr uint32, firstSeq uint32, random func() float64, now time.Time) *session {
	s := &session{cfg: cfg, discr: discr, state: Down, remoteState: Down, since: now}
	s.auth.sent = firstSeq
	s.timers = timers{random: random, remoteRx: time.Microsecond, lastSent: now}
	if cfg.AdminDown {
		s.state, s.diag = AdminDown, AdministrativeDown
	}
	s.announce()
	s.timers.txFrom, s.timers.txAt = now, now
	return s
}

// configure takes a changed config of the same session.
func (s *session) configure(now time.Time, cfg Config) (o outcome) {
	if cfg.Key != s.cfg.Key {
		s.auth.known = false
	}
	s.cfg = cfg
	switch {
	case cfg.AdminDown && s.state != AdminDown:
		s.move(&o, now, now, AdminDown, AdministrativeDown)
	case !cfg.AdminDown && s.state == AdminDown:
		s.move(&o, now, now, Down, NoDiag)
	}
	s.announce()
	s.retime()
	return o
}

// receive takes a packet of this session that arrived at a moment before now, by RFC 5880 6.8.6 from the authentication on.
func (s *session) receive(now, at time.Time, p *packet, raw []byte) (o outcome) {
	if o.drop = s.auth.verify(p, raw, &s.cfg.Key); o.drop != taken {
		return o
	}
	s.remoteDiscr, s.remoteState, s.remoteDiag, s.remoteDemand, s.remoteMult = p.my, p.state, p.diag, p.demand, p.mult
	s.timers.remoteTx, s.timers.remoteRx = p.tx, p.rx
	s.heard = at
	if p.final && s.polling {
		s.pollEnded()
	}
	switch {
	case s.state == AdminDown: // heard, and nothing comes of it
	case p.state == AdminDown:
		if s.state != Down {
			s.move(&o, now, at, Down, NeighborSignalled)
		}
	case s.state == Down && p.state == Down:
		s.move(&o, now, at, Init, s.diag)
	case s.state == Down && p.state == Init, s.state == Init && (p.state == Init || p.state == Up):
		s.move(&o, now, at, Up, NoDiag)
	case s.state == Up && p.state == Down:
		s.move(&o, now, at, Down, NeighborSignalled)
	}
	if p.poll && s.state != AdminDown {
		o.send, o.final = true, true
	}
	s.retime()
	s.timers.detectAt = at.Add(s.detection())
	s.auth.until = at.Add(2 * s.detection())
	return o
}

// tick does what is due.
func (s *session) tick(now time.Time) (o outcome) {
	if s.auth.known && !now.Before(s.auth.until) {
		s.auth.known = false
	}
	if at := s.timers.detectAt; !at.IsZero() && !now.Before(at) {
		s.silence(&o, now)
	}
	if s.mayTransmit() && !now.Before(s.timers.txAt) {
		o.send = true
	}
	return o
}

// silent reports whether tick would find that the peer has not been heard for a detection time.
func (s *session) silent(now time.Time) bool {
	return !s.timers.detectAt.IsZero() && !now.Before(s.timers.detectAt)
}

// silence forgets a peer that was not heard for a detection time (RFC 5880 6.8.1 and 6.8.4).
func (s *session) silence(o *outcome, now time.Time) {
	s.timers.detectAt = time.Time{}
	lost := s.remoteDiscr
	s.remoteDiscr, s.remoteState, s.remoteDemand = 0, Down, false
	s.timers.remoteRx = time.Microsecond
	if s.polling { // there is nobody to agree with
		s.pollAgain = false
		s.pollEnded()
	}
	if s.state == Init || s.state == Up {
		s.lostDiscr = lost
		s.move(o, now, s.heard, Down, DetectionExpired)
	}
	s.retime()
}

// stall is told when the clockwork ran late, after what waited in the sockets has been taken. The peer's next packet may be
// an interval away, and late for the same reason as we were.
func (s *session) stall(now time.Time, late time.Duration) {
	interval := s.timers.rxInterval()
	if s.timers.detectAt.IsZero() || late <= interval {
		return
	}
	s.stalls++
	if granted := now.Add(2 * interval); s.timers.detectAt.Before(granted) {
		s.timers.detectAt = granted
	}
}

// move changes the state, which the peer is told at once.
func (s *session) move(o *outcome, now, cause time.Time, to State, diag Diag) {
	if s.state == Up {
		s.downs++
		s.lastLoss = Loss{At: cause, Diag: diag, RemoteDiag: s.remoteDiag, Why: s.why(diag)}
	}
	if to == Up {
		s.ups++
	}
	o.from, o.to, o.cause, o.send = s.state, to, cause, true
	s.state, s.diag, s.since = to, diag, now
	s.announce()
}

// compose builds the packet that an outcome asks for.
func (s *session) compose(now time.Time, o *outcome) packet {
	if !o.final || o.changed() { // an answer to a poll is beside the pace (RFC 5880 6.8.7)
		s.timers.paced(now, s.cfg.Multiplier)
	}
	// FRR takes no packet without its discriminator from a peer that is up for it. Were it forgotten one packet earlier, FRR
	// would not hear that it is not heard, and would find a fault of its own.
	your := cmp.Or(s.remoteDiscr, s.lostDiscr)
	s.lostDiscr = 0
	return packet{
		diag: s.diag, state: s.state, poll: s.polling && !o.final, final: o.final, auth: s.cfg.Key.Secret != "",
		mult: s.cfg.Multiplier, my: s.discr, your: your, tx: s.timers.saidTx, rx: s.timers.saidRx,
	}
}

// why puts a diagnostic of our own in words.
func (s *session) why(d Diag) string {
	switch {
	case d == DetectionExpired:
		return fmt.Sprintf("nothing heard for %v", s.detection())
	case d == NeighborSignalled && s.remoteState == AdminDown:
		return "held down by order at the peer"
	case d == NeighborSignalled:
		return fmt.Sprintf("the peer says that it is down: %v", s.remoteDiag)
	case d == AdministrativeDown:
		return "held down by order"
	}
	return ""
}
