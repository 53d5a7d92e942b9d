package udp

import (
	"errors"
	"math/bits"
	"net/netip"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Reason is why a query has no reply.
type Reason uint8

const (
	// Oversize: it is longer than MaxQuery.
	Oversize Reason = iota
	// NoPort: it comes from port 0.
	NoPort
	// Unwanted: a lane dropped it.
	Unwanted
	// QueueFull: it is slow, and too many are.
	QueueFull
	// Unanswered: Slow gave no reply.
	Unanswered
	// NoRoom: the reply found no room in the queues of the kernel.
	NoRoom
	// Forbidden: a filter does not let the reply out.
	Forbidden
	// Unreachable: there is no route for the reply.
	Unreachable
	// SendFailed: the kernel did not take the reply for another reason.
	SendFailed
	// Reasons is how many there are.
	Reasons
)

func (r Reason) String() string {
	if r >= Reasons {
		return "unknown"
	}
	return [Reasons]string{"oversize", "no-port", "unwanted", "queue-full", "unanswered", "no-room", "forbidden", "unreachable",
		"send-failed"}[r]
}

// sendReason sorts the errors of sending.
func sendReason(err error) Reason {
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ENOMEM):
		return NoRoom
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return Forbidden
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.ENETDOWN):
		return Unreachable
	}
	return SendFailed
}

// BatchSizes is how many kinds of batches are told apart.
const BatchSizes = 7

// Counters is what has gone through a socket since it was opened.
type Counters struct {
	Listen        netip.AddrPort
	Socket        int    // number among all of the server
	Received      uint64 // queries; each has had a fast or slow reply, is dropped, or waits
	Fast          uint64 // replies of the lane that were sent
	Slow          uint64 // replies of Slow that were sent
	Dropped       [Reasons]uint64
	Overflowed    uint64 // queries that the kernel threw away as the socket was full, until it is closed; not among Received
	ReceiveErrors uint64
	Batches       [BatchSizes]uint64 // by how many queries they had: 1, 2, 3-4, 5-8, 9-16, 17-32, 33-64
}

// counts is Counters as it grows.
type counts struct {
	received, fast, slow, receiveErrors atomic.Uint64
	dropped                             [Reasons]atomic.Uint64
	batches                             [BatchSizes]atomic.Uint64
}

func (c *counts) batch(queries, replies int) {
	c.received.Add(uint64(queries))
	c.fast.Add(uint64(replies))
	if queries > 0 {
		c.batches[bits.Len(uint(queries-1))].Add(1)
	}
}

// counters gives a snapshot. What goes on meanwhile may be in some of it and not in the rest.
func (s *socket) counters() Counters {
	c := Counters{Listen: s.local, Socket: s.number, Received: s.counts.received.Load(), Fast: s.counts.fast.Load(),
		Slow: s.counts.slow.Load(), ReceiveErrors: s.counts.receiveErrors.Load(), Overflowed: s.overflowed()}
	for i := range c.Dropped {
		c.Dropped[i] = s.counts.dropped[i].Load()
	}
	for i := range c.Batches {
		c.Batches[i] = s.counts.batches[i].Load()
	}
	return c
}
