package smtpd

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/textproto"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-smtp"

	"anycastle/mailroles/tally"
)

func TestOnlyRepliesLeaveTheSession(t *testing.T) {
	s := &session{server: NewServer(Options{Log: slog.New(slog.DiscardHandler), Tally: &tally.Tally{}})}
	for _, tc := range []struct {
		err    error
		code   int
		reason string
	}{
		{errors.New("disk full"), 451, "temporary"},
		{errors.Join(errors.New("read"), smtp.ErrDataTooLarge), 552, "too-large"},
		{errBareLine, 554, "content"},
		{errUnknown, 550, "unknown-recipient"},
	} {
		var reply *smtp.SMTPError
		got := s.refuse(tc.err)
		if !errors.As(got, &reply) || reply.Code != tc.code {
			t.Errorf("%v became %v, want a reply %d: the library would answer 554", tc.err, got, tc.code)
		}
		if n := s.server.opt.Tally.Counts().Rejects[tc.reason]; n != 1 {
			t.Errorf("%v was counted %d times as %s", tc.err, n, tc.reason)
		}
	}
}

// taker is a Handler that takes everything.
type taker struct{}

func (taker) Begin(context.Context, *Envelope) (Transaction, error) { return taker{}, nil }

func (taker) Rcpt(context.Context, Recipient) error { return nil }

func (taker) Deliver(context.Context) map[string]error { return nil }

func (taker) Close() {}

func TestNoCommandIsReadFromABodyThatCameTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewServer(Options{MaxSize: 1 << 20, MaxSessions: 1, Handler: taker{}, Log: slog.New(slog.DiscardHandler), Tally: &tally.Tally{}})
		near, far := net.Pipe()
		s.open.Go(func() { s.serve(s.guard(far)) })
		c := textproto.NewConn(near)
		expect := func(code int) {
			t.Helper()
			if _, _, err := c.ReadResponse(code); err != nil {
				t.Fatalf("want %d: %v", code, err)
			}
		}
		expect(220)
		for _, step := range []struct {
			line string
			code int
		}{{"EHLO x", 250}, {"MAIL FROM:<x@example.org>", 250}, {"RCPT TO:<a@example.org>", 250}, {"DATA", 354}} {
			if err := c.PrintfLine("%s", step.line); err != nil {
				t.Fatal(err)
			}
			expect(step.code)
		}
		if err := c.PrintfLine("Subject: slow"); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		expect(451)
		if waited := time.Since(start); waited != idleTime {
			t.Errorf("gave up after %v, want %v", waited, idleTime)
		}
		expect(421) // at once: what comes now may still be the body
		if _, err := c.ReadLine(); !errors.Is(err, io.EOF) {
			t.Errorf("session goes on: %v", err)
		}
		if waited := time.Since(start); waited != idleTime {
			t.Errorf("session ended after %v, want %v", waited, idleTime)
		}
		s.open.Wait()
	})
}
