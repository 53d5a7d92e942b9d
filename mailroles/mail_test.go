package mailroles_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-smtp"

	"anycastle/mailroles"
)

const greeting = "From: x@example.org\r\nMessage-ID: <1@example.org>\r\nSubject: hello\r\n\r\nHello.\r\n"

// trace is what the front end and the store put on top of a message.
var trace = regexp.MustCompile(`^Return-Path: <[^>]*>\r\nReceived: from [^ ]+ \(\[127\.0\.0\.1\]\)\r\n\tby mx\.example\.org with ESMTPS? id [^;]+;\r\n\t[^\r]+\r\n`)

func checkMail(t *testing.T, want string, got []string) {
	t.Helper()
	if len(got) != 1 {
		t.Fatalf("mailbox holds %d messages, want 1", len(got))
	}
	head := trace.FindString(got[0])
	if head == "" {
		t.Fatalf("no trace on top of %.200q", got[0])
	}
	if body := got[0][len(head):]; body != want {
		t.Errorf("message came back as %.200q (%d bytes), want %.200q (%d bytes)", body, len(body), want, len(want))
	}
}

func TestMailComesBackByteForByte(t *testing.T) {
	s := newSite(t)
	s.runAll()
	for _, tc := range []struct{ name, msg string }{
		{"plain", greeting},
		{"dots", "Subject: dots\r\n\r\n.\r\n..\r\n.hidden\r\nend.\r\n.\r\n"},
		{"8-bit", "Subject: gr\xfc\xdfe\r\n\r\n\xff\xfe\x80 gr\xc3\xbc\xc3\x9fe\r\n"},
		{"long line", "Subject: long\r\n\r\n" + strings.Repeat("x", 60_000) + "\r\n"},
		{"no header", "\r\nonly text\r\n"},
		{"not a header", "this is no header field\r\n\r\ntext\r\n"},
		{"spaces at ends", "Subject:  two  \r\n\tfolded \r\n\r\n \t \r\n\r\n\r\n"},
		{"5 MB", "Subject: big\r\n\r\n" + strings.Repeat(strings.Repeat("0123456789", 7)+"\r\n", 72_000)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := s.send("x@example.org", []string{alice}, tc.msg); err != nil {
				t.Fatal(err)
			}
			checkMail(t, tc.msg, s.mailIn(alice))
			s.empty(alice)
		})
	}
}

// empty removes all mail from INBOX.
func (s *site) empty(user string) {
	s.t.Helper()
	c := s.login(user, nil)
	defer c.Close()
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		s.t.Fatal(err)
	}
	all := imap.SeqSet{{Start: 1, Stop: 0}}
	if err := c.Store(all, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: []imap.Flag{imap.FlagDeleted}}, nil).Close(); err != nil {
		s.t.Fatal(err)
	}
	if err := c.Expunge().Close(); err != nil {
		s.t.Fatal(err)
	}
}

func TestRecipients(t *testing.T) {
	s := newSite(t)
	s.runAll()
	err := s.send("x@example.org", []string{"nobody@example.org"}, greeting)
	var reply *smtp.SMTPError
	if !errors.As(err, &reply) || reply.Code != 550 || reply.EnhancedCode != (smtp.EnhancedCode{5, 1, 1}) {
		t.Errorf("unknown mailbox: %v, want 550 5.1.1", err)
	}
	// twice the same mailbox, in another case, and one on another LUN; and no sender, as bounces have
	if err := s.send("", []string{alice, "ALICE@Example.ORG", bob}, greeting); err != nil {
		t.Fatal(err)
	}
	checkMail(t, greeting, s.mailIn(alice))
	checkMail(t, greeting, s.mailIn(bob))
}

func TestOneStoreDownKeepsTheMailWithTheSender(t *testing.T) {
	s := newSite(t)
	s.runStore("lun-east")
	role, _ := s.runSMTP()
	s.runIMAP()
	s.mu.Lock()
	for _, ln := range s.ready { // nobody is to wait in the west's backlog
		ln.Close()
	}
	clear(s.ready)
	s.mu.Unlock()

	err := s.send("x@example.org", []string{alice, bob}, greeting)
	var reply *smtp.SMTPError
	if !errors.As(err, &reply) || reply.Code != 451 {
		t.Fatalf("one store down: %v, want 451", err)
	}
	status := role.Status().(mailroles.SMTPStatus)
	if status.Deliveries != 0 || status.Rejects["temporary"] != 1 {
		t.Errorf("status = %+v, want one temporary reject and no delivery", status)
	}
	waitFor(t, "the probes to find lun-west down", func() bool {
		luns := role.Status().(mailroles.SMTPStatus).LUNs
		return luns[0].Err == "" && luns[1].Err != ""
	})
	s.runStore("lun-west")
	if err := s.send("x@example.org", []string{alice, bob}, greeting); err != nil {
		t.Fatal(err)
	}
	checkMail(t, greeting, s.mailIn(alice))
	checkMail(t, greeting, s.mailIn(bob))
}

// dialog is an SMTP session by hand.
type dialog struct {
	*textproto.Conn
	t     *testing.T
	raw   net.Conn
	offer string // reply to EHLO
}

func (s *site) dialog(secure bool) *dialog {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.addrs["smtp"].String())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	d := &dialog{Conn: textproto.NewConn(conn), t: s.t, raw: conn}
	d.expect(220)
	d.offer = d.ask(250, "EHLO client.example.org")
	if secure {
		d.say(220, "STARTTLS")
		d.raw = tls.Client(conn, clientTLS)
		d.Conn = textproto.NewConn(d.raw)
		d.offer = d.ask(250, "EHLO client.example.org")
	}
	return d
}

func (d *dialog) expect(code int) string {
	d.t.Helper()
	_, msg, err := d.ReadResponse(code)
	if err != nil {
		d.t.Fatalf("want reply %d: %v", code, err)
	}
	return msg
}

func (d *dialog) say(code int, line string) {
	d.t.Helper()
	d.ask(code, line)
}

// ask is say that gives the text of the reply.
func (d *dialog) ask(code int, line string) string {
	d.t.Helper()
	if err := d.PrintfLine("%s", line); err != nil {
		d.t.Fatal(err)
	}
	return d.expect(code)
}

func (d *dialog) envelope() {
	d.t.Helper()
	d.say(250, "MAIL FROM:<x@example.org>")
	d.say(250, "RCPT TO:<"+alice+">")
}

func TestCutOffMessageIsNotDelivered(t *testing.T) {
	s := newSite(t)
	s.runStore("lun-east")
	s.runStore("lun-west")
	role, _ := s.runSMTP()
	s.runIMAP()
	hangUp := func(d *dialog) { d.raw.Close() }
	halfClose := func(d *dialog) { d.raw.(interface{ CloseWrite() error }).CloseWrite() }
	for _, tc := range []struct {
		name   string
		secure bool
		text   string
		leave  func(*dialog)
	}{
		{"BDAT LAST", false, "BDAT 1000 LAST\r\n" + greeting, hangUp},
		{"BDAT LAST, half closed", false, "BDAT 1000 LAST\r\n" + greeting, halfClose},
		{"BDAT LAST, TLS ended in order", true, "BDAT 1000 LAST\r\n" + greeting, hangUp},
		{"BDAT LAST, TLS half closed", true, "BDAT 1000 LAST\r\n" + greeting, halfClose},
		{"BDAT without LAST", false, fmt.Sprintf("BDAT %d\r\n%s", len(greeting), greeting), hangUp},
		{"DATA", false, "DATA\r\n" + greeting, hangUp},
		{"DATA, TLS", true, "DATA\r\n" + greeting, hangUp},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := s.dialog(tc.secure)
			d.envelope()
			text, data := strings.CutPrefix(tc.text, "DATA\r\n")
			if data {
				d.say(354, "DATA")
			}
			if _, err := io.WriteString(d.raw, text); err != nil {
				t.Fatal(err)
			}
			before := role.Status().(mailroles.SMTPStatus)
			tc.leave(d)
			waitFor(t, "the refusal and the session's end", func() bool {
				now := role.Status().(mailroles.SMTPStatus)
				return now.Sessions == 0 && now.Rejects["temporary"] > before.Rejects["temporary"]
			})
			if got := s.mailIn(alice); len(got) != 0 {
				t.Errorf("mailbox holds %q, want nothing", got)
			}
		})
	}
}

func TestWholeBDATIsDelivered(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls=%v", secure), func(t *testing.T) {
			s := newSite(t)
			s.runAll()
			d := s.dialog(secure)
			d.envelope()
			first, rest, _ := strings.Cut(greeting, "\r\n") // say adds the CRLF, which is part of the chunk
			d.say(250, fmt.Sprintf("BDAT %d\r\n%s", len(first)+2, first))
			d.say(250, fmt.Sprintf("BDAT %d LAST\r\n%s", len(rest), strings.TrimSuffix(rest, "\r\n")))
			checkMail(t, greeting, s.mailIn(alice))
			d.say(221, "QUIT")
		})
	}
}

func TestBareLineEndsAreRefused(t *testing.T) {
	s := newSite(t)
	s.runAll()
	for _, secure := range []bool{false, true} {
		// the library drops the first two bytes of ".\rb"
		for _, body := range []string{"a\nb", "a\rb", "a\n.\nb", "a\r\n.\rb", ".\rb", ".\r\r\nb", "a\r\n.\r.\r\nb"} {
			t.Run(fmt.Sprintf("tls=%v %q", secure, body), func(t *testing.T) {
				d := s.dialog(secure)
				d.t = t
				d.envelope()
				d.say(354, "DATA")
				d.say(554, body+"\r\n.")
				d.say(250, "NOOP") // the body was read to its end
				d.envelope()
				d.say(354, "DATA")
				d.say(554, "Subject: x\r\n\r\n"+body+"\r\n.")
			})
		}
	}
	if got := s.mailIn(alice); len(got) != 0 {
		t.Errorf("mailbox holds %q, want nothing", got)
	}
}

func TestBodyBeforeItsTimeIsRefused(t *testing.T) {
	s := newSite(t)
	s.runAll()
	envelope := "MAIL FROM:<x@example.org>\r\nRCPT TO:<" + alice + ">\r\nDATA\r\n"
	for _, early := range []string{".\rb\r\n.", "Subject: x\r\n\r\n.", "\r\nDATA\r\n.", "DATA\r\n."} {
		t.Run(fmt.Sprintf("%q", early), func(t *testing.T) {
			d := s.dialog(false)
			d.t = t
			if err := d.PrintfLine("%s", envelope+early); err != nil {
				t.Fatal(err)
			}
			for _, code := range []int{250, 250, 354, 503} {
				d.expect(code)
			}
			// commands sent ahead are in order, and so is what looks like a reply
			d.say(501, "250 ok")
			if _, err := io.WriteString(d.raw, envelope); err != nil {
				t.Fatal(err)
			}
			for _, code := range []int{250, 250, 354} {
				d.expect(code)
			}
			msg := fmt.Sprintf("Subject: %q\r\n\r\n", early)
			d.say(250, msg+".")
			checkMail(t, msg, s.mailIn(alice))
			s.empty(alice)
		})
	}
}

func TestEndingSessionsGet421(t *testing.T) {
	s := newSite(t)
	_, stopStore := s.runStore("lun-east")
	defer stopStore()
	_, stop := s.runSMTP()
	idle, busy := s.dialog(false), s.dialog(true)
	busy.envelope()
	busy.say(354, "DATA")
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	idle.expect(421)
	busy.say(250, greeting+".") // had begun, and may end
	busy.expect(421)
	<-stopped
}

func TestRestartKeepsUIDsAndFlags(t *testing.T) {
	s := newSite(t)
	_, stop := s.runStore("lun-east")
	s.runSMTP()
	s.runIMAP()
	for i := range 3 {
		if err := s.send("x@example.org", []string{alice}, fmt.Sprintf("Subject: %d\r\n\r\n", i)); err != nil {
			t.Fatal(err)
		}
	}
	look := func() (*imapclient.Client, *imap.SelectData, string) {
		c := s.login(alice, nil)
		sel, err := c.Select("INBOX", nil).Wait()
		if err != nil {
			t.Fatal(err)
		}
		msgs, err := c.Fetch(imap.SeqSet{{Start: 1, Stop: 0}}, &imap.FetchOptions{Flags: true, UID: true}).Collect()
		if err != nil {
			t.Fatal(err)
		}
		text := ""
		for _, m := range msgs {
			text += fmt.Sprintf("%d %v;", m.UID, m.Flags)
		}
		return c, sel, text
	}
	c, first, _ := look()
	// flag the second, expunge the last: its UID must not come back
	if err := c.Store(imap.SeqSetNum(2), &imap.StoreFlags{Op: imap.StoreFlagsSet, Flags: []imap.Flag{imap.FlagFlagged, imap.FlagSeen}}, nil).Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Store(imap.SeqSetNum(3), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}, nil).Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Expunge().Close(); err != nil {
		t.Fatal(err)
	}
	stop()
	s.runStore("lun-east")
	if err := s.send("x@example.org", []string{alice}, "Subject: new\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	_, sel, text := look()
	if sel.UIDValidity != first.UIDValidity || text != `1 [];2 [\Flagged \Seen];4 [\Recent];` {
		t.Errorf("after restart: UIDVALIDITY %d, %s; before it %d", sel.UIDValidity, text, first.UIDValidity)
	}
}
