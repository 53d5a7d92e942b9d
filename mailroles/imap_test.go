package mailroles_test

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"

	"anycastle/mailroles"
)

// talk is an IMAP session by hand.
type talk struct {
	t    *testing.T
	conn net.Conn
	br   *bufio.Reader
}

// talk connects to a listener of the site; the one for imaps has TLS.
func (s *site) talk(listener string) *talk {
	s.t.Helper()
	var conn net.Conn
	var err error
	if listener == "imaps" {
		conn, err = tls.Dial("tcp", s.addrs[listener].String(), clientTLS)
	} else {
		conn, err = net.Dial("tcp", s.addrs[listener].String())
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	k := &talk{t: s.t, conn: conn, br: bufio.NewReader(conn)}
	k.expect("* OK")
	return k
}

func (k *talk) write(text string) {
	k.t.Helper()
	if _, err := k.conn.Write([]byte(text)); err != nil {
		k.t.Fatal(err)
	}
}

// expect reads lines up to one that starts with prefix, and gives that one.
func (k *talk) expect(prefix string) string {
	k.t.Helper()
	var seen []string
	for {
		line, err := k.br.ReadString('\n')
		if strings.HasPrefix(line, prefix) {
			return strings.TrimSpace(line)
		}
		seen = append(seen, line)
		if err != nil {
			k.t.Fatalf("want %q: %v after %q", prefix, err, seen)
		}
	}
}

// ended reads to the end of the session.
func (k *talk) ended() {
	k.t.Helper()
	for {
		if _, err := k.br.ReadString('\n'); err != nil {
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				k.t.Fatal("session goes on")
			}
			return
		}
	}
}

func quoted(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

func plain(user, pass string) string {
	return base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + pass))
}

func TestLoginForms(t *testing.T) {
	s := newSite(t)
	s.runAll()
	for _, tc := range []struct{ name, text string }{
		{"quoted", fmt.Sprintf("a LOGIN %s %s\r\n", alice, quoted(password))},
		{"other case", fmt.Sprintf("a login ALICE@EXAMPLE.ORG %s\r\n", quoted(password))},
		{"literals", fmt.Sprintf("a LOGIN {%d+}\r\n%s {%d}\r\n%s\r\n", len(alice), alice, len(password), password)},
		{"initial response", "a AUTHENTICATE PLAIN " + plain(alice, password) + "\r\n"},
		{"response", "a AUTHENTICATE PLAIN\r\n" + plain(alice, password) + "\r\n"},
		{"after ID", "i ID (\"name\" \"x (y)\" \"os\" NIL)\r\na LOGIN " + alice + " " + quoted(password) + "\r\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			k := s.talk("imaps")
			// all at once: what stands behind the login is for the store
			k.write(tc.text + "b SELECT INBOX\r\nc LOGOUT\r\n")
			if line := k.expect("a "); !strings.HasPrefix(line, "a OK [CAPABILITY IMAP4rev1 ") {
				t.Fatalf("login: %s", line)
			}
			k.expect("b OK [READ-WRITE]")
			k.expect("c OK")
			k.ended()
		})
	}
}

func TestBeforeLogin(t *testing.T) {
	s := newSite(t)
	_, stop := s.runStore("lun-east")
	role, _ := s.runIMAP()

	k := s.talk("imap")
	k.write("a CAPABILITY\r\n")
	if line := k.expect("* CAPABILITY"); !strings.Contains(line, "LOGINDISABLED") || strings.Contains(line, "AUTH=PLAIN") {
		t.Errorf("capabilities without TLS: %s", line)
	}
	k.write("b LOGIN " + alice + " " + quoted(password) + "\r\nc AUTHENTICATE PLAIN " + plain(alice, password) + "\r\n")
	k.expect("b NO [PRIVACYREQUIRED]")
	k.expect("c NO [PRIVACYREQUIRED]")
	k.write("d STARTTLS\r\ne NOOP\r\n")
	k.expect("* BYE") // e was put there by somebody who cannot read TLS
	k.ended()

	k = s.talk("imaps")
	for i, login := range []string{alice + " wrong", "nobody@example.org " + quoted(password), alice + " \"\""} {
		k.write(fmt.Sprintf("%d LOGIN %s\r\n", i, login))
		k.expect(fmt.Sprintf("%d NO [AUTHENTICATIONFAILED]", i))
	}
	k.expect("* BYE")
	k.ended()

	for name, text := range map[string]string{
		"line":                 "a LOGIN " + strings.Repeat("x", 10_000),
		"literal without wait": "a LOGIN {5000+}\r\n",
		"literal":              "a LOGIN {5000}\r\n",
		"mistakes":             strings.Repeat("a SELECT INBOX\r\n", 10),
	} {
		t.Run(name, func(t *testing.T) {
			k := s.talk("imaps")
			k.write(text)
			k.expect("* BYE")
			k.ended()
		})
	}

	stop()
	k = s.talk("imaps")
	k.write("a LOGIN " + alice + " " + quoted(password) + "\r\n")
	k.expect("a NO [UNAVAILABLE]")
	s.runStore("lun-east")
	k.write("b LOGIN " + alice + " " + quoted(password) + "\r\n")
	k.expect("b OK")
	status := role.Status().(mailroles.IMAPStatus)
	if status.Logins != 1 || status.Rejects["password"] != 3 || status.Rejects["unavailable"] != 1 || status.Rejects["no-tls"] != 2 {
		t.Errorf("status = %+v", status)
	}
}

// loggedIn is a session in which alice has logged in.
func (s *site) loggedIn() *talk {
	s.t.Helper()
	k := s.talk("imaps")
	k.write("login LOGIN " + alice + " " + quoted(password) + "\r\n")
	k.expect("login OK")
	return k
}

func TestAppendGuards(t *testing.T) {
	s := newSite(t)
	store, _ := s.runStore("lun-east")
	s.runIMAP()
	for _, tc := range []struct{ name, text, answer string }{
		{"cut off", "a APPEND INBOX {500}\r\n" + greeting, ""},
		{"cut off without wait", "a APPEND INBOX {500+}\r\n" + greeting, ""},
		{"cut off within what looks like commands", "a APPEND INBOX {5000+}\r\nb CREATE smuggled\r\n", ""},
		{"oversize without wait", "a APPEND INBOX {52428801+}\r\nb CREATE smuggled\r\n", "* BYE"},
		{"huge without wait", "a APPEND INBOX {99999999999999999999+}\r\nb CREATE smuggled\r\n", "* BYE"},
		{"oversize without wait elsewhere", "a LIST \"\" {5000000+}\r\nb CREATE smuggled\r\n", "* BYE"},
		{"junk behind", fmt.Sprintf("a APPEND INBOX {%d+}\r\n%s junk\r\nb LOGOUT\r\n", len(greeting), greeting), "a BAD"},
		{"second message", fmt.Sprintf("a APPEND INBOX {%d+}\r\n%s {%d+}\r\n%s\r\nb LOGOUT\r\n", len(greeting), greeting, len(greeting), greeting), "a BAD"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			k := s.loggedIn()
			k.write(tc.text)
			if tc.answer != "" {
				k.expect(tc.answer)
				k.ended()
			}
			k.conn.Close()
			waitFor(t, "the session's end", func() bool { return store.Status().(mailroles.StoreStatus).IMAP.Sessions == 0 })
			if got := s.mailIn(alice); len(got) != 0 {
				t.Errorf("mailbox holds %q, want nothing", got)
			}
			k = s.loggedIn()
			k.write("a LIST \"\" \"*\"\r\nb LOGOUT\r\n")
			k.expect("* LIST (\\HasNoChildren) \".\" INBOX")
			if line := k.expect(""); line != "a OK LIST completed" {
				t.Errorf("another folder: %s", line)
			}
			k.expect("b OK")
			waitFor(t, "the session's end", func() bool { return store.Status().(mailroles.StoreStatus).IMAP.Sessions == 0 })
		})
	}
}

func TestAppendIsStored(t *testing.T) {
	s := newSite(t)
	s.runAll()
	k := s.loggedIn()
	// a body whose lines look like announcements, and a refused literal before it
	msg := "Subject: {99999+}\r\n\r\nb {5000+}\r\n{1}\r\n"
	k.write("a APPEND nowhere {10}\r\n0123456789\r\nb APPEND INBOX (\\Seen custom) \"01-Feb-2020 03:04:05 +0000\"")
	k.expect("a NO [TRYCREATE]")
	k.write(fmt.Sprintf(" {%d}\r\n", len(msg)))
	k.expect("+")
	k.write(msg + "\r\n")
	k.expect("b OK [APPENDUID ")
	k.write(fmt.Sprintf("c APPEND INBOX UTF8 (~{%d}\r\n", len(greeting)))
	k.expect("+")
	k.write(greeting + ")\r\n")
	k.expect("c OK [APPENDUID ")
	k.write("d SELECT INBOX\r\n")
	k.expect("* 2 EXISTS")
	k.expect("d OK")
	k.write("e FETCH 1 (FLAGS INTERNALDATE)\r\n")
	if line := k.expect("* 1 FETCH"); line != `* 1 FETCH (UID 1 FLAGS (\Seen custom \Recent) INTERNALDATE " 1-Feb-2020 03:04:05 +0000")` {
		t.Errorf("message is %s", line)
	}
	k.expect("e OK")
	if got := s.mailIn(alice); len(got) != 2 || got[0] != msg || got[1] != greeting {
		t.Errorf("mailbox holds %q", got)
	}
}

func TestExamineIsReadOnly(t *testing.T) {
	s := newSite(t)
	s.runAll()
	if err := s.send("x@example.org", []string{alice}, greeting); err != nil {
		t.Fatal(err)
	}
	k := s.loggedIn()
	k.write("a SELECT INBOX\r\nb STORE 1 +FLAGS (\\Deleted)\r\nc EXAMINE INBOX\r\nd STORE 1 +FLAGS (\\Flagged)\r\ne EXPUNGE\r\nf FETCH 1 BODY[]\r\ng MOVE 1 INBOX\r\nh CLOSE\r\n")
	k.expect("b OK")
	k.expect("c OK [READ-ONLY]")
	k.expect("d NO [READ-ONLY]")
	k.expect("e NO [READ-ONLY]")
	k.expect("f OK")
	k.expect("g NO [READ-ONLY]")
	k.expect("h OK")
	k.write("i SELECT INBOX\r\nj FETCH 1 FLAGS\r\n")
	k.expect("i OK")
	if line := k.expect("* 1 FETCH"); !strings.Contains(line, `FLAGS (\Deleted)`) {
		t.Errorf("after EXAMINE: %s", line)
	}
}

func TestIdleTellsOfNewMail(t *testing.T) {
	s := newSite(t)
	s.runAll()
	exists := make(chan uint32, 16)
	c := s.login(alice, &imapclient.UnilateralDataHandler{Mailbox: func(data *imapclient.UnilateralDataMailbox) {
		if data.NumMessages != nil {
			exists <- *data.NumMessages
		}
	}})
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	idle, err := c.Idle()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.send("x@example.org", []string{alice}, greeting); err != nil {
		t.Fatal(err)
	}
	select {
	case n := <-exists:
		if n != 1 {
			t.Errorf("EXISTS %d, want 1", n)
		}
	case <-time.After(15 * time.Second):
		t.Error("no news of the message")
	}
	if err := idle.Close(); err != nil {
		t.Fatal(err)
	}
	if err := idle.Wait(); err != nil {
		t.Fatal(err)
	}
}

func TestTwoSessionsSeeEachOther(t *testing.T) {
	s := newSite(t)
	s.runAll()
	for range 3 {
		if err := s.send("x@example.org", []string{alice}, "Subject: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	one, two := s.loggedIn(), s.loggedIn()
	one.write("a SELECT INBOX\r\n")
	one.expect("a OK")
	two.write("a SELECT INBOX\r\nb STORE 1,3 +FLAGS.SILENT (\\Deleted)\r\nc EXPUNGE\r\n")
	two.expect("* 1 EXPUNGE")
	two.expect("* 2 EXPUNGE")
	two.expect("c OK")
	one.write("b FETCH 1:* UID\r\n") // no EXPUNGE may come while numbers are in use, so all three are still there
	one.expect("* 1 FETCH (UID 1")
	one.expect("* 3 FETCH (UID 3")
	one.expect("b OK")
	one.write("c NOOP\r\n")
	one.expect("* 1 EXPUNGE")
	one.expect("* 2 EXPUNGE")
	one.expect("c OK")
	one.write("d FETCH 1 UID\r\n")
	one.expect("* 1 FETCH (UID 2")
}

func TestNoCredentialIsLogged(t *testing.T) {
	s := newSite(t)
	s.runAll()
	k := s.talk("imaps")
	k.write("a LOGIN " + alice + " sesame1\r\nb AUTHENTICATE PLAIN " + plain(alice, "sesame2") + "\r\nsesame3 sesame4 sesame5\r\n")
	k.expect("sesame3 BAD")
	k.write("d AUTHENTICATE PLAIN sesame6=\r\ne LOGIN " + alice + " {5000+}\r\nsesame7")
	k.ended()
	s.mailIn(alice)
	log := s.log.String()
	for _, secret := range []string{"sesame", password, plain(alice, "sesame2"), plain(alice, password), "argon2id"} {
		if strings.Contains(log, secret) {
			t.Errorf("log holds %q", secret)
		}
	}
	if !strings.Contains(log, "session ended before login") {
		t.Error("the log that was looked at is not that of the sessions")
	}
}
