package queue

import (
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// shared is a Keeper of a queue that several processes may have, one after another.
type shared struct {
	*disk
	passive atomic.Bool // another process has it
	alone   atomic.Bool // nothing may be acknowledged
	reads   atomic.Int64
}

func (w *world) shared() *shared {
	w.t.Helper()
	d, err := openDisk(w.dir, slog.New(slog.DiscardHandler))
	if err != nil {
		w.t.Fatal(err)
	}
	return &shared{disk: d}
}

func (s *shared) Add(id string, text []byte, sum string, size int64) (bool, error) {
	if len(sum) != 64 {
		return false, errors.New("no sum")
	}
	if kept, err := s.disk.Add(id, text, sum, size); err != nil {
		return kept, err
	}
	return true, s.Prove(id)
}

func (s *shared) Prove(...string) error {
	if s.alone.Load() {
		return errors.New("no other site")
	}
	return nil
}

func (s *shared) Serving() error {
	s.reads.Add(1)
	if s.passive.Load() {
		return errors.New("another has it")
	}
	return nil
}

// A message that is kept and may not be acknowledged is sent, and who sends it again is told so once it may be.
func TestKeptAndNotAcknowledged(t *testing.T) {
	w := newWorld(t, "a.example. A 192.0.2.1")
	h := w.serve("192.0.2.1:25", nil)
	k := w.shared()
	w.change = func(o *Options) { o.Keeper = k }
	q, _ := w.run()
	m := message{from: alice, tx: strings.Repeat("1", 32), to: to("x@a.example")}
	k.alone.Store(true)
	for range 2 { // the first time, and as a repetition
		if results, err := put(t, q, m); err != nil || results["x@a.example"] == nil {
			t.Errorf("answer is %v, %v; want an error about x", results, err)
		}
	}
	empty(t, q)
	if results, err := put(t, q, m); err != nil || results["x@a.example"] == nil {
		t.Errorf("answer about what is done is %v, %v; want an error about x", results, err)
	}
	k.alone.Store(false)
	mustPut(t, q, m)
	if got := len(h.got()); got != 1 || q.Summary().Entries != 0 {
		t.Errorf("delivered %d times, and the queue has %+v; want once, and nothing", got, q.Summary())
	}
}

// Nothing is sent by a process that does not have the queue any more, and an attempt that is under way does not end.
func TestPassiveSendsNothing(t *testing.T) {
	w := newWorld(t, "a.example. A 192.0.2.1")
	in, out := make(chan struct{}, 1), make(chan struct{})
	h := w.serve("192.0.2.1:25", func(h *host) {
		h.rcpt = func(string) error {
			in <- struct{}{}
			<-out
			return nil
		}
	})
	k := w.shared()
	w.change = func(o *Options) { o.Keeper = k }
	q, stop := w.run()
	mustPut(t, q, message{from: alice, to: to("x@a.example")})
	<-in
	k.passive.Store(true)
	close(out)
	waitFor(t, "the attempt to end", func() bool { return q.Summary().Sessions == 0 })
	asked := k.reads.Load()
	waitFor(t, "the queue to ask again whether it may send", func() bool { return k.reads.Load() > asked+2 })
	if r := only(t, q); r.Attempts != 0 || r.State != Waiting || len(h.got()) != 0 {
		t.Errorf("after the queue went to another: %+v, %d delivered", r, len(h.got()))
	}
	stop()

	k.passive.Store(false) // the other
	q, _ = w.run()
	empty(t, q)
	if len(h.got()) != 1 {
		t.Errorf("delivered %d times, want once", len(h.got()))
	}
}

// A process that lost the queue does not go on with attempts for a while, as one does that is drained.
func TestPassiveEndsAtOnce(t *testing.T) {
	w := newWorld(t, "a.example. A 192.0.2.1")
	in, out := make(chan struct{}, 1), make(chan struct{})
	w.serve("192.0.2.1:25", func(h *host) {
		h.rcpt = func(string) error {
			in <- struct{}{}
			<-out
			return nil
		}
	})
	defer close(out)
	k := w.shared()
	w.change = func(o *Options) { o.Keeper, o.Grace, o.Times.Command = k, time.Hour, time.Hour }
	q, stop := w.run()
	mustPut(t, q, message{from: alice, to: to("x@a.example")})
	<-in
	k.passive.Store(true)
	stop() // which would hang
	if r := only(t, q); r.Attempts != 0 || r.State != Waiting {
		t.Errorf("after the end: %+v", r)
	}
}

// Hold waits for what is under way, has nothing begin, and lets go.
func TestHold(t *testing.T) {
	w := newWorld(t, "a.example. A 192.0.2.1")
	in, out := make(chan struct{}, 9), make(chan struct{})
	h := w.serve("192.0.2.1:25", func(h *host) {
		h.rcpt = func(to string) error {
			in <- struct{}{}
			<-out
			return nil
		}
	})
	q, _ := w.run()
	mustPut(t, q, message{from: alice, to: to("x@a.example")})
	<-in
	ctx, cancel := contextOf(t)
	cancel()
	release := q.Hold(ctx) // which does not wait
	mustPut(t, q, message{from: alice, to: to("y@a.example")})
	var held sync.WaitGroup
	var again func()
	held.Go(func() { again = q.Hold(t.Context()) })
	close(out)
	held.Wait()
	if s := q.Summary(); s.Sessions != 0 || s.Entries != 1 || len(h.got()) != 1 {
		t.Errorf("while it is held: %+v, %d delivered", s, len(h.got()))
	}
	release()
	release() // once more is nothing
	if s := q.Summary(); s.Entries != 1 {
		t.Errorf("while it is held once: %+v", s)
	}
	again()
	empty(t, q)
}
