package smtpd

import (
	"errors"
	"log/slog"
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

func TestNoCommandIsReadFromABodyThatCameTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(nil)
		c, _ := s.hello(t)
		c.envelope("a@example.org")
		c.say(354, "DATA")
		c.write("Subject: slow\r\n")
		start := time.Now()
		c.expect(451)
		if waited := time.Since(start); waited != idleTime {
			t.Errorf("gave up after %v, want %v", waited, idleTime)
		}
		c.expect(421) // at once: what comes now may still be the body
		c.gone()
		if waited := time.Since(start); waited != idleTime {
			t.Errorf("session ended after %v, want %v", waited, idleTime)
		}
		s.open.Wait()
		s.expectMail(t)
	})
}

func TestCommandThatIsCutOffIsNone(t *testing.T) {
	for _, command := range []string{"BDAT 0 LAST", "DATA"} {
		synctest.Test(t, func(t *testing.T) {
			s := newTestServer(nil)
			c, _ := s.hello(t)
			c.envelope("a@example.org")
			c.write(command) // its end is on the way when the server's end comes
			synctest.Wait()
			s.end()
			if command == "DATA" {
				c.expect(354)
				c.write("\r\n" + plain + ".\r\n")
			}
			c.expect(451)
			c.expect(421)
			c.gone()
			s.open.Wait()
			s.expectMail(t)
		})
	}
}
