package udp

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

const (
	errorPause = 100 * time.Millisecond // after an error that a socket gives again and again
	yieldAfter = 8 * time.Millisecond   // within the 10 ms after which the scheduler wants a goroutine to yield
	lastLook   = 5 * time.Millisecond   // what the kernel may need to put into a socket what it had chosen it for
)

// reader serves one socket.
type reader struct {
	*Server
	sock *socket
	lane Lane
	b    *batch

	yielded time.Time
	served  time.Time // when the batch before was read
}

// run answers until the server stops, and then what is left in the socket.
func (r *reader) run() error {
	for failures := 0; !r.stopping.Load(); {
		n, err := r.b.receive(r.sock.fd, unix.MSG_WAITFORONE)
		if err == nil {
			failures = 0
			now := r.cfg.Now()
			r.yield(now)
			r.serve(now, n)
			r.gather(now, n)
			continue
		}
		if gone(err) {
			return fmt.Errorf("read from UDP %v: %w", r.sock.local, err)
		}
		if failures++; r.failed(err) && failures > 1 {
			r.cfg.Log.Warn("UDP socket gives errors", "listen", r.sock.local, "err", err)
			select {
			case <-r.stopped:
			case <-time.After(errorPause):
			}
		}
	}
	r.drain()
	return nil
}

// gone says whether an error is one that the socket will give for ever.
func gone(err error) bool { return errors.Is(err, unix.EBADF) || errors.Is(err, unix.ENOTSOCK) }

// failed counts an error of reading, and says whether it was one. Errors such as ECONNREFUSED, which an ICMP message of
// somebody brings about, are over when they have been told.
func (r *reader) failed(err error) bool {
	if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
		return false
	}
	r.sock.counts.receiveErrors.Add(1)
	return true
}

// drain answers what is left in the socket, after the kernel has been told to put nothing more there.
func (r *reader) drain() {
	r.sock.leave()
	end := time.After(r.cfg.Drain)
	for looked := false; ; {
		select {
		case <-end:
			return
		default:
		}
		n, err := r.b.receive(r.sock.fd, unix.MSG_DONTWAIT)
		switch {
		case err == nil:
			r.serve(r.cfg.Now(), n)
		case gone(err):
			return
		case !errors.Is(err, unix.EAGAIN):
			r.failed(err)
		case looked:
			return
		default:
			looked = true
			time.Sleep(lastLook)
		}
	}
}

// serve answers a batch of so many queries.
func (r *reader) serve(now time.Time, n int) {
	r.lane.Begin(now)
	queries, replies := 0, 0
	for i := range n {
		if r.b.in[i].Namelen == 0 {
			continue // no query, but the end of the wait for one
		}
		queries++
		if r.answer(i, replies) {
			replies++
		}
	}
	if replies > 0 {
		replies -= r.sock.send(r.b.out[:replies])
	}
	r.sock.counts.batch(queries, replies)
	for i := range n {
		r.b.refresh(i)
	}
}

// answer has the lane answer the i-th query, and says whether there is a reply in place k.
func (r *reader) answer(i, k int) bool {
	query, from, why := r.b.query(i)
	if query == nil {
		r.sock.drop(why)
		return false
	}
	reply := r.b.replies[k][:MaxReply:MaxReply]
	size, verdict := r.lane.Fast(reply, query, from)
	switch verdict {
	case Answered:
		r.b.answer(k, i, len(reply[:size]))
		return true
	case Slow:
		if !r.enqueue(r.sock, r.b, i, query, from) {
			r.sock.drop(QueueFull)
		}
	default:
		r.sock.drop(Unwanted)
	}
	return false
}

// yield gives way to other goroutines now and then. One that never does is taken for one that computes without end: Go's
// monitor then takes its P away in each system call, for which it wakes up some thousand times a second, and the time that
// costs is half of what all queries of a server that is not busy cost.
func (r *reader) yield(now time.Time) {
	if now.Sub(r.yielded) > yieldAfter {
		r.yielded = now
		runtime.Gosched()
	}
}

// gather waits a moment for more queries if they come often: to be woken up costs more than an answer, and is paid once for
// all that have come meanwhile.
func (r *reader) gather(now time.Time, n int) {
	since := now.Sub(r.served)
	r.served = now
	if worthWaiting(since, n, r.cfg.Gather) {
		pause := unix.NsecToTimespec(int64(r.cfg.Gather))
		_ = unix.Nanosleep(&pause, nil) // a signal cuts it short, which is as good
	}
}

// worthWaiting says whether another query is to be expected within the pause, when n have come since the batch before. A full
// batch says that more are there already. A query that comes alone is never delayed, nor is the one after it.
func worthWaiting(since time.Duration, n int, pause time.Duration) bool {
	return n < batchSize && since <= time.Duration(n)*pause
}
