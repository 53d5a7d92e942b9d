package milter

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"anycastle/mailroles/smtpd"
)

// taped is a connection to a milter that says the same to whoever comes.
type taped struct {
	net.Conn // nil: what is not below is not used
	says     *bytes.Reader
}

func (c taped) Read(p []byte) (int, error) { return c.says.Read(p[:min(len(p), 7)]) }

func (taped) Write(p []byte) (int, error) { return len(p), nil }

func (taped) SetDeadline(time.Time) error { return nil }

func (taped) SetReadDeadline(time.Time) error { return nil }

func (taped) Close() error { return nil }

// FuzzAnswers has a milter say anything. Whatever it is, the message passes whole, or there is a reply for the client.
func FuzzAnswers(f *testing.F) {
	mute := packet(cmdOptions, number(6), number(0x7f), number(mutes|maySkip|leadingSpace))
	f.Add(append(packet(cmdOptions, number(6), number(0x7f), number(0)), bytes.Repeat(packet(ansContinue), 13)...))
	for _, say := range [][]byte{
		packet(ansAccept), packet(ansReject), packet(ansTempfail), packet(ansDiscard), packet(ansProgress),
		packet(ansReply, "550-5.7.1 a\r\n550 b\x00"), packet(ansReply, "421 \x00"),
		add("X-A", "b\nc"), insert(0, "X-A", ""), change(1, "Subject", ""), change(9, "X", "\r\r\n\n"), change(0, "received", "x"),
		packet(ansNewBody, "a\r"), packet(ansNewBody), packet(ansAddRcpt, "<c@example.org>\x00"),
		packet(ansDeleteRcpt, "a@example.org"), packet(ansChangeFrom, "<>\x00"), packet(ansQuarantine, "\xff\x00"), packet('?'),
	} {
		f.Add(slices.Concat(mute, say, packet(ansAccept)))
	}
	for _, d := range deaths {
		f.Add(slices.Concat(mute, d.say))
	}
	f.Fuzz(func(t *testing.T, says []byte) {
		c := New([]Config{{Name: "m1", Addr: "192.0.2.1:1", Timeout: time.Minute, OnFailure: Tempfail}}, Options{
			MaxSize: 1 << 16,
			dial: func(context.Context, string, string) (net.Conn, error) {
				return taped{says: bytes.NewReader(says)}, nil
			},
		})
		s := openSession(t, c)
		defer s.Close()
		env := newEnvelope(t, "", letter)
		_, err := transact(t.Context(), s, env)
		text := whole(t, env)
		var reply *smtp.SMTPError
		switch {
		case err == nil:
			checkSound(t, env, text)
		case errors.Is(err, smtpd.ErrDiscard):
		case !errors.As(err, &reply):
			t.Errorf("%v is no reply", err)
		case reply.Code < 400 || reply.Code > 599 || reply.EnhancedCode[0] != reply.Code/100:
			t.Errorf("reply %+v", reply)
		case strings.ContainsAny(reply.Message, "\r\x00") || len(reply.Message) > maxReplyLines*(maxReplyLine+1):
			t.Errorf("text of a reply %q", reply.Message)
		case text != letter:
			t.Errorf("refused message became %q", text)
		}
	})
}

// checkSound makes sure that a message can be passed on, and that the header is still one.
func checkSound(t *testing.T, env *smtpd.Envelope, text string) {
	t.Helper()
	if bare := strings.ReplaceAll(text, "\r\n", ""); strings.ContainsAny(bare, "\r\n") || !strings.HasSuffix(text, "\r\n") {
		t.Errorf("lines do not end in CRLF: %q", text)
	}
	if len(env.To) == 0 || strings.ContainsAny(env.From+env.Hold, "\r\n\x00 <>") && env.Hold == "" {
		t.Errorf("envelope %+v", env)
	}
	m, err := parse(env)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(text)) < m.text || m.rest == m.text {
		t.Errorf("header has no end: %q", text)
	}
	rest, err := m.read(m.rest)
	if err != nil {
		t.Fatal(err)
	}
	again := new(strings.Builder)
	for _, f := range m.fields {
		again.Write(f)
	}
	if _, err := io.Copy(again, rest); err != nil || again.String() != text {
		t.Errorf("taken apart and put together it is %q, was %q (%v)", again.String(), text, err)
	}
}
