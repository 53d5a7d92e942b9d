package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"anycastle/mailroles/store"
)

var _ Keeper = (*store.QueueKeeper)(nil)

// lun is a LUN of several replicas in one process. What the active one proposes is done by all that are up; the others do it
// when they come back.
type lun struct {
	t        *testing.T
	mu       sync.Mutex
	log      [][]byte
	moved    *sync.Cond // the log, or who is active
	replicas []*lunReplica
}

// lunReplica is one of them. It is the journal of its store.
type lunReplica struct {
	*lun
	root  string
	mail  *store.Store
	epoch int // counts up when it becomes active or ceases to be
	lead  bool
	up    bool
	told  int // operations that its store has done
	apply sync.WaitGroup
}

func newLUN(t *testing.T, replicas int) *lun {
	t.Helper()
	l := &lun{t: t}
	l.moved = sync.NewCond(&l.mu)
	for range replicas {
		r := &lunReplica{lun: l, root: inMemory(t)}
		l.replicas = append(l.replicas, r)
		r.start()
	}
	t.Cleanup(func() {
		for _, r := range l.replicas {
			r.stop()
		}
	})
	return l
}

// start starts the process of a replica. It does what it missed.
func (r *lunReplica) start() {
	r.t.Helper()
	mail, err := store.OpenWith(store.Options{Root: r.root, Journal: r})
	if err != nil {
		r.t.Fatal(err)
	}
	mail.Expect(uint64(r.told))
	r.mu.Lock()
	r.mail, r.up, r.told = mail, true, int(mail.Saved().Index)
	r.mu.Unlock()
	r.apply.Go(r.follow)
}

// follow does operations in their order.
func (r *lunReplica) follow() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.up {
		if r.told == len(r.log) {
			r.moved.Wait()
			continue
		}
		index, record := uint64(r.told+1), r.log[r.told]
		r.mu.Unlock()
		err := r.mail.Apply(index, store.Sum{}, record)
		r.mu.Lock()
		if err != nil {
			r.t.Errorf("operation %d: %v", index, err)
			return
		}
		r.told++
		r.moved.Broadcast()
	}
}

// stop ends the process. The store's own end does not count as a crash, so some are given none.
func (r *lunReplica) stop() {
	r.mu.Lock()
	if !r.up {
		r.mu.Unlock()
		return
	}
	r.up, r.lead = false, false
	r.epoch++
	r.moved.Broadcast()
	r.mu.Unlock()
	r.apply.Wait()
	r.mail.Follow()
	if err := r.mail.Close(); err != nil {
		r.t.Errorf("close: %v", err)
	}
}

// activate makes a replica the active one, once it has all operations.
func (r *lunReplica) activate() {
	r.t.Helper()
	r.mu.Lock()
	for r.told < len(r.log) {
		r.moved.Wait()
	}
	r.epoch++
	r.lead = true
	r.mu.Unlock()
	if err := r.mail.Lead(); err != nil {
		r.t.Fatal(err)
	}
}

// passivate ends that, as the loss of its lease does.
func (r *lunReplica) passivate() {
	r.mu.Lock()
	r.epoch++
	r.lead = false
	r.moved.Broadcast()
	r.mu.Unlock()
}

func (r *lunReplica) Serving() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.lead {
		return store.ErrPassive
	}
	return nil
}

func (r *lunReplica) Admit() error { return r.Serving() }

func (r *lunReplica) Append(record []byte) (func() (uint64, error), error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.lead {
		return nil, store.ErrPassive
	}
	r.log = append(r.log, record)
	index, epoch := len(r.log), r.epoch
	r.moved.Broadcast()
	return func() (uint64, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		for r.told < index && r.epoch == epoch {
			r.moved.Wait()
		}
		if r.epoch != epoch {
			return 0, store.ErrPassive
		}
		return uint64(index), nil
	}, nil
}

// Push does nothing: bodies are fetched, by who proves or misses them.
func (r *lunReplica) Push(store.Body) {}

// Prove gives the bodies to all that are up.
func (r *lunReplica) Prove(_ uint64, bodies []store.Body) error {
	for _, b := range bodies {
		for _, to := range r.replicas {
			r.mu.Lock()
			up := to.up
			r.mu.Unlock()
			if to != r && up && !to.mail.HasBody(b) {
				if err := r.give(to, b); err != nil {
					return err
				}
			}
		}
	}
	return r.Serving()
}

func (r *lunReplica) give(to *lunReplica, b store.Body) error {
	f, err := r.mail.OpenBody(b)
	if err != nil {
		return err
	}
	return errors.Join(to.mail.TakeBody(b, f), f.Close())
}

func (r *lunReplica) Fetch(_ context.Context, b store.Body) error {
	for _, from := range r.replicas {
		if from != r && from.up && from.give(r, b) == nil {
			return nil
		}
	}
	return store.ErrMissing
}

// serving is the queue of an active replica.
type serving struct {
	*Queue
	*lunReplica
	stopQueue func()
}

// serve makes a replica active and runs its queue.
func (w *world) serveLUN(r *lunReplica) *serving {
	w.t.Helper()
	r.activate()
	w.change = func(o *Options) {
		o.Dir, o.Keeper, o.Log = r.root+"/.queue", r.mail.QueueKeeper(), slog.New(slog.DiscardHandler)
	}
	q, stop := w.run()
	return &serving{q, r, stop}
}

// lose has the replica cease to be active, by the end of its process or without, and says how many attempts were under way.
func (s *serving) lose(process bool) (attempts int) {
	now, cancel := contextOf(s.t)
	cancel()
	release := s.Hold(now) // so that they can be counted
	defer release()
	attempts = s.Summary().Sessions
	s.passivate()
	s.stopQueue()
	s.mail.Follow()
	if process {
		s.lunReplica.stop()
		s.lunReplica.start()
	}
	return attempts
}

// A LUN's queue goes from replica to replica under load: what was acknowledged arrives, and nothing but what was under way
// at such a moment arrives twice. Who repeats a transaction is told that it is done.
func TestFailover(t *testing.T) {
	const failovers = 12
	w := newWorld(t, "a.example. A 192.0.2.1")
	h := w.serve("192.0.2.1:25", nil)
	l := newLUN(t, 2)
	var taken []message
	n, doubtful := 0, 0
	for i := range failovers {
		s := w.serveLUN(l.replicas[i%2])
		for _, m := range taken[max(0, len(taken)-3):] { // of the one before
			mustPut(t, s.Queue, m)
		}
		var clients sync.WaitGroup
		var mu sync.Mutex
		for c := range 3 {
			clients.Go(func() {
				for k := 0; ; k++ {
					m := message{
						from: alice, tx: fmt.Sprintf("%032x", i*100000+c*10000+k), to: to(fmt.Sprintf("u%d-%d-%d@a.example", i, c, k)),
					}
					results, err := put(t, s.Queue, m)
					if err == nil {
						err = results[m.to[0].Address]
					}
					if err != nil {
						if !errors.Is(err, store.ErrPassive) {
							t.Errorf("message is not taken: %v", err)
						}
						return
					}
					mu.Lock()
					taken = append(taken, m)
					mu.Unlock()
				}
			})
		}
		timer := time.NewTimer(time.Duration(50+rand.IntN(100)) * time.Millisecond)
		<-timer.C
		waitFor(t, "a message that is taken", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(taken) > n
		})
		doubtful += s.lose(i%3 == 0)
		clients.Wait()
		n = len(taken)
	}
	s := w.serveLUN(l.replicas[0])
	empty(t, s.Queue)
	count := map[string]int{}
	for _, m := range h.got() {
		count[m.to]++
		if !strings.HasSuffix(m.text, hello) {
			t.Errorf("%s got %q", m.to, m.text)
		}
	}
	more := 0
	for _, m := range taken {
		switch c := count[m.to[0].Address]; {
		case c == 0:
			t.Errorf("%s was taken and is lost", m.to[0].Address)
		case c > 1:
			more += c - 1
		}
	}
	if more > doubtful {
		t.Errorf("messages arrived %d times too often, with %d attempts that were under way", more, doubtful)
	}
	for _, m := range taken {
		mustPut(t, s.Queue, m)
	}
	if left := s.Summary(); left.Entries != 0 || left.SetAside != 0 {
		t.Errorf("after all were repeated the queue has %+v", left)
	}
	t.Logf("%d messages arrived, %d times too often; %d attempts were cut off", len(taken), more, doubtful)
	s.lose(false)
}

// Orders given at one replica hold at the other.
func TestFailoverOfOrders(t *testing.T) {
	w := newWorld(t, "a.example. A 192.0.2.1")
	h := w.serve("192.0.2.1:25", nil)
	l := newLUN(t, 2)
	s := w.serveLUN(l.replicas[0])
	for _, name := range []string{"held", "deleted", "released"} {
		mustPut(t, s.Queue, message{from: alice, hold: "a filter said so", to: to(name + "@a.example")})
	}
	ids := map[string]string{}
	for _, e := range s.Status() {
		ids[e.Recipients[0].Address] = e.ID
	}
	if _, err := s.Give(Order{Order: "delete", ID: ids["deleted@a.example"]}); err != nil {
		t.Fatal(err)
	}
	s.lose(true)
	s = w.serveLUN(l.replicas[1])
	if _, err := s.Give(Order{Order: "release", ID: ids["released@a.example"]}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the message that was released", func() bool { return len(h.got()) == 1 })
	waitFor(t, "the end of its entry", func() bool { return s.Summary().Entries == 1 })
	if _, err := s.Give(Order{Order: "hold", ID: ids["held@a.example"], By: "ops"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Give(Order{Order: "release", ID: "all"}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the other message", func() bool { return len(h.got()) == 2 })
	empty(t, s.Queue)
	s.lose(false)
	if _, err := s.Give(Order{Order: "hold", ID: "all"}); err != nil {
		t.Errorf("an order to an empty queue: %v", err)
	}
}

// A replica that leads without a body gets it before it sends the message.
func TestFailoverWithoutBody(t *testing.T) {
	w := newWorld(t, "a.example. A 192.0.2.1")
	h := w.serve("192.0.2.1:25", nil)
	l := newLUN(t, 3)
	l.replicas[2].stop() // misses all
	s := w.serveLUN(l.replicas[0])
	mustPut(t, s.Queue, message{from: alice, hold: "until later", to: to("x@a.example")})
	s.lose(false)
	l.replicas[2].start()
	s = w.serveLUN(l.replicas[2])
	if list, total := s.mail.Missing(9); total != 1 || len(list) != 1 {
		t.Errorf("missing: %v, want a body", list)
	}
	if _, err := s.Give(Order{Order: "release", ID: "all"}); err != nil {
		t.Fatal(err)
	}
	empty(t, s.Queue)
	if got := h.got(); len(got) != 1 || !strings.HasSuffix(got[0].text, hello) {
		t.Errorf("delivered %+v", got)
	}
	s.lose(false)
}
