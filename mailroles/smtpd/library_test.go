package smtpd

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"anycastle/internal/mtls"
	"anycastle/internal/mtlstest"
)

// The tests of this file are about what the library does with mail when nobody stops it, one for each habit.

func TestBDATThatIsCutOffIsNotAMessage(t *testing.T) {
	s := newTestServer(nil)
	c := s.dialTCP(t)
	c.expect(220)
	c.say(250, "EHLO client.example.org")
	c.envelope("a@example.org")
	if _, err := c.raw.Write([]byte("BDAT 100 LAST\r\n" + plain)); err != nil {
		t.Fatal(err)
	}
	c.raw.Close()
	s.open.Wait()
	s.expectMail(t)
	if n := s.opt.Tally.Counts().Rejects["temporary"]; n != 1 {
		t.Errorf("%d temporary refusals, want 1", n)
	}
}

func TestTimeRunsWhileNothingComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(nil)
		c, _ := s.hello(t)
		c.envelope("a@example.org")
		c.say(354, "DATA")
		start := time.Now()
		text := "Subject: slow\r\n\r\n"
		c.write(text)
		synctest.Wait()
		for range 10 {
			time.Sleep(idleTime - time.Second)
			c.write("line\r\n")
			synctest.Wait()
			text += "line\r\n"
		}
		c.say(250, ".")
		if whole := time.Since(start); whole < 2*idleTime {
			t.Errorf("the message took %v, which is too short for this test", whole)
		}
		s.expectMail(t, text)
		c.say(221, "QUIT")
		s.open.Wait()
	})
}

func TestErrorsOfTheStoreAreTemporary(t *testing.T) {
	s := newTestServer(nil)
	s.recorder.deliver = func(*Envelope) map[string]error { return map[string]error{"a@example.org": errors.New("disk on fire")} }
	c, _ := s.hello(t)
	c.envelope("a@example.org")
	if text := c.data(451, plain); strings.Contains(text, "fire") {
		t.Errorf("the client hears of our troubles: %s", text)
	}
	s.recorder.deliver = func(*Envelope) map[string]error { return nil }
	c.envelope("a@example.org")
	c.data(451, plain) // a handler that forgets a recipient
}

func TestEndDoesNotWaitForIdleClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(nil)
		idle, _ := s.hello(t)
		fresh := s.dial(t, false)
		fresh.expect(220)
		busy, _ := s.hello(t)
		busy.envelope("a@example.org")
		busy.say(354, "DATA")
		s.end()
		idle.expect(421)
		idle.gone()
		fresh.expect(421)
		fresh.gone()
		busy.say(250, plain+".")
		busy.expect(421)
		busy.gone()
		s.open.Wait()
		s.expectMail(t, plain)
	})
}

func TestAddressesThatAreNotASCIINeedSMTPUTF8(t *testing.T) {
	s := newTestServer(nil)
	c, offer := s.hello(t)
	if !strings.Contains(offer, "SMTPUTF8") {
		t.Errorf("EHLO offers %q", offer)
	}
	c.say(553, "MAIL FROM:<grüße@example.org>")
	c.say(250, "MAIL FROM:<x@example.org>")
	c.say(553, "RCPT TO:<grüße@example.org>")
	c.say(250, "RSET")
	c.say(501, "MAIL FROM:<gr\xfc\xdfe@example.org> SMTPUTF8")
	c.say(501, "MAIL FROM:<\"a\x01b\"@example.org> SMTPUTF8")
	c.say(250, "MAIL FROM:<grüße@example.org> SMTPUTF8")
	c.say(250, "RCPT TO:<tür@example.org>")
	c.data(250, plain)
	if env := s.envs[0]; env.From != "grüße@example.org" || !env.Options.UTF8 || env.To[0].Address != "tür@example.org" {
		t.Errorf("the handler was told %+v", env)
	}
}

func TestBareLineEndsAreNoPartOfAMessage(t *testing.T) {
	s := newTestServer(nil)
	c, _ := s.hello(t)
	for _, body := range []string{"a\nb\r\n", "a\rb\r\n", ".\rb\r\n", "a\r\n.\r\r\nb\r\n", "a\r\n.\n.\r\n"} {
		c.envelope("a@example.org")
		c.data(554, "Subject: x\r\n\r\n"+body)
	}
	s.expectMail(t)
}

func TestLongLines(t *testing.T) {
	s := newTestServer(nil)
	c, _ := s.hello(t)
	long := "Subject: x\r\n\r\n" + strings.Repeat("x", 20_000) + "\r\n" // the library's own limit is 2,000
	c.envelope("a@example.org")
	c.data(250, long)
	s.expectMail(t, long)
	c.envelope("a@example.org")
	c.data(554, strings.Repeat("x", maxLine+1)+"\r\n")
	c.expect(500)
	c.gone()
}

func TestSenderIsNamedOnce(t *testing.T) {
	s := newTestServer(nil)
	c, _ := s.hello(t)
	c.envelope("a@example.org")
	// the library would go on with the recipient of before, and answer 250 for a message to nobody
	c.say(503, "MAIL FROM:<y@example.org>")
	c.data(250, plain)
	if env := s.envs[0]; env.From != "x@example.org" || len(env.To) != 1 {
		t.Errorf("the handler was told %+v", env)
	}
}

func TestTooManyErrorsEndTheSession(t *testing.T) {
	s := newTestServer(nil)
	s.rcpt = func(to Recipient) error {
		if strings.HasPrefix(to.Address, "no") {
			return errUnknown
		}
		return nil
	}
	c, _ := s.hello(t)
	for range 3 {
		c.envelope()
		for range maxErrors - 1 {
			c.say(550, "RCPT TO:<nobody@example.org>")
		}
		c.say(250, "RCPT TO:<a@example.org>")
		c.data(250, plain) // who delivers may go on
	}
	c.envelope()
	for range maxErrors {
		c.say(550, "RCPT TO:<nobody@example.org>")
	}
	c.expect(421)
	c.gone()

	c, _ = s.hello(t)
	for _, line := range []string{"GET / HTTP/1.0", "", "NONSENSE"} {
		c.write(line + "\r\n")
		if code, _, err := c.ReadResponse(5); err != nil {
			t.Fatalf("%q: %d, %v", line, code, err)
		}
	}
	c.expect(421)
	c.gone()
}

func TestScreenComesBeforeTheBanner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		screen := &fakeScreen{wait: time.Minute}
		s := newTestServer(func(o *Options) { o.Screen = screen })
		c := s.dial(t, false)
		start := time.Now()
		c.expect(220)
		if waited := time.Since(start); waited != time.Minute {
			t.Errorf("the banner came after %v", waited)
		}
		c.say(221, "QUIT")
		s.open.Wait()
	})
}

func TestTLSIsSeenBelowTheGuard(t *testing.T) {
	material, err := mtls.Load(mtlstest.NewCA(t).Node(t, "node"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s := newTestServer(func(o *Options) { o.PublicTLS = material.Public() })
	secure := func(conn net.Conn) net.Conn { return tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) }

	c, offer := s.hello(t)
	if !strings.Contains(offer, "STARTTLS") {
		t.Errorf("EHLO offers %q", offer)
	}
	c.say(220, "STARTTLS")
	c.over(secure(c.raw))
	if offer := c.say(250, "EHLO client.example.org"); strings.Contains(offer, "STARTTLS") {
		t.Errorf("EHLO under TLS offers %q", offer)
	}
	c.envelope("a@example.org")
	c.data(250, plain)

	c = s.dial(t, true)
	c.over(secure(c.raw))
	c.expect(220)
	c.say(250, "EHLO client.example.org")
	c.envelope("a@example.org")
	c.data(250, plain)
	for i, env := range s.envs {
		if !env.TLS {
			t.Errorf("message %d came by TLS, and the handler was not told", i)
		}
	}
	if len(s.envs) != 2 {
		t.Errorf("%d messages came, want 2", len(s.envs))
	}
}

// fakeScreen admits after a wait, or refuses.
type fakeScreen struct {
	wait     time.Duration
	refuse   error // what a client hears that speaks early
	released atomic.Int32
}

func (f *fakeScreen) Admit(ctx context.Context, _ netip.Addr, early func(context.Context, time.Duration) bool) (func(), error) {
	if early(ctx, f.wait) && f.refuse != nil {
		return nil, f.refuse
	}
	return func() { f.released.Add(1) }, ctx.Err()
}
