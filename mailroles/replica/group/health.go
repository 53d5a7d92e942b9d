package group

import (
	"sync"
	"sync/atomic"
)

// health is whether this member's disk and log are sound. The first failure is the one that counts.
type health struct {
	once sync.Once
	err  error
	down chan struct{}
	ops  atomic.Int64  // operations on the disk under way
	done atomic.Uint64 // and those that ended, so that a watcher sees whether one is stuck
	work chan struct{} // of one: an operation has begun
}

func newHealth() *health { return &health{down: make(chan struct{}), work: make(chan struct{}, 1)} }

// fail says that the member cannot go on.
func (h *health) fail(err error) {
	h.once.Do(func() {
		h.err = err
		close(h.down)
	})
}

// failed gives the failure, if there was one.
func (h *health) failed() error {
	select {
	case <-h.down:
		return h.err
	default:
		return nil
	}
}

// busy notes an operation on the disk until the function that it returns is called.
func (h *health) busy() func() {
	h.ops.Add(1)
	poke(h.work)
	return func() {
		h.done.Add(1)
		h.ops.Add(-1)
	}
}

// stuck counts how often it was called with the same operation under way: time that the whole process was stopped is
// not counted, as the disk is not to blame for that.
type stuck struct {
	h     *health
	done  uint64
	count int
}

func (s *stuck) look() (count int, idle bool) {
	done, idle := s.h.done.Load(), s.h.ops.Load() == 0
	if idle || done != s.done {
		s.count = 0
	} else {
		s.count++
	}
	s.done = done
	return s.count, idle
}
