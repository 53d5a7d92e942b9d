package milter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-smtp"

	"anycastle/mailroles/smtpd"
)

// stages are the commands that a milter answers, with the call that a refusal comes out of and the name it is counted by.
var stages = []struct {
	code        byte
	call, stage string
}{
	{cmdConnect, "mail", stageConnect},
	{cmdHelo, "mail", stageHelo},
	{cmdMail, "mail", stageMail},
	{cmdRcpt, "rcpt", stageRcpt},
	{cmdData, "message", stageData},
	{cmdField, "message", stageHeader},
	{cmdHeadEnd, "message", stageHeader},
	{cmdBody, "message", stageBody},
	{cmdEnd, "message", stageEnd},
}

// inBubble runs a case in fake time.
func inBubble(t *testing.T, name string, f func(*testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

func TestAnswersAtEachStage(t *testing.T) {
	const whole = "OCHMRRTLLLLNBE"
	for _, tc := range []struct {
		name, verdict string
		say           []byte
		want          *smtp.SMTPError // nil for none
	}{
		{"continue", verdictAccept, packet(ansContinue), nil},
		{"accept", verdictAccept, packet(ansAccept), nil},
		{"progress", verdictAccept, slices.Concat(packet(ansProgress), packet(ansProgress), packet(ansContinue)), nil},
		{"discard", verdictDiscard, packet(ansDiscard), nil},
		{
			"reject", verdictReject, packet(ansReject),
			&smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 7, 1}, Message: "Refused by a filter"},
		},
		{
			"tempfail", verdictTempfail, packet(ansTempfail),
			&smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 7, 1}, Message: "A filter asks to try again later"},
		},
		{
			"reply", verdictReject, packet(ansReply, "554 5.7.9 100%% spam\x00"),
			&smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 7, 9}, Message: "100% spam"},
		},
		{
			"reply of lines", verdictTempfail, packet(ansReply, "450-4.7.1 Greylisted,\r\n450 4.7.1 come back\x00"),
			&smtp.SMTPError{Code: 450, EnhancedCode: smtp.EnhancedCode{4, 7, 1}, Message: "Greylisted,\ncome back"},
		},
	} {
		for _, st := range stages {
			inBubble(t, tc.name+"/"+st.stage+string(st.code), func(t *testing.T) {
				f := newFake(on(st.code, tc.say))
				c := chainOf(nil, f)
				s := openSession(t, c)
				defer s.Close()
				call, err := transact(t.Context(), s, newEnvelope(t, "", letter))
				status := c.Status()[0]
				heard := f.commands()
				early := strings.Trim(heard[:strings.IndexByte(heard, st.code)+1], "A")
				switch client := st.call == "mail" && st.stage != stageMail; {
				case tc.want != nil:
					var got *smtp.SMTPError
					if !errors.As(err, &got) || *got != *tc.want || call != st.call {
						t.Errorf("%s gives %v, want %v from %s", call, err, tc.want, st.call)
					}
				case tc.name == "discard" && client: // there is nothing to discard
					if err != errUnavailable || status.Failures[st.stage] != 1 {
						t.Errorf("%v, failures %v", err, status.Failures)
					}
					return
				case tc.name == "discard":
					if !errors.Is(err, smtpd.ErrDiscard) {
						t.Errorf("%v, want %v", err, smtpd.ErrDiscard)
					}
				case err != nil:
					t.Errorf("%s gives %v", call, err)
				case tc.name != "accept" && strings.Trim(heard, "A") != whole:
					t.Errorf("milter heard %s, want %s", heard, whole)
				}
				if tc.verdict != verdictAccept || tc.name == "accept" {
					if got := strings.TrimRight(heard, "AQ"); got != early {
						t.Errorf("milter heard %s, should hear nothing after %s", heard, early)
					}
				}
				if status.Verdicts[tc.verdict] != 1 || len(status.Verdicts) != 1 || len(status.Failures) != 0 || status.State != StateOK {
					t.Errorf("want one %s: %+v", tc.verdict, status)
				}
			})
		}
	}
}

// death is a way to fail.
type death struct {
	name string
	say  []byte
	gone bool
	slow bool // it takes all of the time-out
}

var deaths = []death{
	{name: "closes", gone: true},
	{name: "hangs", slow: true},
	{name: "half a length", say: []byte{0, 0}, gone: true},
	{name: "half a packet", say: []byte{0, 0, 0, 9, 'y', '5'}, gone: true},
	{name: "half a packet, and hangs", say: []byte{0, 0, 0, 9, 'y', '5'}, slow: true},
	{name: "empty packet", say: []byte{0, 0, 0, 0}},
	{name: "endless packet", say: []byte{0xff, 0xff, 0xff, 0xff, 'c'}},
	{name: "unknown answer", say: packet('?', "x")},
	{name: "HTTP", say: []byte("HTTP/1.1 400 Bad Request\r\n\r\n")},
	{name: "SMTP", say: []byte("220 mx.example.org ESMTP\r\n")},
	{name: "reply of success", say: packet(ansReply, "250 2.0.0 fine\x00")},
	{name: "reply without a code", say: packet(ansReply, "no\x00")},
	{name: "empty reply", say: packet(ansReply)},
	{name: "reply of two codes", say: packet(ansReply, "550-a\r\n450 b\x00")},
	{name: "progress only", say: packet(ansProgress), slow: true},
}

func TestDyingAtEachStage(t *testing.T) {
	for _, d := range deaths {
		for _, st := range append(stages[:len(stages):len(stages)], struct {
			code        byte
			call, stage string
		}{cmdOptions, "mail", stageConnect}) {
			for _, policy := range []string{Tempfail, Accept} {
				inBubble(t, fmt.Sprintf("%s/%s%c/%s", d.name, st.stage, st.code, policy), func(t *testing.T) {
					testDeath(t, d, st.code, st.call, st.stage, policy)
				})
			}
		}
	}
}

func testDeath(t *testing.T, d death, code byte, wantCall, stage, policy string) {
	var back atomic.Bool
	f := newFake(nil)
	f.script = func(c byte, data []byte) ([]byte, bool) {
		if !back.Load() && c == code {
			return d.say, d.gone
		}
		return obliging(c, data)
	}
	c := chainOf(func(c *Config) { c.OnFailure = policy }, f)
	s := openSession(t, c)
	env := newEnvelope(t, "", letter)
	start := time.Now()
	call, err := transact(t.Context(), s, env)
	took := time.Since(start)
	if d.slow && took != time.Minute || !d.slow && took != 0 {
		t.Errorf("took %v", took)
	}
	if policy == Accept {
		if err != nil {
			t.Errorf("%s: %v, though it is done without", call, err)
		}
	} else if err != errUnavailable || call != wantCall {
		t.Errorf("%s: %v, want %v from %s", call, err, errUnavailable, wantCall)
	}
	if got := whole(t, env); got != letter {
		t.Errorf("message became %q", got)
	}
	status := c.Status()[0]
	if status.Failures[stage] != 1 || len(status.Failures) != 1 || status.State != StateFailing || status.Verdicts[verdictAccept] != 0 {
		t.Errorf("want one failure at %s: %+v", stage, status)
	}
	if !strings.HasPrefix(status.LastError, stage+": ") || status.LastErrorAt.IsZero() || status.Connections != 0 {
		t.Errorf("status: %+v", status)
	}
	back.Store(true)
	if call, err := transact(t.Context(), s, newEnvelope(t, "", letter)); err != nil {
		t.Errorf("it is back, and %s gives %v", call, err)
	}
	if status = c.Status()[0]; status.State != StateOK || status.Verdicts[verdictAccept] != 1 || status.Connections != 1 {
		t.Errorf("after it came back: %+v", status)
	}
	s.Close()
	synctest.Wait()
	if status = c.Status()[0]; status.Connections != 0 {
		t.Errorf("%d connections are left", status.Connections)
	}
}

func TestRestOfATransactionFailsToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(func(c byte, data []byte) ([]byte, bool) {
			if c == cmdRcpt && strings.HasPrefix(string(data), "<b@") {
				return nil, true
			}
			return obliging(c, data)
		})
		s := openSession(t, chainOf(nil, f))
		defer s.Close()
		env := newEnvelope(t, "", letter)
		if err := errors.Join(s.Mail(t.Context(), env), s.Rcpt(t.Context(), env, smtpd.Recipient{Address: "a@example.org"})); err != nil {
			t.Fatal(err)
		}
		env.To = []smtpd.Recipient{{Address: "a@example.org"}}
		for what, err := range map[string]error{
			"the recipient":  s.Rcpt(t.Context(), env, smtpd.Recipient{Address: "b@example.org"}),
			"the next one":   s.Rcpt(t.Context(), env, smtpd.Recipient{Address: "c@example.org"}),
			"the message":    s.Message(t.Context(), env),
			"it, once again": s.Message(t.Context(), env),
		} {
			if err != errUnavailable {
				t.Errorf("%s: %v, though the milter knows nothing of the message", what, err)
			}
		}
		if f.commands() != "OCHMRR" {
			t.Errorf("milter heard %s", f.commands())
		}
	})
}

func TestOneRecipientIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(func(c byte, data []byte) ([]byte, bool) {
			if c == cmdRcpt && strings.HasPrefix(string(data), "<a@") {
				return packet(ansReject), false
			}
			return obliging(c, data)
		})
		s := openSession(t, chainOf(nil, f))
		defer s.Close()
		env := newEnvelope(t, "", letter)
		if err := s.Mail(t.Context(), env); err != nil {
			t.Fatal(err)
		}
		if err := s.Rcpt(t.Context(), env, smtpd.Recipient{Address: "a@example.org"}); err == nil || err == errUnavailable {
			t.Errorf("refused recipient: %v", err)
		}
		b := smtpd.Recipient{Address: "b@example.org"}
		if err := s.Rcpt(t.Context(), env, b); err != nil {
			t.Errorf("the other one: %v", err)
		}
		env.To = []smtpd.Recipient{b}
		if err := s.Message(t.Context(), env); err != nil {
			t.Errorf("message: %v", err)
		}
	})
}

func TestBadOptions(t *testing.T) {
	for name, f := range map[string]*fake{
		"version 1":       {version: 1, actions: 1},
		"version 7":       {version: 7, actions: 1},
		"unknown action":  {version: 6, actions: 0x100},
		"unknown step":    {version: 6, flags: 1 << 28},
		"refused clients": {version: 6, flags: 1 << 11},
	} {
		inBubble(t, name, func(t *testing.T) {
			f.script = obliging
			c := chainOf(nil, f)
			s := openSession(t, c)
			defer s.Close()
			if call, err := transact(t.Context(), s, newEnvelope(t, "", letter)); err != errUnavailable || call != "mail" {
				t.Errorf("%s: %v", call, err)
			}
			if c.Status()[0].Failures[stageConnect] != 1 {
				t.Errorf("%+v", c.Status()[0])
			}
		})
	}
}

func TestAnswerAheadOfItsQuestion(t *testing.T) {
	// the second one would be taken for the verdict on the message
	for _, st := range stages[:len(stages)-1] {
		inBubble(t, st.stage+string(st.code), func(t *testing.T) {
			c := chainOf(nil, newFake(on(st.code, packet(ansContinue), packet(ansAccept))))
			s := openSession(t, c)
			defer s.Close()
			if call, err := transact(t.Context(), s, newEnvelope(t, "", letter)); err != errUnavailable {
				t.Errorf("%s: %v", call, err)
			}
		})
	}
}

func TestEndOfTheServerEndsAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := chainOf(func(c *Config) { c.OnFailure = Accept }, newFake(on(cmdEnd)))
		s := openSession(t, c)
		defer s.Close()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(5*time.Second, cancel)
		start := time.Now()
		if call, err := transact(ctx, s, newEnvelope(t, "", letter)); err != errUnavailable || call != "message" {
			t.Errorf("%s: %v", call, err)
		}
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("took %v", took)
		}
		if st := c.Status()[0]; len(st.Failures) != 0 || st.Connections != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// A milter that hangs at MAIL has not closed its connection meanwhile, whatever is noticed first: the time-out of the read or
// the context's.
func TestHangingMilterIsNotConnectedToAgain(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			times := 0
			f := newFake(func(code byte, data []byte) ([]byte, bool) {
				if code == cmdMail {
					times++
				}
				if times == 2 {
					return nil, false
				}
				return obliging(code, data)
			})
			c := chainOf(nil, f)
			s := openSession(t, c)
			defer s.Close()
			if call, err := transact(t.Context(), s, newEnvelope(t, "", letter)); err != nil {
				t.Fatalf("%s: %v", call, err)
			}
			start := time.Now()
			if err := s.Mail(t.Context(), newEnvelope(t, "", letter)); !errors.Is(err, errUnavailable) || time.Since(start) != time.Minute {
				t.Errorf("%v after %v, want 451 after the time-out", err, time.Since(start))
			}
			st := c.Status()[0]
			if st.Failures[stageMail] != 1 || f.conns != 1 || !strings.Contains(st.LastError, "no answer within 1m0s") {
				t.Errorf("%d connections, %+v; want one, and that it gave no answer to MAIL", f.conns, st)
			}
		})
	}
}
