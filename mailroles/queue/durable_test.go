package queue

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

var errCrash = errors.New("crash")

// crashAt gives a step function that fails at the n-th step and ever after, as if the process had died there, and counts steps.
func crashAt(n int32, steps *atomic.Int32) func(string) error {
	return func(string) error {
		if at := steps.Add(1); n > 0 && at >= n {
			return errCrash
		}
		return nil
	}
}

// A process that dies at whatever step of taking a message has it if it said so, and never half of it.
func TestCrashWhileTaking(t *testing.T) {
	for n := int32(1); ; n++ {
		w := newWorld(t, "a.example. A 192.0.2.1")
		h := w.serve("192.0.2.1:25", nil)
		var steps atomic.Int32
		w.change = func(o *Options) { o.step = crashAt(n, &steps) }
		q, err := w.open()
		if err != nil {
			t.Fatal(err)
		}
		results, err := put(t, q, message{from: alice, tx: strings.Repeat("1", 32), to: to("x@a.example")})
		if err != nil {
			t.Fatal(err)
		}
		taken := results["x@a.example"] == nil
		crashed := steps.Load() >= n
		if taken && crashed {
			t.Fatalf("step %d fails, and the message is taken", n)
		}

		w.change = func(*Options) {}
		q, stop := w.run()
		before := q.Summary()
		// the front end tries again what it has no answer for
		mustPut(t, q, message{from: alice, tx: strings.Repeat("1", 32), to: to("x@a.example")})
		empty(t, q)
		if got := h.got(); len(got) != 1 {
			t.Errorf("crash at step %d: delivered %d times, want once", n, len(got))
		}
		if left := len(w.files(asideDir)); left != before.SetAside {
			t.Errorf("crash at step %d: %d files set aside, %d reported", n, left, before.SetAside)
		}
		stop()
		if !crashed {
			if n < 6 {
				t.Errorf("only %d steps", n-1)
			}
			return
		}
	}
}

// A process that dies at whatever step after the host's answer delivers again at most, and tells the sender once.
func TestCrashWhileDelivering(t *testing.T) {
	for n := int32(1); ; n++ {
		w := newWorld(t, "a.example. A 192.0.2.1")
		h := w.serve("192.0.2.1:25", func(h *host) {
			h.rcpt = func(to string) error {
				if strings.HasPrefix(to, "bad") {
					return reply(550, smtp.EnhancedCode{5, 1, 1}, "No such user")
				}
				return nil
			}
		})
		q, err := w.open()
		if err != nil {
			t.Fatal(err)
		}
		mustPut(t, q, message{from: alice, tx: strings.Repeat("1", 32), to: to("x@a.example", "bad@a.example")})
		var steps atomic.Int32
		w.change = func(o *Options) { o.step = crashAt(n, &steps) }
		q, stop := w.run()
		waitFor(t, "the end or a crash", func() bool { return steps.Load() >= n || q.Summary().Entries == 0 })
		stop()
		crashed := steps.Load() >= n

		w.change = func(*Options) {}
		q, stop = w.run()
		empty(t, q)
		if got := len(h.got()); got < 1 || got > 2 || !crashed && got != 1 {
			t.Errorf("crash at step %d: delivered %d times", n, got)
		}
		if got := len(w.reports()); got != 1 {
			t.Errorf("crash at step %d: %d reports, want 1", n, got)
		}
		// the transaction is done, whatever happened
		mustPut(t, q, message{from: alice, tx: strings.Repeat("1", 32), to: to("x@a.example")})
		if got := q.Summary(); got.Entries != 0 || got.SetAside != 0 {
			t.Errorf("crash at step %d: %+v", n, got)
		}
		stop()
		if !crashed {
			if n < 4 {
				t.Errorf("only %d steps", n-1)
			}
			return
		}
	}
}

func TestRestartKeepsState(t *testing.T) {
	w := newWorld(t, "a.example. A 192.0.2.1", "b.example. A 192.0.2.2")
	h := w.serve("192.0.2.2:25", nil)
	w.change = func(o *Options) { o.Config.RetryMin, o.Config.RetryMax = time.Hour, 2*time.Hour }
	q, stop := w.run()
	mustPut(t, q, message{from: alice, to: to("x@a.example", "y@b.example"), hold: ""})
	mustPut(t, q, message{from: alice, to: to("z@b.example"), hold: "a filter said so"})
	tried := func() bool {
		s := q.Status()[0]
		return s.Recipients[0].Attempts == 1 && s.Recipients[1].State == Delivered && !s.Recipients[0].Running
	}
	waitFor(t, "an attempt for each", tried)
	before := q.Status()
	stop()
	q, _ = w.run()
	after := q.Status()
	if fmt.Sprint(shown(before)) != fmt.Sprint(shown(after)) || !tried() {
		t.Errorf("after a restart:\n%v\nbefore:\n%v", shown(after), shown(before))
	}
	if len(h.got()) != 1 {
		t.Errorf("delivered %d times, want once", len(h.got()))
	}
}

// shown gives what must outlive a restart.
func shown(list []Status) []string {
	var all []string
	for _, s := range list {
		for _, r := range s.Recipients {
			next := ""
			if r.Next != nil {
				next = r.Next.UTC().Format(time.RFC3339Nano)
			}
			all = append(all, fmt.Sprint(s.ID, s.From, s.Held, s.Size, s.Arrived.UTC().Format(time.RFC3339Nano), r.Address, r.State, r.Attempts, next, r.Last))
		}
	}
	return all
}

func TestDamageHoldsNothingUp(t *testing.T) {
	w := newWorld(t, "a.example. A 192.0.2.1")
	h := w.serve("192.0.2.1:25", nil)
	q, err := w.open()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		mustPut(t, q, message{from: alice, to: to(fmt.Sprintf("u%d@a.example", i))})
	}
	ids := w.files(entryDir)
	at := func(dir string, n int) string { return filepath.Join(w.dir, dir, ids[n]) }
	text, err := os.ReadFile(at(entryDir, 1))
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		os.Truncate(at(entryDir, 0), 20), // cut
		os.WriteFile(at(entryDir, 1), []byte(strings.Replace(string(text), "u", "v", 1)), 0o600), // a bit turned over
		os.Remove(at(bodyDir, 2)),
		os.Truncate(at(bodyDir, 3), 5),
		os.WriteFile(at(bodyDir, 5)+"0", []byte("half"), 0o600), // debris
		os.WriteFile(at(entryDir, 5)+".new", []byte("half"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	q, _ = w.run()
	empty(t, q)
	var got []string
	for _, l := range h.got() {
		got = append(got, l.to)
	}
	slices.Sort(got)
	if fmt.Sprint(got) != "[u4@a.example u5@a.example]" {
		t.Errorf("delivered %v", got)
	}
	if n := q.Summary().SetAside; n != 6 {
		t.Errorf("%d set aside, want 6", n)
	}
	aside := w.files(asideDir)
	if len(aside) != 9 { // two files of each of 0, 1 and 3, one of 2, and two of debris
		t.Errorf("set aside %v", aside)
	}
	if log := w.log.String(); strings.Count(log, "set aside") < 9 || !strings.Contains(log, "checksum") {
		t.Errorf("the log says little of it:\n%s", log)
	}
}

// A message that cannot be read says nothing of its destination.
func TestLostBodyHoldsNobodyElseUp(t *testing.T) {
	w := newWorld(t, "a.example. A 192.0.2.1")
	h := w.serve("192.0.2.1:25", nil)
	w.change = func(o *Options) { o.Config.RetryMin, o.Config.RetryMax = time.Hour, time.Hour }
	q, err := w.open()
	if err != nil {
		t.Fatal(err)
	}
	mustPut(t, q, message{from: alice, to: to("lost@a.example")})
	if err := os.Remove(filepath.Join(w.dir, bodyDir, w.files(bodyDir)[0])); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := contextOf(t)
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx) }()
	waitFor(t, "an attempt", func() bool { return only(t, q).Attempts == 1 })
	mustPut(t, q, message{from: alice, to: to("x@a.example")})
	waitFor(t, "the other to leave", func() bool { return q.Summary().Entries == 1 })
	if len(h.got()) != 1 || h.got()[0].to != "x@a.example" {
		t.Errorf("delivered %+v, left %+v", h.got(), q.Status())
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A queue may run again after it has been stopped, as a store does that was drained. What was cut off then is sent.
func TestQueueRunsAgain(t *testing.T) {
	w := newWorld(t, "a.example. A 192.0.2.1")
	in, out := make(chan struct{}, 1), make(chan struct{})
	h := w.serve("192.0.2.1:25", func(h *host) {
		h.rcpt = func(string) error {
			select {
			case in <- struct{}{}:
			default:
			}
			<-out
			return nil
		}
	})
	w.change = func(o *Options) { o.Times.Command, o.Grace = time.Hour, 50*time.Millisecond }
	q, stop := w.run()
	mustPut(t, q, message{from: alice, to: to("x@a.example")})
	<-in
	stop()
	close(out)
	if r := only(t, q); r.Attempts != 0 || r.Running {
		t.Errorf("after an attempt that was cut off: %+v", r)
	}
	ctx, cancel := contextOf(t)
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx) }()
	empty(t, q)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if len(h.got()) != 1 {
		t.Errorf("delivered %d times, want once", len(h.got()))
	}
}

func TestFullQueueTakesNothing(t *testing.T) {
	w := newWorld(t)
	w.change = func(o *Options) { o.Config.MaxRecipients = 3 }
	q, err := w.open()
	if err != nil {
		t.Fatal(err)
	}
	mustPut(t, q, message{from: alice, to: to("a@a.example", "b@a.example")})
	results, err := put(t, q, message{from: alice, tx: strings.Repeat("1", 32), to: to("c@a.example", "d@a.example")})
	if err != nil || !errors.Is(results["c@a.example"], errFull) || !errors.Is(results["d@a.example"], errFull) {
		t.Errorf("got %v, %v", results, err)
	}
	mustPut(t, q, message{from: alice, tx: strings.Repeat("1", 32), to: to("c@a.example")})
	if s := q.Summary(); s.Recipients != 3 || s.Entries != 2 {
		t.Errorf("holds %+v", s)
	}
}

func TestWhatIsNotTaken(t *testing.T) {
	w := newWorld(t)
	q, err := w.open()
	if err != nil {
		t.Fatal(err)
	}
	circle := strings.Repeat("Received: from a by b; now\r\n", maxHops) + hello
	for name, tc := range map[string]struct {
		m    message
		want error
	}{
		"sender":    {message{from: "nobody", to: to("x@a.example")}, errSender},
		"recipient": {message{from: alice, to: to("x@a..example")}, errSyntax},
		"circle":    {message{from: alice, to: to("x@a.example"), text: circle}, errLoop},
	} {
		results, err := put(t, q, tc.m)
		if err == nil {
			err = results["x@a.example"]
		}
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	if left := append(w.files(bodyDir), w.files(entryDir)...); len(left) != 0 {
		t.Errorf("left on disk: %v", left)
	}
}

// A full disk after the host took a message: it is not sent again, and goes when the disk has room.
func TestDiskThatFailsForAWhile(t *testing.T) {
	w := newWorld(t, "a.example. A 192.0.2.1")
	h := w.serve("192.0.2.1:25", nil)
	var broken atomic.Bool
	w.change = func(o *Options) {
		o.step = func(what string) error {
			if broken.Load() {
				return errors.New("no space left on device")
			}
			return nil
		}
	}
	q, err := w.open()
	if err != nil {
		t.Fatal(err)
	}
	mustPut(t, q, message{from: alice, to: to("x@a.example")})
	broken.Store(true)
	ctx, cancel := contextOf(t)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx) }()
	waitFor(t, "complaints", func() bool { return strings.Count(w.log.String(), "queue entry does not go on") > 3 })
	broken.Store(false)
	empty(t, q)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if len(h.got()) != 1 {
		t.Errorf("delivered %d times, want once", len(h.got()))
	}
}
