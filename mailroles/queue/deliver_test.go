package queue

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/google/go-cmp/cmp"
)

func reply(code int, status smtp.EnhancedCode, text string) error {
	return &smtp.SMTPError{Code: code, EnhancedCode: status, Message: text}
}

func TestEachRecipientOnItsOwn(t *testing.T) {
	w := newWorld(t, "a.example. MX 10 mx.a.example.", "mx.a.example. A 192.0.2.1", "b.example. A 192.0.2.2", "c.example. A 192.0.2.3")
	var tries atomic.Int32
	a := w.serve("192.0.2.1:25", func(h *host) {
		h.rcpt = func(to string) error {
			switch {
			case strings.HasPrefix(to, "nobody"):
				return reply(550, smtp.EnhancedCode{5, 1, 1}, "No such user")
			case strings.HasPrefix(to, "slow") && tries.Add(1) < 3:
				return reply(450, smtp.EnhancedCode{4, 2, 1}, "Greylisted")
			}
			return nil
		}
	})
	b := w.serve("192.0.2.2:25", nil)
	q, _ := w.run()
	mustPut(t, q, message{from: alice, to: to("ok@a.example", "nobody@a.example", "slow@a.example", "ok@B.example", "gone@d.example")})
	empty(t, q)
	var took []string
	for _, h := range []*host{a, b} {
		for _, l := range h.got() {
			took = append(took, l.from+" "+l.to)
			if l.text != "Received: from x by y; now\r\n"+hello {
				t.Errorf("%s got %q", l.to, l.text)
			}
		}
	}
	if diff := cmp.Diff([]string{alice + " ok@a.example", alice + " slow@a.example", alice + " ok@B.example"}, took); diff != "" {
		t.Errorf("delivered (-want +got):\n%s", diff)
	}
	reports := w.reports()
	if len(reports) != 2 { // one for each destination that failed
		t.Fatalf("%d reports, want 2", len(reports))
	}
	all := reports[0].text + reports[1].text
	for _, want := range []string{"nobody@a.example", "550 5.1.1 No such user", "gone@d.example", "There is no domain d.example", "Status: 5.1.2"} {
		if !strings.Contains(all, want) {
			t.Errorf("the reports lack %q:\n%s", want, all)
		}
	}
	for _, not := range []string{"<ok@", "<slow@"} {
		if strings.Contains(all, not) {
			t.Errorf("the reports tell of %s:\n%s", not, all)
		}
	}
	s := q.Summary()
	if s.Delivered != 3 || s.Bounced["rejected"] != 1 || s.Bounced["no-domain"] != 1 || s.Deferred["rejected"] != 2 || s.Reports["failed"] != 2 || s.Recipients != 0 {
		t.Errorf("counts %+v", s)
	}
	for _, dir := range []string{bodyDir, entryDir, doneDir, asideDir} {
		if left := w.files(dir); len(left) > 0 {
			t.Errorf("%s has %v left", dir, left)
		}
	}
}

// Addresses come without the quotes of their local part, and go out with them.
func TestQuotedLocalPart(t *testing.T) {
	w := newWorld(t, "a.example. A 192.0.2.1")
	h := w.serve("192.0.2.1:25", func(h *host) {
		h.rcpt = func(to string) error {
			if strings.HasPrefix(to, "no one") {
				return reply(550, smtp.EnhancedCode{5, 1, 1}, "No such user")
			}
			return nil
		}
	})
	q, _ := w.run()
	mustPut(t, q, message{from: alice, to: to(`a "b" c\@a.example`, "x@y@a.example", "no one@a.example")})
	mustPut(t, q, message{from: "mail er@b.example", to: to("x@a.example")})
	empty(t, q)
	var got []string
	for _, l := range h.got() {
		got = append(got, l.from+" to "+l.to)
	}
	want := []string{alice + ` to a "b" c\@a.example`, alice + " to x@y@a.example", "mail er@b.example to x@a.example"}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("delivered (-want +got):\n%s", diff)
	}
	if text := w.reports()[0].text; !strings.Contains(text, "\r\nFinal-Recipient: rfc822; \"no one\"@a.example\r\n") {
		t.Errorf("the report has no such recipient:\n%s", text)
	}
}

func TestWhereMailCannotGo(t *testing.T) {
	records := []string{
		"null.example. MX 0 .", "void.example. TXT x", "half.example. MX 5 nohost.example.", "loop.example. MX 10 mail.home.example.",
		"self.example. MX 10 own.example.", "own.example. A 198.51.100.1", "mail.home.example. A 198.51.100.9",
		"round.example. CNAME trip.example.", "trip.example. CNAME round.example.", "dark.example. MX 5 broken.example.",
	}
	for _, tc := range []struct{ address, state, want string }{
		{"x@null.example", "failed", "556 5.1.10 null.example takes no mail (null MX)"},
		{"x@none.example", "failed", "550 5.1.2 There is no domain none.example"},
		{"x@void.example", "failed", "550 5.4.4 No mail server of void.example has an address"},
		{"x@half.example", "failed", "550 5.4.4 No mail server of half.example has an address"},
		{"x@loop.example", "failed", "554 5.4.6 Mail for loop.example comes back to this server"},
		{"x@self.example", "failed", "554 5.4.6 Mail for self.example comes back to this server"},
		{"x@[198.51.100.1]", "failed", "554 5.4.6 [198.51.100.1] is this server, which does not know the mailbox"},
		{"x@broken.example", "waiting", "451 4.4.3 look up MX of broken.example"},
		{"x@dark.example", "waiting", "451 4.4.3 look up addresses of broken.example"},
		{"x@round.example", "waiting", "451 4.4.3 look up MX of round.example: the aliases of round.example go round in a loop"},
		{"x@[192.0.2.77]", "waiting", "451 4.4.1 192.0.2.77 [192.0.2.77]: connect: dial 192.0.2.77:25: connection refused"},
	} {
		t.Run(tc.address, func(t *testing.T) {
			w := newWorld(t, records...)
			w.fail("broken.example.")
			w.homeErr = errors.New("mailbox is full") // so that the entry stays to be looked at
			w.change = func(o *Options) { o.Config.RetryMin, o.Config.RetryMax = time.Hour, time.Hour }
			q, _ := w.run()
			mustPut(t, q, message{from: alice, to: to(tc.address)})
			waitFor(t, "an attempt", func() bool { return only(t, q).Attempts == 1 })
			if r := only(t, q); string(r.State) != tc.state || !strings.HasPrefix(r.Last, tc.want) {
				t.Errorf("%s: %q, want %s: %q", r.State, r.Last, tc.state, tc.want)
			}
		})
	}
}

func TestHostsAreTriedInOrder(t *testing.T) {
	busy := func(h *host) {
		h.rcpt = func(string) error { return reply(421, smtp.EnhancedCode{4, 3, 2}, "Busy") }
	}
	w := newWorld(t, "a.example. MX 10 one.example.", "a.example. MX 20 two.example.", "a.example. MX 30 three.example.", "a.example. MX 40 four.example.",
		"one.example. A 192.0.2.1", "two.example. AAAA 2001:db8::2", "two.example. A 192.0.2.2", "three.example. A 192.0.2.3", "four.example. A 192.0.2.4")
	w.serve("192.0.2.2:25", busy)
	three, four := w.serve("[2001:db8::2]:25", busy), w.serve("192.0.2.3:25", nil)
	q, _ := w.run()
	mustPut(t, q, message{from: alice, to: to("x@a.example")})
	empty(t, q)
	if len(three.got()) != 0 || len(four.got()) != 1 || w.dialed("192.0.2.4:25") != 0 {
		t.Errorf("delivered %d and %d times, and %d dials of the last", len(three.got()), len(four.got()), w.dialed("192.0.2.4:25"))
	}
	for _, addr := range []string{"192.0.2.1:25", "[2001:db8::2]:25", "192.0.2.2:25", "192.0.2.3:25"} {
		if n := w.dialed(addr); n != 1 {
			t.Errorf("%s was dialled %d times", addr, n)
		}
	}
}

// A host with many addresses of IPv6 is reached where there is none of that.
func TestHostOfManyAddresses(t *testing.T) {
	records := []string{"a.example. A 192.0.2.1"}
	for i := range 8 {
		records = append(records, fmt.Sprintf("a.example. AAAA 2001:db8::%d", i+1))
	}
	w := newWorld(t, records...)
	h := w.serve("192.0.2.1:25", nil)
	q, _ := w.run()
	mustPut(t, q, message{from: alice, to: to("x@a.example")})
	empty(t, q)
	if len(h.got()) != 1 || w.dialed("[2001:db8::1]:25") != 1 {
		t.Errorf("delivered %d times", len(h.got()))
	}
}

// Who is an exchanger itself may pass mail on to those before it alone (RFC 5321 section 5.1).
func TestOnlyHostsBeforeUsAreTried(t *testing.T) {
	w := newWorld(t, "a.example. MX 10 one.example.", "a.example. MX 20 mail.home.example.", "a.example. MX 20 two.example.", "a.example. MX 30 three.example.",
		"one.example. A 192.0.2.1", "two.example. A 192.0.2.2", "three.example. A 192.0.2.3", "mail.home.example. A 203.0.113.1")
	for _, addr := range []string{"192.0.2.2:25", "192.0.2.3:25", "203.0.113.1:25"} {
		w.serve(addr, nil)
	}
	q, _ := w.run()
	mustPut(t, q, message{from: alice, to: to("x@a.example")})
	waitFor(t, "three attempts", func() bool { return only(t, q).Attempts >= 3 })
	w.serve("192.0.2.1:25", nil)
	empty(t, q)
	if n := w.dialed("192.0.2.2:25") + w.dialed("192.0.2.3:25") + w.dialed("203.0.113.1:25"); n != 0 {
		t.Errorf("hosts that are not before us were dialled %d times", n)
	}
}

// After the message was sent whole, no other host gets it in the same attempt: the one that is silent may have it.
func TestLostAnswerIsTriedAgain(t *testing.T) {
	w := newWorld(t, "a.example. MX 10 one.example.", "a.example. MX 20 two.example.", "one.example. A 192.0.2.1", "two.example. A 192.0.2.2")
	one := w.serve("192.0.2.1:25", func(h *host) {
		h.data = func(n int) error {
			if n == 1 {
				return reply(451, smtp.EnhancedCode{4, 3, 0}, "Later")
			}
			return nil
		}
	})
	two := w.serve("192.0.2.2:25", nil)
	q, _ := w.run()
	mustPut(t, q, message{from: alice, to: to("x@a.example")})
	empty(t, q)
	if len(one.got()) != 1 || len(two.got()) != 0 {
		t.Errorf("delivered %d and %d times", len(one.got()), len(two.got()))
	}
}

func TestManyToOneDestination(t *testing.T) {
	w := newWorld(t, "a.example. A 192.0.2.1", "b.example. A 192.0.2.2")
	release := make(chan struct{})
	var now, most atomic.Int32 // transactions at a time
	a := w.serve("192.0.2.1:25", func(h *host) {
		h.rcpt = func(string) error {
			n := now.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			<-release
			return nil
		}
		h.data = func(int) error { now.Add(-1); return nil } // before the client hears of it
	})
	b := w.serve("192.0.2.2:25", nil)
	w.change = func(o *Options) { o.Config.Sessions, o.Config.PerDestination = 4, 3 }
	q, _ := w.run()
	for i := range 20 {
		mustPut(t, q, message{from: alice, to: to(fmt.Sprintf("u%d@a.example", i))})
	}
	waitFor(t, "three sessions", func() bool { return q.Summary().Sessions == 3 })
	mustPut(t, q, message{from: alice, to: to("x@b.example")})
	waitFor(t, "another destination", func() bool { return len(b.got()) == 1 }) // which does not wait for the first
	close(release)
	empty(t, q)
	if len(a.got()) != 20 || most.Load() > 3 {
		t.Errorf("%d messages, %d sessions at a time; want 20 and 3", len(a.got()), most.Load())
	}
}

// A host that takes some recipients at a time gets the others at once (RFC 5321 section 4.5.3.1.10), as long as it takes any.
func TestHostThatTakesFewRecipients(t *testing.T) {
	w := newWorld(t, "a.example. A 192.0.2.1")
	h := w.serve("192.0.2.1:25", func(h *host) {
		h.MaxRecipients = 3
		h.rcpt = func(to string) error {
			if to == "full@a.example" {
				return reply(452, smtp.EnhancedCode{4, 2, 2}, "Mailbox is full")
			}
			return nil
		}
	})
	w.change = func(o *Options) { o.Config.RetryMin, o.Config.RetryMax = time.Hour, time.Hour }
	q, _ := w.run()
	many := []string{"full@a.example"}
	for i := range 10 {
		many = append(many, fmt.Sprintf("u%d@a.example", i))
	}
	mustPut(t, q, message{from: alice, to: to(many...)})
	waitFor(t, "all but one", func() bool { return len(h.got()) == 10 })
	waitFor(t, "an attempt for him alone", func() bool {
		r := q.Status()[0].Recipients[0]
		return !r.Running && r.Next != nil && time.Until(*r.Next) > time.Minute
	})
	if n := w.dialed("192.0.2.1:25"); n != 4 && n != 5 {
		t.Errorf("dialled %d times", n)
	}
}

// A destination that cannot be reached is not tried for each of its messages.
func TestDeadDestinationIsTriedSeldom(t *testing.T) {
	w := newWorld(t, "a.example. A 192.0.2.1")
	w.change = func(o *Options) {
		o.Config.RetryMin, o.Config.RetryMax, o.Config.PerDestination = time.Minute, time.Hour, 2
	}
	q, _ := w.run()
	for i := range 50 {
		mustPut(t, q, message{from: alice, to: to(fmt.Sprintf("u%d@a.example", i))})
	}
	waitFor(t, "50 attempts", func() bool {
		n := 0
		for _, e := range q.Status() {
			n += e.Recipients[0].Attempts
		}
		return n == 50
	})
	if n := w.dialed("192.0.2.1:25"); n > 4 {
		t.Errorf("dialled %d times for 50 messages", n)
	}
	a := w.serve("192.0.2.1:25", nil)
	if got, err := q.Give(Order{Order: "flush", ID: "all"}); err != nil || got.Entries != 50 {
		t.Errorf("flush: %+v, %v", got, err)
	}
	empty(t, q)
	if len(a.got()) != 50 {
		t.Errorf("%d messages arrived, want 50", len(a.got()))
	}
}

func TestSmarthost(t *testing.T) {
	config := certifiedFor(t, "mx.example.org")
	w := newWorld(t, "mx.example.org. A 192.0.2.1", "a.example. MX 0 .")
	relay := w.serve("192.0.2.1:587", func(h *host) { h.TLSConfig = config })
	secret := writeFile(t, "secret\n")
	w.change = func(o *Options) {
		o.Config.Smarthost = &Smarthost{Host: "mx.example.org:587", User: "us", PasswordFile: secret, CA: writeFile(t, caOf(t, config))}
	}
	q, _ := w.run()
	mustPut(t, q, message{from: alice, to: to("x@a.example", "y@b.example")})
	empty(t, q)
	for _, l := range relay.got() {
		if !l.secure || l.user != "us" {
			t.Errorf("%s came with TLS %v as %q", l.to, l.secure, l.user)
		}
	}
	if len(relay.got()) != 2 {
		t.Errorf("%d recipients at the relay, want 2", len(relay.got()))
	}
	if strings.Contains(w.log.String(), "secret\n") || strings.Contains(w.log.String(), "AHVzAHNlY3JldA") {
		t.Error("the password is in the log")
	}
}
