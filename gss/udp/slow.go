package udp

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// job is a slow query with all that its reply needs.
type job struct {
	sock     *socket
	query    [MaxQuery]byte
	size     int
	from     netip.AddrPort
	name     name
	nameSize uint32
	control  [controlRoom]byte
	ours     int // octets of control that say what to send from
}

// enqueue keeps the i-th query of a batch for a worker. Without a free place it does not.
func (s *Server) enqueue(sock *socket, b *batch, i int, query []byte, from netip.AddrPort) bool {
	var j *job
	select {
	case j = <-s.free:
	default:
		return false
	}
	j.sock, j.from = sock, from
	j.size = copy(j.query[:], query)
	j.name, j.nameSize = b.names[i], b.in[i].Namelen
	j.ours = 0
	if b.any {
		n := copy(j.control[:], b.controls[i][:b.in[i].Controllen])
		j.ours = ourAddress(j.control[:n])
	}
	s.jobs <- j // there is a place for each
	return true
}

// work answers slow queries until there are no more.
func (s *Server) work() {
	var reply [MaxReply]byte
	var vector unix.Iovec
	out := make([]header, 1)
	vector.Base = &reply[0]
	out[0].Iov = &vector
	out[0].SetIovlen(1)
	for j := range s.jobs {
		size := s.handler.Slow(reply[:], j.query[:j.size], j.from)
		if size == 0 {
			j.sock.drop(Unanswered)
			s.free <- j
			continue
		}
		vector.SetLen(len(reply[:size]))
		out[0].Name, out[0].Namelen = &j.name[0], j.nameSize
		out[0].Control = nil
		if j.ours > 0 {
			out[0].Control = &j.control[0]
		}
		out[0].SetControllen(j.ours)
		if j.sock.send(out) == 0 {
			j.sock.counts.slow.Add(1)
		}
		s.free <- j
	}
}
