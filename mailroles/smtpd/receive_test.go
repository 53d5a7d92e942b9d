package smtpd

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"

	"anycastle/mailroles/spool"
)

func TestExtensions(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Options)
		offers string
	}{
		{"plain", nil, "SMTPUTF8 SIZE=1048576 LIMITS=RCPTMAX=100"},
		{"with reports", func(o *Options) { o.DSN = true }, "SMTPUTF8 DSN SIZE=1048576 LIMITS=RCPTMAX=100"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, offer := newTestServer(tc.change).hello(t)
			_, offer, _ = strings.Cut(offer, "\n")
			got := strings.ReplaceAll(strings.ReplaceAll(offer, " ", "="), "\n", " ")
			if want := "PIPELINING 8BITMIME ENHANCEDSTATUSCODES CHUNKING " + tc.offers; got != want {
				t.Errorf("EHLO offers %s, want %s", got, want)
			}
		})
	}
}

func TestSize(t *testing.T) {
	s := newTestServer(nil)
	c, _ := s.hello(t)
	c.say(552, "MAIL FROM:<x@example.org> SIZE=1048577")
	c.say(250, "MAIL FROM:<x@example.org> SIZE=1048576")
	c.say(250, "RCPT TO:<a@example.org>")
	line := strings.Repeat("x", 1022) + "\r\n"
	c.data(552, "Subject: x\r\n\r\n"+strings.Repeat(line, 1024)) // more than was said, and than is taken
	c.envelope("a@example.org")
	c.data(250, strings.Repeat(line, 1023))
}

func TestCommandsAroundTheMail(t *testing.T) {
	s := newTestServer(nil)
	c := s.dial(t, false)
	c.expect(220)
	c.say(502, "MAIL FROM:<x@example.org>") // before EHLO
	c.say(250, "HELO client.example.org")
	c.say(250, "NOOP")
	c.say(252, "VRFY a@example.org")
	c.say(502, "EXPN staff")
	c.say(502, "HELP")
	c.say(502, "RCPT TO:<a@example.org>") // before MAIL
	c.say(502, "DATA")
	c.envelope("a@example.org")
	c.say(250, "NOOP")
	c.say(250, "RSET")
	c.say(502, "DATA")
	c.envelope("a@example.org")
	c.say(250, "EHLO client.example.org") // as RSET
	c.say(502, "DATA")
	c.envelope("a@example.org")
	c.data(250, plain)
	c.say(502, "DATA")
	c.say(221, "QUIT")
	c.gone()
	s.expectMail(t, plain)
}

func TestRecipientsAreLimited(t *testing.T) {
	s := newTestServer(nil)
	c, _ := s.hello(t)
	c.envelope()
	for range MaxRecipients {
		c.say(250, "RCPT TO:<a@example.org>")
	}
	if text := c.say(452, "RCPT TO:<a@example.org>"); !strings.HasPrefix(text, "4.5.3 ") {
		t.Errorf("refusal says %q", text)
	}
	c.data(250, plain)
}

func TestPipelining(t *testing.T) {
	s := newTestServer(nil)
	c, _ := s.hello(t)
	c.write("MAIL FROM:<x@example.org>\r\nRCPT TO:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n")
	for _, code := range []int{250, 250, 250, 354} {
		c.expect(code)
	}
	c.write(plain + ".\r\nNOOP\r\nQUIT\r\n")
	for _, code := range []int{250, 250, 221} {
		c.expect(code)
	}
	c.gone()
	s.expectMail(t, plain)
}

func TestLoopsAreBroken(t *testing.T) {
	s := newTestServer(nil)
	c, _ := s.hello(t)
	c.envelope("a@example.org")
	c.data(250, hops(maxHops)+plain)
	c.envelope("a@example.org")
	if text := c.data(554, hops(maxHops+1)+plain); !strings.HasPrefix(text, "5.4.6 ") {
		t.Errorf("refusal says %q", text)
	}
}

func TestParametersReachTheHandler(t *testing.T) {
	s := newTestServer(func(o *Options) { o.DSN = true })
	c, _ := s.hello(t)
	c.say(504, "MAIL FROM:<x@example.org> REQUIRETLS")
	c.say(250, "MAIL FROM:<x@example.org> BODY=8BITMIME RET=HDRS ENVID=t+3Dq+3B1")
	c.say(250, "RCPT TO:<a@example.org> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b+2Bc@example.org")
	c.data(250, plain)
	env := s.envs[0]
	o := env.To[0].Options
	if env.Options.EnvelopeID != "t=q;1" || env.Options.Return != smtp.DSNReturnHeaders ||
		o.OriginalRecipient != "b+c@example.org" || len(o.Notify) != 2 || o.Notify[0] != smtp.DSNNotifySuccess {
		t.Errorf("the handler was told %+v", env)
	}
	if env.Hold != "" || env.User != "" {
		t.Error("a stranger's ENVID was taken for a front end's")
	}
}

func TestFrontEndsSayMore(t *testing.T) {
	s := newTestServer(nil)
	s.link = true
	c := s.dial(t, false)
	c.expect(220)
	c.say(250, "LHLO mx.example.org")
	c.say(501, "MAIL FROM:<x@example.org> ENVID=mine")
	tx := strings.Repeat("0a", 16)
	c.say(250, "MAIL FROM:<x@example.org> AUTH=alice@example.org ENVID=t+3D"+tx+";q+3D1;e+3Dmine")
	c.say(250, "RCPT TO:<a@example.org>")
	c.data(250, hops(maxHops+1)+plain) // the front end has counted them
	env := s.envs[0]
	if env.Tx != tx || env.Hold == "" || env.Options.EnvelopeID != "mine" || env.User != "alice@example.org" {
		t.Errorf("the handler was told %+v", env)
	}
}

func TestEachRecipientOfLMTPHasItsReply(t *testing.T) {
	s := newTestServer(nil)
	s.link = true
	s.recorder.deliver = func(*Envelope) map[string]error {
		full := errors.Join(errFull, errors.New("5 of 5"))
		return map[string]error{"a@example.org": nil, "b@example.org": errors.New("disk"), "c@example.org": full}
	}
	c := s.dial(t, false)
	c.expect(220)
	c.say(250, "LHLO mx.example.org")
	c.envelope("c@example.org", "a@example.org", "b@example.org", "a@example.org", "forgotten@example.org")
	c.say(354, "DATA")
	c.write(plain + ".\r\n")
	for _, code := range []int{452, 250, 451, 250, 451} {
		c.expect(code)
	}
}

// fakeFilters do with a message what a test says.
type fakeFilters struct{ message func(*Envelope) error }

func (f fakeFilters) Open(context.Context, Client) (Filtering, error)  { return f, nil }
func (f fakeFilters) Mail(context.Context, *Envelope) error            { return nil }
func (f fakeFilters) Rcpt(context.Context, *Envelope, Recipient) error { return nil }
func (f fakeFilters) Message(_ context.Context, env *Envelope) error   { return f.message(env) }
func (f fakeFilters) Reset()                                           {}
func (f fakeFilters) Close()                                           {}
func (f fakeFilters) Judge(_ context.Context, env *Envelope) error {
	text, err := io.ReadAll(env.Body.Reader())
	marks := strings.Repeat("!", strings.Count(string(text), "forged"))
	env.Head += "Authentication-Results: mx.example.org; judged=" + marks + "\r\n"
	return err
}

func TestJudgeThenFilters(t *testing.T) {
	const forged = "Authentication-Results: mx.example.org; dkim=forged\r\n"
	s := newTestServer(func(o *Options) {
		o.Judge = fakeFilters{}
		o.Filters = fakeFilters{message: func(env *Envelope) error {
			text, err := io.ReadAll(env.Body.Reader())
			if err != nil {
				return err
			}
			if strings.Contains(string(text), "forged") || !strings.Contains(env.Head, "judged=!\r\n") {
				t.Errorf("the filters see %q and %q", env.Head, text)
			}
			env.Body.Close()
			env.Body, err = spool.Fill("", strings.NewReader("X-Filter: was here\r\n"+string(text)))
			return err
		}}
	})
	c, _ := s.hello(t)
	c.envelope("a@example.org")
	c.data(250, forged+plain)
	s.expectMail(t, "Authentication-Results: mx.example.org; judged=!\r\nX-Filter: was here\r\n"+plain)
	first := s.envs[0].Tx
	c.envelope("a@example.org")
	c.data(250, forged+plain)
	if again := s.envs[1].Tx; first == "" || again != first {
		t.Errorf("the same message has transaction ids %q and %q", first, again)
	}
}

func TestRetriesAreKnownByWhatMakesAMessageUnique(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		known      bool
	}{
		{"Message-ID", plain, true},
		{"trace of a server before us", "Received: from a by b id 1; now\r\nSubject: x\r\n\r\n", true},
		{"neither", "Subject: x\r\n\r\n", false},
	} {
		s := newTestServer(nil)
		c, _ := s.hello(t)
		for range 2 {
			c.envelope("a@example.org")
			c.data(250, tc.text)
		}
		if a, b := s.envs[0].Tx, s.envs[1].Tx; a != b || (a != "") != tc.known {
			t.Errorf("%s: transaction ids are %q and %q", tc.name, a, b)
		}
	}
}

func TestFiltersDecide(t *testing.T) {
	var verdict error
	drop := false
	s := newTestServer(func(o *Options) {
		o.Filters = fakeFilters{message: func(env *Envelope) error {
			if drop {
				env.To = nil
			}
			return verdict
		}}
	})
	c, _ := s.hello(t)
	send := func(code int) {
		t.Helper()
		c.envelope("a@example.org")
		c.data(code, plain)
	}
	verdict = reply(550, 5, 7, 1, "Spam")
	send(550)
	verdict = errors.New("filter is dead")
	send(451)
	verdict = ErrDiscard
	send(250)
	verdict, drop = nil, true
	send(250)
	s.expectMail(t)
	counts := s.opt.Tally.Counts()
	if counts.Done != 0 || counts.Rejects["policy"] != 1 || counts.Rejects["temporary"] != 1 || counts.Rejects["discarded"] != 2 {
		t.Errorf("counted %+v", counts)
	}
	verdict = reply(421, 4, 7, 0, "Go away")
	send(421)
	c.expect(421)
	c.gone()
}

func TestLogTellsWhyMailIsRefused(t *testing.T) {
	s := newTestServer(nil)
	s.rcpt = func(to Recipient) error {
		if to.Address == "no@example.org" {
			return errUnknown
		}
		return nil
	}
	s.recorder.deliver = func(*Envelope) map[string]error { return map[string]error{"a@example.org": errors.New("disk on fire")} }
	c, _ := s.hello(t)
	c.envelope()
	c.say(550, "RCPT TO:<no@example.org>")
	c.say(250, "RCPT TO:<a@example.org>")
	c.data(451, plain)
	for _, want := range []string{
		`msg="mail refused" peer="" sender=x@example.org recipients=[no@example.org] code=550 reply="No such mailbox here"`,
		`sender=x@example.org recipients=[a@example.org] code=451 reply="Not stored, try again later" err="disk on fire"`,
	} {
		if log := s.log.String(); !strings.Contains(log, want) {
			t.Errorf("the log does not say %s:\n%s", want, log)
		}
	}
}

func TestLogHoldsNoSecrets(t *testing.T) {
	s := newTestServer(nil)
	c, _ := s.hello(t)
	c.write("AUTH PLAIN c2VjcmV0LWNyZWRlbnRpYWw=\r\n")
	c.ReadResponse(0)
	c.write("PASS secret-credential\r\n")
	c.ReadResponse(0)
	for _, body := range []string{"secret-body\r\n", "secret-body\nbare\r\n"} {
		c.envelope("a@example.org")
		c.say(354, "DATA")
		c.write(body + ".\r\n")
		c.ReadResponse(0)
	}
	c.envelope("a@example.org")
	c.write("BDAT 1000 LAST\r\nsecret-body")
	c.raw.Close()
	s.open.Wait()
	if log := s.log.String(); strings.Contains(log, "secret") || strings.Contains(log, "c2VjcmV0") {
		t.Errorf("the log holds what it must not:\n%s", log)
	}
	s.expectMail(t, "secret-body\r\n")
}
