package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

func TestComposedMessageIsHardToCarry(t *testing.T) {
	msg := compose("id@example.net", stranger, "alice@example.org", 100_000)
	if len(msg) < 100_000 {
		t.Errorf("%d bytes, want at least the size asked for", len(msg))
	}
	for _, part := range []string{"\r\n.\r\n", "\r\n..two", "Grüße", strings.Repeat("x", 998), "Message-ID: <id@example.net>"} {
		if !bytes.Contains(msg, []byte(part)) {
			t.Errorf("no %.20q in it", part)
		}
	}
	if bytes.Contains(bytes.ReplaceAll(msg, []byte("\r\n"), nil), []byte("\n")) {
		t.Error("a bare line feed, which SMTP does not allow")
	}
}

func TestAttemptsTellHowTheyFailed(t *testing.T) {
	server, trusting := certificates(t)
	alice := account("alice")
	o := newOffice(t, server, alice)
	o.judge = func(n int) treatment {
		return []treatment{
			{keep: 1},
			{err: &smtp.SMTPError{Code: 451, Message: "later"}},
			{keep: 1, silent: true},
		}[n]
	}
	h := handover{addr: o.smtp, conf: tlsFor(trusting, Pod{}, ServiceSMTP), from: stranger}
	strict := h
	strict.conf = tlsFor(&tls.Config{}, Pod{}, ServiceSMTP)
	otherName := h
	otherName.conf = tlsFor(trusting, Pod{Names: Names{SMTP: "smtp.example.com"}}, ServiceSMTP)
	plain := h
	plain.addr = newMX(t, "220 mx without TLS").addr()
	wrong := h
	wrong.login = &login{Account{alice.Address, "wrong", ""}, authPlain}
	for _, c := range []struct {
		name    string
		h       handover
		to      string
		reason  string
		unknown bool
	}{
		{"taken", h, alice.Address, "", false},
		{"deferred", h, alice.Address, ReasonTempFail, false},
		{"closed after the message", h, alice.Address, ReasonClosed, true},
		{"nobody of this name", h, "eve@example.org", ReasonPermFail, false},
		{"unknown authority", strict, alice.Address, ReasonTLS, false},
		{"certificate of another", otherName, alice.Address, ReasonTLS, false},
		{"no STARTTLS", plain, alice.Address, ReasonProtocol, false},
		{"wrong password", wrong, alice.Address, ReasonTempFail, false},
	} {
		unknown, err := c.h.send(t.Context(), c.to, compose("1@example.net", stranger, c.to, 100))
		if (err == nil) != (c.reason == "") || unknown != c.unknown || err != nil && reason(err) != c.reason {
			t.Errorf("%s: %v, unknown %v; want reason %q and %v", c.name, err, unknown, c.reason, c.unknown)
		}
	}
}

// A server that hangs after the message leaves its fate open; one that hangs before does not.
func TestAttemptThatHangs(t *testing.T) {
	server, trusting := certificates(t)
	alice := account("alice")
	o := newOffice(t, server, alice)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	over := make(chan struct{}) // not ctx: an answer at the moment when patience ends may be in time
	o.judge = func(int) treatment {
		<-over
		return treatment{}
	}
	h := handover{addr: o.smtp, conf: tlsFor(trusting, Pod{}, ServiceSMTP), from: stranger}
	if unknown, err := h.send(ctx, alice.Address, compose("1@example.net", stranger, alice.Address, 100)); err == nil || !unknown || reason(err) != ReasonTimeout {
		t.Errorf("%v, unknown %v; want an unknown end and a timeout", err, unknown)
	}
	close(over)
	h.addr = newFake(t, func(c net.Conn) { c.Read(make([]byte, 1)) }).addr()
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if unknown, err := h.send(short, alice.Address, nil); err == nil || unknown || reason(err) != ReasonTimeout {
		t.Errorf("%v, unknown %v; want a timeout", err, unknown)
	}
}

// A mailbox whose store is away holds up its own mail and no other.
func TestMailForOneMailboxDoesNotWaitForAnother(t *testing.T) {
	mx := newMX(t, "220 mx1.example.org ESMTP") // it knows no STARTTLS: every attempt fails
	boxes := []Account{account("alice"), account("bob")}
	l, _ := startLoad(t, Config{MailEvery: time.Millisecond, Targets: onePod(Pod{SMTP: mx.addr(), Mailboxes: boxes})})
	for _, box := range boxes {
		l.awaitThat(t, "mail for "+box.Address, func(e Event) bool { return e.To == box.Address && e.LUN == box.LUN && !e.OK })
	}
}

// However long nobody takes mail, no more messages wait than were begun at first, and each is repeated.
func TestWaitingMessagesAreFew(t *testing.T) {
	mx := newMX(t, "220 mx1.example.org ESMTP")
	l, stop := startLoad(t, Config{MailEvery: time.Millisecond, Targets: onePod(Pod{SMTP: mx.addr(), Mailboxes: []Account{account("alice")}})})
	l.awaitThat(t, "many attempts", func(Event) bool { return len(l.all()) > 100 })
	stop()
	if m := Messages(l.all()); len(m) != inTransit || m[0].Attempts < 2 || !m[0].Acknowledged.IsZero() {
		t.Errorf("%d messages, the first %+v", len(m), m[0])
	}
}

func TestUsersSubmitWithBothMechanisms(t *testing.T) {
	server, trusting := certificates(t)
	alice, bob := account("alice"), account("bob")
	o := newOffice(t, server, alice, bob)
	pod := o.pod(alice, bob)
	l, stop := startLoad(t, Config{TLS: trusting, Every: time.Second, SubmitEvery: 50 * time.Millisecond, Targets: onePod(pod)})
	for _, mechanism := range []string{authPlain, authSCRAM} {
		l.awaitThat(t, "message of alice by "+mechanism, func(e Event) bool {
			return e.Kind == KindSubmit && e.OK && e.From == alice.Address && e.To == bob.Address && e.LUN == bob.LUN && e.Auth == mechanism
		})
	}
	stop()
	for _, e := range l.all() {
		if e.Kind == KindSubmit && !e.OK {
			t.Errorf("%+v", e)
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.took[authPlain] == 0 || o.took[authSCRAM] == 0 {
		t.Errorf("logins %v", o.took)
	}
}

func TestSCRAMKnowsAFalseServer(t *testing.T) {
	c := (&login{account("alice"), authSCRAM}).client()
	if _, _, err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Next([]byte("r=other,s=c2FsdA==,i=4096")); err == nil {
		t.Error("takes a nonce that does not begin with its own")
	}
}

func TestReasonOfReplies(t *testing.T) {
	for code, want := range map[int]string{421: ReasonBye, 451: ReasonTempFail, 550: ReasonPermFail, 250: ReasonProtocol} {
		if got := reason(fmt.Errorf("MAIL: %w", &smtp.SMTPError{Code: code})); got != want {
			t.Errorf("%d is %s, want %s", code, got, want)
		}
	}
	if got := reason(errors.New("what")); got != ReasonProtocol {
		t.Errorf("reason %s", got)
	}
}
