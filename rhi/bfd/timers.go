package bfd

import "time"

// slow is the least interval between packets while a session is not up (RFC 5880 6.8.3).
const slow = time.Second

// timers are the intervals of a session. What is said to the peer and what is in force differ while a poll sequence is
// under way: a change for the worse waits until the peer has agreed.
type timers struct {
	random func() float64

	saidTx, saidRx     time.Duration // DesiredMinTxInterval and RequiredMinRxInterval as our packets say them
	tx, rx             time.Duration // the same as they are in force
	remoteTx, remoteRx time.Duration // the peer's DesiredMinTxInterval; RemoteMinRxInterval

	lastSent time.Time // when the last packet of the pace went
	early    float64   // the parts of the interval after which the next may go
	jitter   float64   // and must go
	txFrom   time.Time // when it may go, should anything wake the clockwork up
	txAt     time.Time // when it is to go
	detectAt time.Time // when the peer will have been silent for a detection time; zero: it is not heard
}

// txInterval is that between our packets, before jitter (RFC 5880 6.8.7).
func (t *timers) txInterval() time.Duration { return max(t.tx, t.remoteRx) }

// rxInterval is the longest between the peer's packets (RFC 5880 6.8.4).
func (t *timers) rxInterval() time.Duration { return max(t.rx, t.remoteTx) }

// paced notes that a packet of the pace goes now, and draws the jitter of the next: an interval is 75 to 100 % of what was
// agreed, and at most 90 % if the peer gives us up for a single missing packet. The next packet goes by itself in the upper
// half of that range, and with whatever wakes the clockwork up from some moment of the lower half on: a wake-up costs more
// than a packet. Both moments are drawn anew for each packet, so that sessions which went together once, of this system or of
// many, soon part again (RFC 5880 6.8.7).
func (t *timers) paced(now time.Time, mult uint8) {
	const least = 0.75
	most := 1.0
	if mult == 1 {
		most = 0.9
	}
	half := (most - least) / 2
	t.lastSent = now
	t.early = least + half*t.random()
	t.jitter = most - half*t.random()
	t.retime()
}

// retime moves the next packet after a change of the interval, for which it counts how long ago the last one was.
func (t *timers) retime() {
	interval := float64(t.txInterval())
	t.txFrom = t.lastSent.Add(time.Duration(interval * t.early))
	t.txAt = t.lastSent.Add(time.Duration(interval * t.jitter))
}

// announce says new intervals if the config or the state asks for them, with a poll sequence if somebody hears it.
func (s *session) announce() {
	t := &s.timers
	tx := s.cfg.Transmit
	if s.state != Up {
		tx = max(tx, slow)
	}
	if t.saidTx == tx && t.saidRx == s.cfg.Receive {
		s.inForce(false)
		return
	}
	t.saidTx, t.saidRx = tx, s.cfg.Receive
	s.inForce(false)
	switch {
	case s.remoteDiscr == 0:
		s.inForce(true)
	case s.polling: // one at a time: the answer that is awaited may be to the values before
		s.pollAgain = true
	default:
		s.polling = true
	}
}

// inForce has the said intervals hold: all of them if the peer has agreed, else those that ask nothing of it. To send less
// often while it still counts on more, or to give it up earlier than it knows, would look like a loss (RFC 5880 6.8.3).
func (s *session) inForce(agreed bool) {
	t := &s.timers
	if agreed || s.state != Up || t.saidTx < t.tx {
		t.tx = t.saidTx
	}
	if agreed || s.state != Up || t.saidRx > t.rx {
		t.rx = t.saidRx
	}
}

// pollEnded is the Final, or the end of there being anybody to give it.
func (s *session) pollEnded() {
	if s.pollAgain {
		s.pollAgain = false
		return
	}
	s.polling = false
	s.inForce(true)
}

// retime fits the next packet to the intervals, which a packet of the peer or a config may have changed.
func (s *session) retime() { s.timers.retime() }

// detection is the silence after which the peer is given up (RFC 5880 6.8.4).
func (s *session) detection() time.Duration {
	return time.Duration(s.remoteMult) * s.timers.rxInterval()
}

// mayTransmit is no if the peer wants no packets, or has asked for demand mode and both ends are up (RFC 5880 6.8.7).
func (s *session) mayTransmit() bool {
	demand := s.remoteDemand && s.state == Up && s.remoteState == Up && !s.polling
	return s.timers.remoteRx != 0 && !demand
}

// next is when tick has something to do; zero: never.
func (s *session) next() time.Time {
	var at time.Time
	if s.mayTransmit() {
		at = s.timers.txAt
	}
	at = earliest(at, s.timers.detectAt)
	if s.auth.known {
		at = earliest(at, s.auth.until)
	}
	return at
}

// opens is when the next packet may go, if there is another reason to be awake; zero: not at all.
func (s *session) opens() time.Time {
	if !s.mayTransmit() {
		return time.Time{}
	}
	return s.timers.txFrom
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
