package bfd

import (
	"net/netip"
	"time"
)

// drainBatches bounds what is read in one go with the lock held, should somebody flood the port.
const drainBatches = 64

// read takes the packets of a socket until it is closed. They are taken from the kernel with the lock held, so that none is
// on its way while the clockwork decides about a session.
func (s *Speaker) read(sock *socket) {
	_ = sock.conn.Read(func(fd uintptr) bool { // its only error is that the socket was closed
		for s.readBatch(sock, fd) == batchSize {
		}
		return false // until more has arrived
	})
}

func (s *Speaker) readBatch(sock *socket, fd uintptr) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := sock.receive(fd)
	if n == 0 {
		return 0
	}
	now := time.Now()
	clockSet := sock.clockWasSet(now)
	for i := range n {
		m := sock.message(i, sock.kind, now, clockSet)
		s.take(now, &m)
	}
	s.work(now)
	return n
}

// drain takes what waits in all sockets, with the lock held.
func (s *Speaker) drain() {
	for _, sock := range s.sockets {
		_ = sock.conn.Control(func(fd uintptr) { // its only error is that the socket was closed
			for range drainBatches {
				n := sock.receive(fd)
				now := time.Now()
				clockSet := sock.clockWasSet(now)
				for i := range n {
					m := sock.message(i, sock.kind, now, clockSet)
					s.take(now, &m)
				}
				if n < batchSize {
					return
				}
			}
		})
	}
}

// take hands a packet to its session, or counts why not.
func (s *Speaker) take(now time.Time, m *message) {
	var pkt packet
	p, why := s.admit(m, &pkt)
	if why == taken {
		o := p.receive(now, m.at, &pkt, m.data)
		if why = o.drop; why == taken {
			p.received++
			s.conclude(p, now, &o)
			return
		}
	}
	if p == nil {
		p = s.byAddress(m) // whose packet it claims to be
	}
	if p == nil {
		s.strays[why]++
		return
	}
	p.dropped[why]++
	p.lastDrop = why
}

// admit finds the session of a packet (RFC 5880 6.8.6). Before that, a packet of a session on one link that came from
// further away is dropped (RFC 5881 5): nobody off the link can send one with TTL 255.
func (s *Speaker) admit(m *message, pkt *packet) (*peer, drop) {
	if !m.kind.multihop && m.ttl != oneHopTTL {
		return nil, dropTTL
	}
	if why := pkt.decode(m.data); why != taken {
		return nil, why
	}
	p := s.byAddress(m)
	if pkt.your != 0 {
		p = s.byDiscr[pkt.your]
	}
	switch {
	case p == nil && pkt.your != 0:
		return nil, dropYourDiscriminator
	case p == nil:
		return nil, dropNoSession
	case !p.owns(m):
		return p, dropAddress
	case m.ttl < int(p.cfg.MinTTL):
		return p, dropTTL
	}
	return p, taken
}

// byAddress finds the session of a packet that names none.
func (s *Speaker) byAddress(m *message) *peer {
	for _, p := range s.byRemote[m.src] {
		if p.owns(m) {
			return p
		}
	}
	return nil
}

// owns reports whether a packet came the way that the session's packets come.
func (p *peer) owns(m *message) bool {
	c := &p.cfg
	return c.Remote == m.src && c.Multihop == m.kind.multihop && (c.Local == m.dst || c.Local == netip.Addr{}) &&
		(c.Interface == "" || p.link == m.link && p.link != 0)
}
