package queue

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

func TestRepetitionsAreRecognised(t *testing.T) {
	w := newWorld(t, "a.example. A 192.0.2.1")
	h := w.serve("192.0.2.1:25", nil)
	q, stop := w.run()
	tx := strings.Repeat("1", 32)
	send := func(addresses ...string) { mustPut(t, q, message{from: alice, tx: tx, to: to(addresses...)}) }
	send("x@a.example")
	send("x@a.example") // at once, or when it is done
	empty(t, q)
	send("x@a.example", "y@a.example") // the second is new
	empty(t, q)
	stop()
	q, _ = w.run()
	send("y@a.example", "x@a.example") // after a restart
	empty(t, q)
	if got := h.got(); len(got) != 2 || got[0].to != "x@a.example" || got[1].to != "y@a.example" {
		t.Errorf("delivered %d times, want each once: %+v", len(got), got)
	}
	mustPut(t, q, message{from: alice, to: to("x@a.example")}) // without an id it is another
	mustPut(t, q, message{from: alice, tx: strings.Repeat("2", 32), to: to("x@a.example")})
	empty(t, q)
	if len(h.got()) != 4 {
		t.Errorf("delivered %d times, want 4", len(h.got()))
	}

	q.tidy(time.Now().Add(doneTime + time.Second))
	if left := w.files(doneDir); len(left) != 0 || len(q.memory) != 0 || len(q.records) != 0 {
		t.Errorf("after its time it remembers %v, %v", left, q.memory)
	}
	send("x@a.example")
	empty(t, q)
	if len(h.got()) != 5 {
		t.Errorf("delivered %d times, want 5", len(h.got()))
	}
}

// Who sends a message again to somebody who did not get it means that: after a failure, and after an order deleted it.
func TestWhatFailedMayBeSentAgain(t *testing.T) {
	w := newWorld(t, "a.example. A 192.0.2.1")
	var refuses atomic.Bool
	refuses.Store(true)
	h := w.serve("192.0.2.1:25", func(h *host) {
		h.rcpt = func(to string) error {
			if to == "x@a.example" && refuses.Load() {
				return reply(550, smtp.EnhancedCode{5, 1, 1}, "No such user")
			}
			return nil
		}
	})
	q, stop := w.run()
	m := message{from: alice, tx: strings.Repeat("1", 32), to: to("x@a.example", "y@a.example")}
	mustPut(t, q, m)
	empty(t, q)
	mustPut(t, q, m)
	empty(t, q)
	if len(h.got()) != 1 || len(w.reports()) != 2 {
		t.Errorf("%d delivered, %d reports; want 1 and 2", len(h.got()), len(w.reports()))
	}
	stop()
	refuses.Store(false)
	q, _ = w.run() // the failure is remembered as one
	mustPut(t, q, m)
	empty(t, q)
	if got := h.got(); len(got) != 2 || got[1].to != "x@a.example" {
		t.Errorf("delivered %+v; want y and then x", got)
	}

	deleted := message{from: alice, tx: strings.Repeat("2", 32), to: to("x@a.example"), hold: "GTUBE"}
	mustPut(t, q, deleted)
	if _, err := q.Give(Order{Order: "delete", ID: "all"}); err != nil {
		t.Error(err)
	}
	deleted.hold = ""
	mustPut(t, q, deleted)
	empty(t, q)
	if len(h.got()) != 3 {
		t.Errorf("delivered %d times, want 3", len(h.got()))
	}
}

// While a message is written its repetition is neither taken nor said to be taken.
func TestRepetitionWaitsForTheFirst(t *testing.T) {
	w := newWorld(t)
	in, out := make(chan struct{}), make(chan struct{})
	w.change = func(o *Options) {
		o.step = func(what string) error {
			if what == "sync body" {
				close(in)
				<-out
				return errCrash
			}
			return nil
		}
	}
	q, err := w.open()
	if err != nil {
		t.Fatal(err)
	}
	m := message{from: alice, tx: strings.Repeat("1", 32), to: to("x@a.example")}
	first := make(chan error, 1)
	go func() {
		results, err := put(t, q, m)
		first <- errors.Join(err, results["x@a.example"])
	}()
	<-in
	if results, err := put(t, q, m); err != nil || !errors.Is(results["x@a.example"], errBusy) {
		t.Errorf("a repetition got %v, %v", results, err)
	}
	close(out)
	if err := <-first; !errors.Is(err, errCrash) {
		t.Errorf("the first got %v", err)
	}
	if len(q.memory) != 0 || q.Summary().Recipients != 0 {
		t.Errorf("what was not taken is remembered: %v, %+v", q.memory, q.Summary())
	}
}
