package queue

import (
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

func TestOrders(t *testing.T) {
	w := newWorld(t, "a.example. A 192.0.2.1", "b.example. A 192.0.2.2")
	a := w.serve("192.0.2.1:25", nil)
	w.change = func(o *Options) { o.Config.RetryMin, o.Config.RetryMax = time.Hour, time.Hour }
	q, stop := w.run()
	give := func(order, id string, want int) {
		t.Helper()
		if got, err := q.Give(Order{Order: order, ID: id, By: "ops"}); err != nil || got.Entries != want {
			t.Errorf("%s %s: %+v, %v; want %d", order, id, got, err, want)
		}
	}
	mustPut(t, q, message{from: alice, to: to("held@a.example"), hold: "GTUBE"})
	mustPut(t, q, message{from: alice, to: to("x@b.example")})
	mustPut(t, q, message{from: alice, to: to("y@b.example")})
	waitFor(t, "attempts", func() bool {
		l := q.Status()
		return l[1].Recipients[0].Attempts == 1 && l[2].Recipients[0].Attempts == 1
	})
	ids := []string{q.Status()[0].ID, q.Status()[1].ID, q.Status()[2].ID}
	if s := q.Status()[0]; s.Held != "GTUBE" || s.Recipients[0].Attempts != 0 || s.Recipients[0].Next != nil {
		t.Errorf("held: %+v", s)
	}
	give("flush", "all", 2)
	waitFor(t, "a second attempt", func() bool {
		return q.Status()[1].Recipients[0].Attempts == 2 && q.Status()[2].Recipients[0].Attempts == 2
	})
	give("hold", ids[1], 1)
	give("hold", ids[1], 0)
	stop()
	q, _ = w.run() // orders outlive a restart
	if s := q.Status()[1]; s.Held != "ordered by ops" || s.Recipients[0].Next != nil {
		t.Errorf("held by order: %+v", s)
	}
	w.serve("192.0.2.2:25", nil)
	give("flush", ids[1], 0)
	give("delete", ids[2], 1)
	give("release", "all", 2)
	empty(t, q)
	if len(a.got()) != 1 || w.dialed("192.0.2.2:25") == 0 || len(w.reports()) != 0 {
		t.Errorf("%d delivered, %d reports", len(a.got()), len(w.reports()))
	}
	for _, o := range []Order{{Order: "flush", ID: ids[0]}, {Order: "burn", ID: "all"}} {
		if _, err := q.Give(o); err == nil {
			t.Errorf("%+v is no error", o)
		}
	}
	if left := append(w.files(bodyDir), w.files(entryDir)...); len(left) != 0 {
		t.Errorf("left on disk: %v", left)
	}
}

// An order that takes longer than who gave it waits says what is left, and goes on when it is given again.
func TestLongOrder(t *testing.T) {
	w := newWorld(t)
	w.change = func(o *Options) {
		o.step = func(string) error { time.Sleep(time.Millisecond); return nil }
	}
	q, err := w.open()
	if err != nil {
		t.Fatal(err)
	}
	const n = 200
	for range n {
		mustPut(t, q, message{from: alice, to: to("x@a.example")})
	}
	q.orderTime = 2 * time.Millisecond
	changed := 0
	for calls := 1; ; calls++ {
		got, err := q.Give(Order{Order: "hold", ID: "all"})
		if err != nil || got.Entries+got.Left == 0 && changed < n {
			t.Fatalf("%+v, %v", got, err)
		}
		if changed += got.Entries; got.Left == 0 {
			if calls == 1 {
				t.Error("it was done at once")
			}
			break
		}
	}
	if s := q.Summary(); changed != n || s.Held != n {
		t.Errorf("%d changed, %+v", changed, s)
	}
}

// An order to try now counts as well while the end of the last attempt is being written down.
func TestFlushWhileSaving(t *testing.T) {
	w := newWorld(t, "a.example. A 192.0.2.1")
	in, out := make(chan struct{}, 1), make(chan struct{})
	var saves atomic.Int32
	w.change = func(o *Options) {
		o.Config.RetryMin, o.Config.RetryMax = time.Hour, time.Hour
		o.step = func(what string) error {
			if what == "write envelope" && saves.Add(1) == 2 {
				in <- struct{}{}
				<-out
			}
			return nil
		}
	}
	q, _ := w.run()
	mustPut(t, q, message{from: alice, to: to("x@a.example")})
	<-in
	h := w.serve("192.0.2.1:25", nil)
	if got, err := q.Give(Order{Order: "flush", ID: "all"}); err != nil || got.Entries != 1 {
		t.Errorf("flush: %+v, %v", got, err)
	}
	close(out)
	empty(t, q)
	if len(h.got()) != 1 {
		t.Errorf("delivered %d times", len(h.got()))
	}
}

// An entry that is deleted while somebody works on it goes when that has ended.
func TestDeleteWhileRunning(t *testing.T) {
	w := newWorld(t, "a.example. A 192.0.2.1", "b.example. A 192.0.2.2")
	in, out := make(chan struct{}), make(chan struct{})
	w.serve("192.0.2.1:25", func(h *host) {
		h.rcpt = func(string) error { close(in); <-out; return reply(450, smtp.EnhancedCode{4, 2, 0}, "Later") }
	})
	q, _ := w.run()
	mustPut(t, q, message{from: alice, to: to("x@a.example", "y@b.example")})
	<-in
	if got, err := q.Give(Order{Order: "delete", ID: "all"}); err != nil || got.Entries != 1 {
		t.Errorf("delete: %+v, %v", got, err)
	}
	if list := q.Status(); len(list) != 1 || !list[0].Deleted {
		t.Errorf("while somebody works on it: %+v", list)
	}
	close(out)
	empty(t, q)
}

// What an order changed is on disk when it has been carried out, also while somebody works on the entry.
func TestDeletionOutlivesACrash(t *testing.T) {
	w := newWorld(t, "a.example. A 192.0.2.1", "b.example. A 192.0.2.2")
	in, out := make(chan struct{}), make(chan struct{})
	h := w.serve("192.0.2.1:25", func(h *host) {
		h.rcpt = func(string) error { in <- struct{}{}; <-out; return reply(450, smtp.EnhancedCode{4, 2, 0}, "Later") }
	})
	w.change = func(o *Options) { o.Config.RetryMin, o.Config.RetryMax = time.Hour, time.Hour }
	q, stop := w.run()
	mustPut(t, q, message{from: alice, to: to("x@a.example", "y@b.example")})
	<-in
	waitFor(t, "an attempt for the other", func() bool { return q.Status()[0].Recipients[1].Attempts == 1 })
	if got, err := q.Give(Order{Order: "delete", ID: "all"}); err != nil || got.Entries != 1 {
		t.Errorf("delete: %+v, %v", got, err)
	}
	crashed := t.TempDir() // what the disk has while the attempt is under way
	if err := os.CopyFS(crashed, os.DirFS(w.dir)); err != nil {
		t.Fatal(err)
	}
	close(out)
	empty(t, q)
	stop()
	w.dir = crashed
	q, _ = w.run()
	empty(t, q)
	if n := w.dialed("192.0.2.1:25"); n != 1 || len(h.got()) != 0 || len(w.reports()) != 0 {
		t.Errorf("dialled %d times, delivered %d, %d reports", n, len(h.got()), len(w.reports()))
	}
	if left := append(w.files(bodyDir), append(w.files(entryDir), w.files(asideDir)...)...); len(left) != 0 {
		t.Errorf("left on disk: %v", left)
	}
}

// An entry that was held while its last attempt was under way goes when that is done, after a restart too.
func TestHeldEntryThatIsDoneGoes(t *testing.T) {
	w := newWorld(t)
	q, err := w.open()
	if err != nil {
		t.Fatal(err)
	}
	mustPut(t, q, message{from: alice, to: to("x@a.example"), hold: "GTUBE"})
	for _, e := range q.entries {
		e.Legs[0].Recipients[0].State, e.Legs[0].Recipients[0].Told = Delivered, true
		if err := q.save(e); err != nil {
			t.Fatal(err)
		}
	}
	q, _ = w.run()
	empty(t, q)
}

// The files of an entry that is deleted go even when the disk fails in between.
func TestDeletionIsTriedAgain(t *testing.T) {
	w := newWorld(t)
	var broken atomic.Bool
	broken.Store(true)
	w.change = func(o *Options) {
		o.step = func(what string) error {
			if what == "remove body" && broken.Load() {
				return errCrash
			}
			return nil
		}
	}
	q, _ := w.run()
	mustPut(t, q, message{from: alice, to: to("x@a.example"), hold: "GTUBE"})
	if _, err := q.Give(Order{Order: "delete", ID: "all"}); err == nil {
		t.Error("nobody is told that the disk failed")
	}
	broken.Store(false)
	empty(t, q)
	if left := append(w.files(bodyDir), w.files(entryDir)...); len(left) != 0 {
		t.Errorf("left on disk: %v", left)
	}
}
