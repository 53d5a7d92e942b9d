package mailtest

import (
	"os"
	"strings"
	"testing"

	"anycastle/internal/proctest"
)

// imapSession logs in and waits, until the server ends the session: CA USER PASSWORD.
const imapSession = `
import imaplib, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
c = imaplib.IMAP4_SSL("mx.example.org", 993, ssl_context=context, timeout=120)
c.login(sys.argv[2], sys.argv[3])
print("has", int(c.select("INBOX")[1][0]), flush=True)
line = c.readline()
while line and not line.startswith(b"* BYE"):
    line = c.readline()
print(line.decode(), flush=True)
assert line and not c.readline(), "no BYE, or not the end after it"
`

// smtpSession says EHLO and NOOP, until the server ends the session.
const smtpSession = `
import smtplib, time
c = smtplib.SMTP("mx.example.org", 25, timeout=120)
c.ehlo()
print("in", flush=True)
code = 250
while code == 250:
    time.sleep(0.05)
    code, said = c.noop()
print(code, said.decode(), flush=True)
assert code == 421
`

// session runs a program of Python's until it says that it is in.
func (s *site) session(file, program, in string, args ...string) *proctest.Process {
	s.t.Helper()
	p := s.run(append([]string{"python3", s.write(file, program)}, args...)...)
	proctest.Eventually(s.t, file+" is in", func() bool {
		if p.Ended() {
			s.t.Fatalf("%s has ended:\n%s", file, p.Log())
		}
		return strings.Contains(p.Log().String(), in)
	})
	return p
}

func TestMailboxMoves(t *testing.T) {
	s := newSite(t)
	s.start()
	s.send(bob, "west")
	p := s.session("session.py", imapSession, "has 1\n", s.tls.CA, bob, password)
	stays := s.session("stays.py", imapSession, "has 0\n", s.tls.CA, alice, password)
	file, err := os.ReadFile(s.path("mailboxes.yml"))
	proctest.Check(t, err)
	s.write("mailboxes.new", strings.Replace(string(file), "lun: lun-west", "lun: lun-east", 1))
	proctest.Check(t, os.Rename(s.path("mailboxes.new"), s.path("mailboxes.yml")))
	if err := p.Wait(); err != nil {
		t.Errorf("the session ends without BYE: %v\n%s", err, p.Log())
	}
	// each role follows the file by itself
	proctest.Eventually(t, "IMAP finds the other LUN", func() bool {
		said := s.login(bob, password)
		if said != "OK" && !strings.Contains(said, "UNAVAILABLE") {
			t.Errorf("login while the mailbox moves: %s", said)
		}
		return said == "OK"
	})
	proctest.Eventually(t, "SMTP brings mail to the other LUN", func() bool {
		if said := s.post(stranger, bob, text("east")); said != "250 taken" && !strings.HasPrefix(said, "451 ") {
			t.Errorf("while the mailbox moves: %s", said)
		}
		return len(s.read(bob)) > 0
	})
	for _, got := range s.read(bob) {
		if !strings.Contains(got, "Hello, east.") {
			t.Errorf("on the other LUN bob has %q, want what came after the move", got)
		}
	}
	if _, err := os.Stat(s.path("east/" + bob)); err != nil {
		t.Error(err)
	}
	if stays.Ended() {
		t.Errorf("alice's session has ended too:\n%s", stays.Log())
	}
}

func TestDrain(t *testing.T) {
	s := newSite(t)
	s.start()
	p := s.session("session.py", imapSession, "has 0\n", s.tls.CA, alice, password)
	drain := func(role string) {
		t.Helper()
		said := s.must(binary, "drain", "mail", role, "--wait", "--run-dir", s.path("run-"+role))
		if !strings.Contains(said, "mail "+role+": stopped") {
			t.Errorf("drain mail %s says:\n%s", role, said)
		}
	}
	drain("imap")
	if err := p.Wait(); err != nil {
		t.Errorf("the IMAP session ends without BYE: %v\n%s", err, p.Log())
	}
	if s.dial(listens["imap"]) == nil {
		t.Error("the IMAP front end that was drained lets somebody in")
	}
	s.must(binary, "activate", "mail", "imap", "--run-dir", s.path("run-imap"))
	proctest.Eventually(t, "the IMAP front end serves again", func() bool { return s.dial(listens["imap"]) == nil })

	p = s.session("session.py", smtpSession, "in\n")
	drain("smtp")
	if err := p.Wait(); err != nil {
		t.Errorf("the SMTP session ends without 421: %v\n%s", err, p.Log())
	}
	if s.dial(listens["smtp"]) == nil {
		t.Error("the MX that was drained lets somebody in")
	}
	s.must(binary, "activate", "mail", "smtp", "--run-dir", s.path("run-smtp"))
	proctest.Eventually(t, "the MX serves again", func() bool { return s.dial(listens["smtp"]) == nil })
	s.send(alice, "after")
	if got := s.read(alice); len(got) != 1 {
		t.Errorf("alice has %q, want the one message", got)
	}
}
