package smtpd

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"anycastle/mailroles/store"
)

// holding begins a Hold; what it gives receives release.
func (s testServer) holding(ctx context.Context) <-chan func() {
	held := make(chan func(), 1)
	go func() { held <- s.Hold(ctx) }()
	return held
}

// shut waits until the gate is.
func (s testServer) shut(t *testing.T) {
	t.Helper()
	await(t, func() bool {
		s.gate.mu.Lock()
		defer s.gate.mu.Unlock()
		return s.gate.opened != nil
	})
}

// linked gets as far as LHLO's reply.
func (s testServer) linked(t *testing.T) *client {
	t.Helper()
	c := s.dialTCP(t)
	c.expect(220)
	c.say(250, "LHLO mx.example.org")
	return c
}

// waits makes sure that no reply comes for a while.
func (c *client) waits() {
	c.t.Helper()
	c.raw.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := c.raw.Read(make([]byte, 1)); n > 0 || err == nil {
		c.t.Fatal("a reply comes, and should wait")
	}
	c.raw.SetReadDeadline(time.Time{})
	c.over(c.raw)
}

func newLinkServer() testServer {
	s := newTestServer(nil)
	s.link = true
	return s
}

func TestHoldLetsMessagesArrive(t *testing.T) {
	s := newLinkServer()
	busy, begun, fresh := s.linked(t), s.linked(t), s.linked(t)
	busy.envelope("a@example.org")
	busy.say(354, "DATA")
	waitForBody(t, s)
	begun.envelope("b@example.org")
	held := s.holding(t.Context())
	s.shut(t)
	fresh.write("MAIL FROM:<x@example.org>\r\n")
	fresh.waits()
	begun.data(250, plain) // while one is on its way another may be
	select {
	case <-held:
		t.Fatal("Hold returns while a message is on its way")
	default:
	}
	busy.say(250, plain+".")
	release := <-held
	late := s.linked(t)
	late.write("MAIL FROM:<x@example.org>\r\n")
	late.waits()
	fresh.waits()
	release()
	release()
	fresh.expect(250)
	late.expect(250)
	late.say(250, "RCPT TO:<c@example.org>")
	late.data(250, plain)
	(<-s.holding(t.Context()))()
	s.expectMail(t, plain, plain, plain)
}

// TestTransactionWithoutItsMessageIsNotWaitedFor: one may be left open on a link that is idle.
func TestTransactionWithoutItsMessageIsNotWaitedFor(t *testing.T) {
	s := newLinkServer()
	c := s.linked(t)
	c.envelope("a@example.org")
	release := <-s.holding(t.Context())
	c.say(354, "DATA")
	c.write(plain + ".\r\n")
	c.waits()
	release()
	c.expect(250)
	s.expectMail(t, plain)
}

func TestHoldEnds(t *testing.T) {
	s := newLinkServer()
	busy := s.linked(t)
	busy.envelope("a@example.org")
	busy.say(354, "DATA")
	waitForBody(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	held := s.holding(ctx)
	s.shut(t)
	cancel()
	<-held
	c, body := s.linked(t), s.linked(t)
	c.write("MAIL FROM:<x@example.org>\r\n")
	c.waits()
	s.end()
	if text := c.expect(451); !strings.HasPrefix(text, "4.3.2 ") {
		t.Errorf("reply is %q", text)
	}
	body.expect(421)
	busy.say(250, plain+".")
	s.open.Wait()
}

// waitForBody waits until a message is on its way.
func waitForBody(t *testing.T, s testServer) {
	t.Helper()
	await(t, func() bool {
		s.gate.mu.Lock()
		defer s.gate.mu.Unlock()
		return s.gate.running > 0
	})
}

func TestRepliesOfAReplicaThatMayNot(t *testing.T) {
	for _, err := range []error{store.ErrPassive, store.ErrAlone, store.ErrUnfit, store.ErrMissing} {
		s := newLinkServer()
		s.recorder.deliver = func(e *Envelope) map[string]error {
			return map[string]error{e.To[0].Address: fmt.Errorf("deliver: %w", err)}
		}
		c := s.linked(t)
		c.envelope("a@example.org")
		if text := c.data(451, plain); !strings.Contains(text, "4.3.2 ") {
			t.Errorf("%v: reply is %q", err, text)
		}
		s.recorder.rcpt = func(Recipient) error { return err }
		c.envelope()
		if text := c.say(451, "RCPT TO:<a@example.org>"); !strings.HasPrefix(text, "4.3.2 ") {
			t.Errorf("%v: reply to RCPT is %q", err, text)
		}
	}
}

// passive is the journal of a replica that is not active.
type passive struct{ store.Journal }

func (passive) Serving() error { return store.ErrPassive }

func TestPassiveStoreBeginsNothing(t *testing.T) {
	mail, err := store.OpenWith(store.Options{Root: t.TempDir(), Journal: passive{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mail.Close() })
	s := newTestServer(func(o *Options) {
		o.Handler = &Store{LUN: "east", Directory: oneLUN{}, Mail: mail, Log: slog.New(slog.DiscardHandler)}
	})
	s.link = true
	if text := s.linked(t).say(451, "MAIL FROM:<x@example.org>"); !strings.HasPrefix(text, "4.3.2 ") {
		t.Errorf("reply is %q", text)
	}
}
