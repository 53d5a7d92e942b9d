package rhi

import (
	"net/netip"
	"time"
)

// Sizes of BGP messages (RFC 4271 4.1 to 4.4).
const (
	keepaliveSize = 19
	updateSize    = keepaliveSize + 4  // an UPDATE without prefixes and attributes
	openSize      = keepaliveSize + 10 // an OPEN without optional parameters
)

const (
	giveUp     = time.Minute // how long an acknowledgment is waited for; a session that is so long without one is about to end
	maxWaiting = 256         // applies that one peer has not acknowledged; more of them go without stamps
)

// connection is that of a session, as the speaker knows it.
type connection struct {
	local, remote uint16 // ports
	opening       uint64 // how many bytes opened the session: an OPEN and a KEEPALIVE
}

// openingSize is of an OPEN with capabilities, all in one optional parameter (RFC 5492), and a KEEPALIVE.
func openingSize[C interface{ Serialize() ([]byte, error) }](capabilities []C) uint64 {
	size := openSize + 2 + keepaliveSize
	for _, c := range capabilities {
		if b, err := c.Serialize(); err == nil {
			size += len(b)
		}
	}
	return uint64(size)
}

// stream is what goes to a peer over one connection. gobgp neither tells when an UPDATE is written nor shows its
// connections, so the kernel's counters of the connection have to say: once it has taken as many bytes as an UPDATE for the
// prefixes has at least, the UPDATE is written. Keepalives share the stream and are shorter than any UPDATE with a prefix;
// one that is seen to go out alone is left out of account. What can still pass for a part of the UPDATE is a keepalive within
// the same look, or an UPDATE of a learned route or of what another group is sent; then the stamp is early by the fraction
// of a millisecond that gobgp had yet to take.
type stream struct {
	id      socketID
	written uint64 // at the last look
	waiting []*batch
}

// batch is what one apply sends to one peer.
type batch struct {
	records []*record
	begun   time.Time
	due     uint64 // written when the stream gets there
	end     uint64 // acknowledged when the peer gets there; 0: not written yet
}

// add notes that an UPDATE is on its way from now on, at which the counters are these; false: too many wait already.
func (s *stream) add(records []*record, c tcpCount, now time.Time) bool {
	s.look(c)
	if len(records) == 0 {
		return true
	}
	if len(s.waiting) >= maxWaiting {
		return false
	}
	from := s.written
	if last := len(s.waiting) - 1; last >= 0 {
		from = max(from, s.waiting[last].due) // after what is on its way already
	}
	s.waiting = append(s.waiting, &batch{records: records, begun: now, due: from + leastUpdate(records)})
	return true
}

// look takes a look's counters.
func (s *stream) look(c tcpCount) {
	if c.written-s.written == keepaliveSize {
		for _, b := range s.waiting {
			if b.end == 0 {
				b.due += keepaliveSize
			}
		}
	}
	s.written = c.written
}

// step takes a look's counters and gives the batches that are now written, and those that are now acknowledged, which
// wait no longer, as do those that waited too long.
func (s *stream) step(c tcpCount, now time.Time) (written, acked []*batch) {
	s.look(c)
	var left []*batch
	for _, b := range s.waiting {
		if b.end == 0 && c.written >= b.due {
			b.end = c.written
			written = append(written, b)
		}
		switch {
		case b.end > 0 && c.acked >= b.end:
			acked = append(acked, b)
		case now.Sub(b.begun) < giveUp:
			left = append(left, b)
		}
	}
	s.waiting = left
	return written, acked
}

// leastUpdate is the size of the shortest UPDATE with the prefixes.
func leastUpdate(records []*record) uint64 {
	size := updateSize
	for _, r := range records {
		size += prefixSize(r.Prefix)
	}
	return uint64(size)
}

func prefixSize(p netip.Prefix) int { return 1 + (p.Bits()+7)/8 }
